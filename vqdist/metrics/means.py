"""Means of per-sample values that are exact for any number of ranks."""

from collections.abc import Mapping

from torch import Tensor


class Means:
    """Exact means of named per-sample values: one sum and one count per name, in float64 on the CPU.

    The mean does not depend on how the samples are divided among ranks:

        for sums in ranks.gather_objects(means.sums): total.merge(sums)
    """

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add a batch of per-sample values, each of shape (B,). A NaN is skipped if the name ends in `_brain`."""
        for name, value in values.items():
            value = value.detach().cpu().double().flatten()
            if name.endswith("_brain"):
                value = value[~value.isnan()]
            self.merge({name: (value.sum().item(), float(value.numel()))})

    def merge(self, sums: Mapping[str, tuple[float, float]]) -> None:
        """Add the sums and counts of another rank or batch."""
        for name, (total, count) in sums.items():
            old_total, old_count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (old_total + total, old_count + count)

    def compute(self) -> dict[str, float]:
        """Return the mean of each name that has samples."""
        return {name: total / count for name, (total, count) in self.sums.items() if count}
