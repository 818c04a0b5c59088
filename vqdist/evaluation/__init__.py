"""Metrics of trained models and of their samples, baselines, figures."""
