"""Pairs of samples that show the same person, from which the number of people among the samples follows.

This is the birthday estimate of Arora, Risteski & Zhang 2018: if samples are drawn from N equally frequent people, two
of them show the same person with probability 1 / N. Two slices with similar slice numbers show the same person if they
are as similar as two such slices of one training subject. If every sample is a new person, there is no such pair.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.data.loading.plan import FixedBatchPlan, MicroBatchPlan
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.pass_progress import show_pass
from vqdist.evaluation.samples.copy_search import CopySearch, Spectra, compare_pairs, to_spectra
from vqdist.evaluation.samples.slice_statistics import SliceStatistics
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.split_loader import group_in_batches
from vqdist.inference.work_sharing import map_batches
from vqdist.metrics.confidence_intervals import MIN_SUBJECTS, Interval, share_interval, to_summary, wilson_interval

APART = 2  # largest difference of the slice numbers of a pair; they are not equal: a person has one slice per number
MAX_PAIRS = 4000
MAX_SAMPLES = 500
_CALIBRATION_PAIRS = 1000  # of one subject, and of two
MIN_PAIRS = 20
_PERCENTILE = 5  # of the pairs of one subject; 100 minus it, of those of two
_BATCH = 256

MEASURE = f"share of the pairs, 1 to {APART} slice numbers apart, that are as similar as those of one training subject"

Integers = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PersonLimit:
    """The similarity from which a pair of slices shows one person.

    Attributes:
        limit: middle between the largest similarities of two training subjects and the smallest of one, by percentile.
        found: share of the pairs of one training subject above the limit.
        mistaken: share of the pairs of two training subjects above the limit.
    """

    limit: float
    found: float
    mistaken: float


def compare_same_person_pairs(search: CopySearch, sets: Mapping[str, SliceStatistics], ranks: Ranks) -> dict[str, Any]:
    """Return the share of the pairs that show the same person, of samples and of train, as JSON values.

    1 / share is the effective number of people. The interval is over the samples. "train" is the share that the limit
    gives for all pairs of training slices. All are null without slice numbers, without training subjects that have
    neighbouring slices, and where these subjects cannot be told apart.
    Must be called by all ranks.

    Args:
        search: of the training slices.
        sets: "train" and "samples".
    """
    rng = np.random.default_rng(derive_seed(0, "same-person pairs"))
    report: dict[str, Any] = {"measure": MEASURE}
    limit = find_limit(search, sets["train"], ranks, rng)
    if limit is None:
        return report | {"limit": None, "train": None, "pairs": 0, "samples": to_summary(None)}
    same, samples = share_of_one_subject(sets["train"]), sets["samples"]
    rows = rng.permutation(len(samples))[:MAX_SAMPLES]
    pairs = choose_pairs(samples.slice_numbers[rows], MAX_PAIRS, rng)
    subjects = np.unique(samples.subjects[rows], return_inverse=True)[1][pairs]
    different = subjects[:, 0] != subjects[:, 1]  # not two slices of one volume
    pairs, subjects = pairs[different], subjects[different]
    spectra = to_spectra(samples.thumbnails[rows])
    alike = _compare(spectra, pairs, ranks, label="people among the samples") > limit.limit
    return report | {
        "limit": asdict(limit),
        "train": limit.found * same + limit.mistaken * (1 - same),
        "pairs": len(pairs),
        "samples": to_summary(measure_share(alike, subjects) if len(pairs) >= MIN_PAIRS else None),
    }


def find_limit(
    search: CopySearch, train: SliceStatistics, ranks: Ranks, rng: np.random.Generator
) -> PersonLimit | None:
    """Return the limit of similarity; None for few pairs, or if the similarities of one subject and of two overlap."""
    pairs = choose_calibration_pairs(train, rng)
    if min(map(len, pairs)) < MIN_PAIRS:
        return None
    one, two = (_compare(search.spectra, chosen, ranks, label="people in train") for chosen in pairs)
    low, high = np.percentile(two, 100 - _PERCENTILE), np.percentile(one, _PERCENTILE)
    if low >= high:
        return None
    limit = float(low + high) / 2
    return PersonLimit(limit, *(float((values > limit).mean()) for values in (one, two)))


def choose_calibration_pairs(train: SliceStatistics, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Return pairs of slices of one subject and pairs of slices of two, (P, 2) each."""
    subjects = np.unique(train.subjects, return_inverse=True)[1]
    one = choose_pairs(_join_keys(train), _CALIBRATION_PAIRS, rng)
    two = choose_pairs(train.slice_numbers, 2 * _CALIBRATION_PAIRS, rng)
    return one, two[subjects[two[:, 0]] != subjects[two[:, 1]]][:_CALIBRATION_PAIRS]


