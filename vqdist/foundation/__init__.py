"""What every other package builds on: errors, atomic files, JSON, progress, seeds."""
