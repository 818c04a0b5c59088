"""The two stages, one class each."""
