"""Metrics and figures of anomaly maps, beside baselines."""
