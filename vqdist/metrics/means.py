"""Means of per-sample values that are exact for any number of ranks."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def find_measured(values: Mapping[str, Any], name: str) -> Any:
    """Return which samples count for a metric, (B,) bool: all, except slices without brain for a `_brain` metric.

    Such a slice has a value over the full frame, but NaN inside the brain. A reconstruction with NaN has NaN in both,
    and counts, so that its fault is not hidden.

    Args:
        values: metric -> (B,) tensor or array.
    """
    column = values[name]
    full = values.get(name.removesuffix("_brain")) if name.endswith("_brain") else column
    is_nan = column != column
    return ~is_nan if full is None else ~is_nan | (full != full)


class Means:
    """Exact means of named per-sample values: one sum and one count per name, in float64 on the CPU.

    The mean does not depend on how the samples are divided among ranks:

        for sums in ranks.gather_objects(means.sums): total.merge(sums)
    """

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add a batch of per-sample values, each of shape (B,), without those that `find_measured` leaves out."""
        columns = {name: value.detach().cpu().double().flatten() for name, value in values.items()}
        for name in columns:
            value = columns[name][find_measured(columns, name)]
            self.merge({name: (value.sum().item(), float(value.numel()))})

    def merge(self, sums: Mapping[str, tuple[float, float]]) -> None:
        """Add the sums and counts of another rank or batch."""
        for name, (total, count) in sums.items():
            old_total, old_count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (old_total + total, old_count + count)

    def compute(self) -> dict[str, float]:
        """Return the mean of each name that has samples."""
        return {name: total / count for name, (total, count) in self.sums.items() if count}
