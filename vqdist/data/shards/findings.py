"""What the indexer of third-party shards found beside usable samples: what was left out or not understood."""

from collections import Counter
from dataclasses import dataclass, field

from vqdist.foundation.errors import MAX_EXAMPLES, DataError, Problem, limit_problems

# Each text follows a count and precedes examples.
NOTES = {
    "label": "labels were not understood and are ignored (a label is a whole number from 0)",
    "slice": "slice numbers were not understood and are ignored (a slice number is a whole number from 0)",
    "subject": "subjects were not understood, so each of these samples counts as a subject of its own",
    "json": "JSON members were ignored (expected an object with label, slice and subject)",
    "two labels": "samples have different labels in .json and .cls; that of .json is used",
    "no extension": "members without an extension were ignored",
    "same key": "samples have the key of a sample in an earlier shard; the name of their shard was added to it",
    "no sample": "shards without samples were ignored",
    "no split": "shards have no split in their names and folders and count as train; "
    "name shards or folders validate-*, test-* to get these splits",
    "shorter key": "keys were too long for a tar and were shortened",
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
        for kind, text in NOTES.items():
            if count := self._counts[kind]:
                lines.append(f"{count:,} {text}: {', '.join(self._examples[kind])}{', ...' * (count > MAX_EXAMPLES)}")
        return lines
