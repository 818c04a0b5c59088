"""Comparison of sampled slices with real ones."""
