"""The parameters of anomaly scoring."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoringMethod:
    """How maps and scores are computed from the codes of a slice and its restorations.

    Lengths are shares of the side of the image.

    Attributes:
        restorations: number of restorations, N.
        restore_percentile: codes that cost more bits than this percentile of the healthy codes are redrawn.
        draws: maps drawn from the prior for each slice number, for the expected slice.
        neighbours: healthy slices with a number that differs by at most this are compared with a slice.
        temperature: of the redrawn codes.
        likelihood_weight: weight of a restoration: exp(-likelihood_weight * its bits per code above the least ones).
        blur: standard deviation of the Gaussian window over residuals and deviations.
        reference_blur: the same, over mean and variance of the healthy slices.
        residual_floor: added to the standard deviation of the healthy residuals, in grey values of [0, 1].
        deviation_floor: added to the standard deviation of the healthy deviations.
        bits_floor: added to the standard deviation of the healthy bits.
        deviation_weight: weight of the deviation from the expected slice beside the residual.
        bits_weight: how much the bits of a place raise both there.
        map_scale: excess, in healthy standard deviations, at which a map reaches 1 - 1 / e.
        top_share: the score of a slice is the mean over this share of its brain, where the map is highest.
        false_positive_rate: share of the healthy slices that are flagged.
    """

    restorations: int = 15
    restore_percentile: float = 80.0
    draws: int = 32
    neighbours: int = 2
    temperature: float = 1.0
    likelihood_weight: float = 2.0
    blur: float = 4 / 256
    reference_blur: float = 6 / 256
    residual_floor: float = 0.02
    deviation_floor: float = 0.3
    bits_floor: float = 1.0
    deviation_weight: float = 1.0
    bits_weight: float = 0.25
    map_scale: float = 5.0
    top_share: float = 0.01
    false_positive_rate: float = 0.05
