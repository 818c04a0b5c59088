"""Trained models applied to data: encoding, sampling, reconstruction."""
