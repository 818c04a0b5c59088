"""Weights & Biases: a view of the run directory, which stays the record."""
