"""The directory of a run: layout, checkpoints, resume checks and environment."""
