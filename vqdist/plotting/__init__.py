"""Image grids and matplotlib charts."""
