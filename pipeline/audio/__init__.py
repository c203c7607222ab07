"""Audio: files read and written, resampled, levelled, and mixed; arrays in, arrays out."""
