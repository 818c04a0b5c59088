"""The parameters of anomaly scoring."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoringMethod:
    """How maps and scores are computed from the codes of a slice and its restorations.

    Lengths are shares of the side of the image.

    Attributes:
        restorations: number of restorations, N.
        restore_percentile: codes that cost more bits than this percentile of the healthy codes are redrawn.
        neighbours: slices with a number that differs by at most this are compared with each other.
        temperature: of the redrawn codes.
        likelihood_weight: weight of a restoration: exp(-likelihood_weight * its bits per code above the least ones).
        blur: standard deviation of the Gaussian window over the residuals.
        reference_blur: the same, over mean and variance of the healthy residuals.
        residual_floor: added to the standard deviation of the healthy residuals, in grey values of [0, 1].
        bits_floor: added to the standard deviation of the healthy bits.
        bits_weight: how much the bits of a place raise the residuals there.
        map_scale: residual, in healthy standard deviations, at which a map reaches 1 - 1 / e.
        top_share: the score of a slice is the mean over this share of its brain, where the map is highest.
        false_positive_rate: share of the healthy slices that are flagged.
    """

    restorations: int = 15
    restore_percentile: float = 90.0
    neighbours: int = 2
    temperature: float = 1.0
    likelihood_weight: float = 10.0
    blur: float = 2 / 256
    reference_blur: float = 6 / 256
    residual_floor: float = 0.02
    bits_floor: float = 1.0
    bits_weight: float = 0.5
    map_scale: float = 5.0
    top_share: float = 0.01
    false_positive_rate: float = 0.05
