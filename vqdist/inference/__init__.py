"""Passes of a trained model over data: encoding, sampling, a user's own pictures; the same on any number of ranks."""
