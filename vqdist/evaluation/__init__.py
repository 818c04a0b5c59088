"""What is measured of trained models and their samples, beside what, and the figures of it."""
