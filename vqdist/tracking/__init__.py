"""Weights & Biases, a view of the run directory."""
