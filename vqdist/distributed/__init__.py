"""The process group and requests to stop."""
