"""Benchmarks of `vqdist bench`: one module per part, named like the part."""
