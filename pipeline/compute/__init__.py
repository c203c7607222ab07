"""What the work runs on: processes, devices and threads, progress bars, and journals of what is done."""
