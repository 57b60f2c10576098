"""Data and training: demonstrations in, a checkpoint out."""
