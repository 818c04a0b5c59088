"""The parameters of anomaly scoring."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoringMethod:
    """How maps and scores are computed from the codes of a slice and its restorations.

    Lengths are shares of the side of the image.

    Attributes:
        restorations: number of restorations, N.
        restore_percentile: codes that cost more bits than this percentile of the healthy codes are redrawn.
        shifts: copies of a slice along each side, each shifted by another part of a place of the code map.
        draws: maps drawn from the prior for each slice number, as reference slices if there are no training slices.
        reference_reach: training slices with a number that differs by at most this are reference slices.
        neighbours: healthy slices with a number that differs by at most this are compared with a slice.
        temperature: of the redrawn codes.
        likelihood_weight: weight of a restoration: exp(-likelihood_weight * its bits per code above the least ones).
        blur: standard deviation of the Gaussian window over residuals.
        deviation_sigma: the same, over slices before their deviation from the mean is computed.
        patch_sigma: the same, over the squared differences of patches, which sets the size of a patch.
        patch_reach: largest shift of a patch of a reference slice, up, down, left and right.
        patch_quantile: the distance is this quantile over the reference slices.
        mirror_reach: the same as patch_reach, of a patch of the mirrored slice.
        range_reach: distance within which the grey values of reference slices count as those of a pixel.
        range_quantile: share of the reference slices whose highest or lowest grey values do not count.
        map_blur: standard deviation of the Gaussian window over the map.
        reference_blur: the same, over mean and variance of the healthy slices.
        residual_floor: added to the standard deviation of the healthy residuals, in grey values of [0, 1].
        deviation_floor: added to the standard deviation of the healthy deviations.
        distance_floor: added to the standard deviation of the healthy distances, in grey values of [0, 1].
        outside_floor: the same, of the healthy excess over the range of grey values.
        asymmetry_floor: the same, of the healthy distances to the mirrored slice.
        bits_floor: added to the standard deviation of the healthy bits.
        residual_weight: weight of the residual beside the distance from the patches of the reference slices.
        deviation_weight: the same, of the deviation from the mean of the reference slices.
        outside_weight: the same, of the excess over the range of grey values of the reference slices.
        bits_weight: how much the bits of a place raise both there.
        asymmetry_weight: how much an unusual distance to the mirrored slice raises the other signals there.
        least_asymmetry, most_asymmetry: what the other signals are multiplied with where the mirrored slice is most
            similar, and least similar.
        asymmetry_blur: standard deviation of the Gaussian window over what they are multiplied with.
        relative_quantile: a map shows the excess in proportion to this quantile over the brain of the slice, which is
            below the share of the brain that lesions leave free.
        relative_floor: added to that quantile, in healthy standard deviations.
        map_scale: proportional excess at which a map reaches 1 - 1 / e.
        top_share: the score of a slice is the mean over this share of its brain, where the map is highest.
        false_positive_rate: slices with a p-value of at most this are flagged.
    """

    restorations: int = 15
    restore_percentile: float = 80.0
    shifts: int = 2
    draws: int = 32
    reference_reach: int = 1
    neighbours: int = 2
    temperature: float = 1.0
    likelihood_weight: float = 2.0
    blur: float = 4 / 256
    deviation_sigma: float = 3 / 256
    patch_sigma: float = 2 / 256
    patch_reach: float = 4 / 256
    patch_quantile: float = 0.1
    mirror_reach: float = 8 / 256
    range_reach: float = 6 / 256
    range_quantile: float = 0.05
    map_blur: float = 2 / 256
    reference_blur: float = 6 / 256
    residual_floor: float = 0.02
    deviation_floor: float = 0.3
    distance_floor: float = 0.03
    outside_floor: float = 0.01
    asymmetry_floor: float = 0.03
    bits_floor: float = 1.0
    residual_weight: float = 0.5
    deviation_weight: float = 0.25
    outside_weight: float = 1.0
    bits_weight: float = 0.25
    asymmetry_weight: float = 1.0
    least_asymmetry: float = 0.5
    most_asymmetry: float = 3.0
    asymmetry_blur: float = 6 / 256
    relative_quantile: float = 0.9
    relative_floor: float = 0.25
    map_scale: float = 4.0
    top_share: float = 0.01
    false_positive_rate: float = 0.05
