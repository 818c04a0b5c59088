"""Check that all pictures of third-party shards have one size and one name."""

from collections import Counter
from dataclasses import dataclass, field

from vqdist.data.shards.findings import Findings
from vqdist.data.shards.shard_indexer import FoundSample
from vqdist.foundation.errors import DataError, Problem, list_examples

_RESIZE = "pictures of one size; `vqdist shard` resizes them, with these tars as SOURCE"
_CHOOSE = (
    "one name for the pictures of all samples; data.image_key chooses one. "
    "A key ends at the first dot of a file name: if these are keys with dots, rename the files"
)


@dataclass
class UniformPictures:
    """Checks the pictures of one shard after the other.

    Attributes:
        shapes: size of the pictures -> the first sample with it.
        names: name of the pictures, such as "" for KEY.png and "seg" for KEY.seg.png -> the first sample with it.
    """

    shapes: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def check(self, samples: list[FoundSample], where: str) -> None:
        """Check the samples of a shard.

        Raises:
            DataError: they differ from each other or from those of earlier shards, in size or name.
        """
        for sample in samples:
            self.shapes.setdefault(sample.shape, sample.where)
            self.names.setdefault(sample.name, sample.where)
        problems = []
        if len(self.shapes) > 1:
            found = [f"{shape} in {first}" for shape, first in self.shapes.items()]
            problems.append(Problem(where, list_examples(found, separator="; "), _RESIZE))
        if len(self.names) > 1:
            found = [f"KEY.{name + '.' * bool(name)}EXTENSION in {first}" for name, first in self.names.items()]
            problems.append(Problem(where, list_examples(found, separator="; "), _CHOOSE))
        if problems:
            raise DataError(problems)

    def select(self, samples: list[FoundSample], findings: Findings) -> list[FoundSample]:
        """Return the samples whose pictures have the size and the name that is most frequent in the first shard."""
        if not samples:
            return samples
        if not self.shapes:
            (shape, name), _ = Counter((sample.shape, sample.name) for sample in samples).most_common(1)[0]
            self.shapes[shape] = self.names[name] = samples[0].where
        selected = []
        for sample in samples:
            if sample.shape in self.shapes and sample.name in self.names:
                selected.append(sample)
            elif sample.shape in self.shapes:
                findings.leave_out(Problem(sample.where, f"a picture {sample.name!r}", f"{self._first(self.names)!r}"))
            else:
                expected = f"{self._first(self.shapes)}, the most frequent size in the first shard"
                findings.leave_out(Problem(sample.where, sample.shape, expected))
        return selected

    @staticmethod
    def _first(values: dict[str, str]) -> str:
        return next(iter(values))
