"""Metrics of images and codes, exact means over ranks, and confidence intervals."""
