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
class Findings:
    """Counts with examples, which are collected while shards are indexed.

    Attributes:
        unusable: the first problems of samples and shards that cannot be used.
        num_unusable: number of all of them.
    """

    unusable: list[Problem] = field(default_factory=list)
    num_unusable: int = 0
    _counts: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, problem: Problem) -> None:
        """Count a sample or a shard that cannot be used."""
        self.num_unusable += 1
        if len(self.unusable) < MAX_EXAMPLES:
            self.unusable.append(problem)

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

    def raise_problems(self, where: str) -> None:
        """Raise the error that lists what cannot be used, if there is anything."""
        if self.num_unusable:
            raise DataError(limit_problems(self.unusable, where, self.num_unusable))

    def describe(self) -> list[str]:
        """Return one line for each kind of finding."""
        lines = []
        if self.num_unusable:
            lines.append(f"{self.num_unusable:,} left out, because they cannot be used: {self.unusable[0]}")
            lines += [f"left out: {problem}" for problem in self.unusable[1:]]
        for kind, texts in NOTES.items():
            if count := self._counts[kind]:
                examples = f"{', '.join(self._examples[kind])}{', ...' * (count > MAX_EXAMPLES)}"
                lines.append(f"{count:,} {texts[count > 1]}: {examples}")
        return lines
