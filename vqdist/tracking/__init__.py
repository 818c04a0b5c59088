"""Everything that talks to Weights & Biases."""
