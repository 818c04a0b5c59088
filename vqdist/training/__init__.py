"""The training loop that both tasks share."""