def share_of_one_subject(slices: SliceStatistics) -> float:
    """Return the share of the pairs of slices with similar numbers that are of one subject, by their names."""
    of_one, of_all = (int(_span(keys)[2].sum()) for keys in (_join_keys(slices), slices.slice_numbers))
    return of_one / of_all


def choose_pairs(numbers: Integers, most: int, rng: np.random.Generator) -> Integers:
    """Return the pairs of slices whose numbers differ by 1 to APART, (P, 2): all, or `most` of them at random.

    Args:
        numbers: (N,) slice numbers; those below 0 are in no pair.
    """
    order, starts, counts = _span(numbers)
    ends = np.cumsum(counts)
    chosen = np.sort(rng.choice(ends[-1], most, replace=False)) if ends[-1] > most else np.arange(ends[-1])
    lower = np.searchsorted(ends, chosen, side="right")
    upper = starts[lower] + chosen - (ends - counts)[lower]
    return np.stack([order[lower], order[upper]], axis=1)


def _span(numbers: Integers) -> tuple[Integers, Integers, Integers]:
    """Return the order of the numbers and, for each place in it, the first place of its partners and their count."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    starts, stops = np.searchsorted(ordered, ordered + 1), np.searchsorted(ordered, ordered + APART, side="right")
    return order, starts, np.where(ordered < 0, 0, stops - starts)


def _join_keys(slices: SliceStatistics) -> Integers:
    """Return numbers that are within APART for similar slice numbers of one subject only."""
    subjects = np.unique(slices.subjects, return_inverse=True)[1]
    numbers = slices.slice_numbers
    return np.where(numbers < 0, -1, subjects * (int(numbers.max()) + 1 + APART) + numbers)


def _compare(spectra: Spectra, pairs: Integers, ranks: Ranks, *, label: str) -> Values:
    """Return the similarity of each pair of slices. Must be called by all ranks."""
    if not len(pairs):
        return np.zeros(0)
    plan = FixedBatchPlan(group_in_batches([len(pairs)], _BATCH), rank=ranks.rank, world_size=ranks.world_size)
    shown = show_pass(plan, len(pairs), ranks, label=label, unit="pairs", size=lambda request: len(request.samples))

    def compare(request: MicroBatchPlan) -> Values:
        first, second = pairs[request.samples].T
        return compare_pairs(spectra[first], spectra[second]).astype(np.float64)

    return np.concatenate(map_batches(ranks, shown, compare))


def measure_share(alike: npt.NDArray[np.bool_], subjects: Integers) -> Interval:
    """Return the share of the pairs that show one person, and its interval over the samples.

    The jackknife leaves out one sample at a time. Its interval is none without any pair of one person, and too narrow
    with few, so it is at least as wide as that of independent pairs.

    Args:
        alike: (P,) whether a pair shows one person.
        subjects: (P, 2) number of the sample, or of the volume, of each slice.
    """
    names, index = np.unique(subjects, return_inverse=True)
    first, second = index.reshape(subjects.shape).T

    def measure(weights: Values) -> float:
        kept = weights[first] * weights[second]
        return float(kept @ alike / max(kept.sum(), 1))

    if len(names) < MIN_SUBJECTS:
        return Interval(measure(np.ones(len(names))), None, None)
    both = wilson_interval(int(alike.sum()), len(alike)), share_interval(measure, len(names))
    lows, highs = ([end for end in ends if end is not None] for ends in zip(*(one[1:] for one in both), strict=True))
    return Interval(both[0].mean, min(lows), max(highs))
