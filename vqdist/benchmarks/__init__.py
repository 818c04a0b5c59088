"""The benchmarks of `vqdist bench`, one module per part."""
