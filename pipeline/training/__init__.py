"""Training: batches, losses, optimisers, and the loop that can be stopped anywhere."""
