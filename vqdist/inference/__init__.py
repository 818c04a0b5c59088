"""Apply trained models: encoding, sampling and reconstruction."""
