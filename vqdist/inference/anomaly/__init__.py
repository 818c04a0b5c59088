"""Anomaly maps and scores: how unlikely a slice is under a prior over healthy slices, and where."""
