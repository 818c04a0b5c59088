"""Comparison of samples with real slices: features, diversity, copies of training slices."""
