"""The configuration schema, loading it from defaults, a file and flags, and generating --help from it."""
