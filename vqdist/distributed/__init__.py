"""The process group, the launcher's environment and stop requests."""
