"""The maps of a slice that an anomaly map is computed from."""

from typing import NamedTuple

from torch import Tensor


class Signals(NamedTuple):
    """What is higher where a slice is unusual; each (S, S), at the size of the image.

    Attributes:
        distance, deviation, outside: from reference slices; see `compare_with_references`.
        residual: smoothed difference between the slice and its restorations, in grey values of [0, 1].
        bits: of the code of a place, averaged over shifted copies of the slice.
    """

    distance: Tensor
    deviation: Tensor
    outside: Tensor
    residual: Tensor
    bits: Tensor
