"""Samples of an evaluated split whose class has no training sample, so that a PixelCNN could not learn it."""

from collections import Counter

from torch import Tensor

from vqdist.data.loading.batch import NO_NUMBER
from vqdist.data.shards.manifest import Manifest
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import list_examples
from vqdist.foundation.progress import print_message


class UntrainedClasses:
    """Counts the samples of classes without a training sample.

    Args:
        manifest: of the dataset; one without conditions says nothing about the classes of train.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._names = manifest.class_names
        self._trained = {label for label, _, _ in manifest.conditions}
        self._counts: Counter[int] = Counter()

    def add(self, labels: Tensor) -> None:
        """Count the labels of a batch, (B,) int64; NO_NUMBER for a sample without a label."""
        if self._trained:
            known = (label for label in labels.tolist() if label != NO_NUMBER)
            self._counts.update(label for label in known if label not in self._trained)

    def report(self, split: str, ranks: Ranks) -> None:
        """Print a warning from rank 0 if any were found. Must be called by all ranks."""
        counts = sum(ranks.gather_objects(self._counts), Counter[int]())
        if counts:
            listed = list_examples([self._describe(label) for label in sorted(counts)])
            print_message(
                f"WARNING: {counts.total():,} samples of {split} are of classes without a training sample ({listed});"
                " the model could not learn these, and the metrics include them"
            )

    def _describe(self, label: int) -> str:
        return f"{label} {self._names[label]}" if label < len(self._names) else str(label)
