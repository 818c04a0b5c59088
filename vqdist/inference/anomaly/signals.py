"""The maps of a slice that an anomaly map is computed from."""

from typing import NamedTuple

from torch import Tensor

from vqdist.inference.anomaly.reference_comparison import Comparison


class Signals(NamedTuple):
    """What is higher where a slice is unusual; each (S, S), at the size of the image.

    Attributes:
        distance, deviation, outside, asymmetry: from reference slices; see `compare_with_references`.
        residual: smoothed difference between the slice and its restorations, in grey values of [0, 1].
        bits: of the code of a place, averaged over shifted copies of the slice.
    """

    distance: Tensor
    deviation: Tensor
    outside: Tensor
    asymmetry: Tensor
    residual: Tensor
    bits: Tensor

    @property
    def comparison(self) -> Comparison:
        """The signals that do not depend on the models."""
        return Comparison(self.distance, self.deviation, self.outside, self.asymmetry)
