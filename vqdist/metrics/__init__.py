"""Image and code metrics, exact means over ranks, and intervals over subjects."""
