"""What the indexer of third-party shards found beside usable samples: what was left out or not understood."""

from collections import Counter
from dataclasses import dataclass, field

from vqdist.foundation.errors import MAX_EXAMPLES, DataError, Problem, limit_problems

_NUMBER = "a whole number from 0"
_ONE_SUBJECT = "a subject of its own"
# Kind -> text after the number 1, and after other numbers.
NOTES = {
    "label": (
        f"label was not understood and is ignored (a label is {_NUMBER})",
        f"labels were not understood and are ignored (a label is {_NUMBER})",
    ),
    "slice": (
        f"slice number was not understood and is ignored (a slice number is {_NUMBER})",
        f"slice numbers were not understood and are ignored (a slice number is {_NUMBER})",
    ),
    "subject": (
        f"subject was not understood; its sample counts as {_ONE_SUBJECT}",
        f"subjects were not understood; each of their samples counts as {_ONE_SUBJECT}",
    ),
    "json": (
        "JSON member is no object and is ignored",
        "JSON members are no objects and are ignored",
    ),
    "two labels": (
        "sample has different labels in .json and .cls; that of .json is used",
        "samples have different labels in .json and .cls; those of .json are used",
    ),
    "other label": (
        "sample has no label, but what may be one; the label must be called label in .json, or be a .cls",
        "samples have no label, but what may be one; the label must be called label in .json, or be a .cls",
    ),
    "two splits": (
        "subject is in several splits, so validation and test are not independent of train",
        "subjects are in several splits, so validation and test are not independent of train",
    ),
    "turned": (
        "JPEG has an EXIF orientation and is used as it is stored, turned or mirrored; `vqdist shard` makes a dataset "
        "of upright pictures from the same tars",
        "JPEGs have an EXIF orientation and are used as they are stored, turned or mirrored; `vqdist shard` makes a "
        "dataset of upright pictures from the same tars",
    ),
    "no extension": (
        "member without an extension was ignored",
        "members without an extension were ignored",
    ),
    "same key": (
        "sample has the key of a sample in an earlier shard; the name of its shard was added to the key",
        "samples have the keys of samples in earlier shards; the names of their shards were added to the keys",
    ),
    "shorter key": (
        "key was too long for a tar and was shortened",
        "keys were too long for a tar and were shortened",
    ),
    "no sample": (
        "shard has no sample that can be used",
        "shards have no samples that can be used",
    ),
    "no split": (
        "shard has no split in its name or folders and counts as train; "
        "name shards or folders validate-*, test-* to get these splits",
        "shards have no split in their names or folders and count as train; "
        "name shards or folders validate-*, test-* to get these splits",
    ),
}


@dataclass
class _Group:
    """Problems with the same remedy: their number, and the first ones."""

    count: int = 0
    first: list[Problem] = field(default_factory=list)

    def describe(self, folder: str) -> str:
        """Return the first problems as text, with paths inside the folder of the shards."""
        found = [f"{problem.where.removeprefix(folder + '/')}: {problem.found}" for problem in self.first]
        return "; ".join(found) + f"; ... ({self.count:,} in all)" * (self.count > len(found))


@dataclass
class Findings:
    """Counts with examples, which are collected while shards are indexed.

    Attributes:
        folder: folder of the shards.
    """

    folder: str
    _unusable: dict[str, _Group] = field(default_factory=dict)  # by what was expected
    _counts: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def num_unusable(self) -> int:
        """Number of samples and shards that cannot be used."""
        return sum(group.count for group in self._unusable.values())

    def leave_out(self, problem: Problem) -> None:
        """Count a sample or a shard that cannot be used."""
        group = self._unusable.setdefault(problem.expected, _Group())
        group.count += 1
        if len(group.first) < MAX_EXAMPLES:
            group.first.append(problem)

    def note(self, kind: str, example: str) -> None:
        """Count something that was not understood.

        Args:
            kind: a key of NOTES.
            example: where it is.
        """
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(example)

    def raise_problems(self) -> None:
        """Raise the error that lists what cannot be used, if there is anything: one problem for each remedy."""
        problems = [
            group.first[0] if group.count == 1 else Problem(self.folder, group.describe(self.folder), expected)
            for expected, group in self._unusable.items()
        ]
        if problems:
            raise DataError(limit_problems(problems, self.folder))

    def describe(self) -> list[str]:
        """Return one line for each kind of finding."""
        groups = list(self._unusable.items())[:MAX_EXAMPLES]
        lines = [
            f"{group.count:,} left out: {group.describe(self.folder)}; expected {expected}"
            for expected, group in groups
        ]
        if len(self._unusable) > len(groups):
            lines.append(f"{self.num_unusable:,} samples and shards left out in all")
        for kind, texts in NOTES.items():
            if count := self._counts[kind]:
                examples = f"{', '.join(self._examples[kind])}{', ...' * (count > MAX_EXAMPLES)}"
                lines.append(f"{count:,} {texts[count > 1]}: {examples}")
        return lines
