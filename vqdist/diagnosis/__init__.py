"""The checks of `vqdist doctor`."""
