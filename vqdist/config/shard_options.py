"""The typed options of `vqdist shard`."""

import math
from pathlib import Path
from typing import Literal

from vqdist.config.command_line import Options
from vqdist.config.option_types import Pattern, Place, Text
from vqdist.config.section import Bool, FilePath, Int, key
from vqdist.foundation.errors import Problem


class ShardOptions(Options):
    """Options of `vqdist shard`."""

    source: Place = key(..., "folder; tar, or pattern of tars; or demo for synthetic brains", positional="SOURCE")
    out: FilePath = key(..., "folder of the dataset; new or empty", positional="OUT")
    layout: Literal["auto", "imagefolder", "oasis-png", "oasis1", "nifti", "webdataset"] = key(
        "auto", "layout of SOURCE; auto: detect it from the file names"
    )
    image_size: Int = key(256, "rows and columns of a slice", unit="pixels", ge=1, le=4096)
    samples_per_shard: Int = key(256, "slices per shard", unit="slices", ge=1, le=10**6)
    split: tuple[str, str, str] = key(
        ("0.8", "0.1", "0.1"), "shares for train, validate and test", unit="shares of subjects"
    )
    seed: Int = key(0, "seed of the split, and of the synthetic brains")
    num_slices: Int = key(
        32,
        "axial slices of a volume: of a NIfTI of a head 1 mm apart and centred on the brain; the middle of OASIS-1",
        unit="slices",
        ge=1,
        le=4096,
    )
    channels: Literal["auto", "1", "3"] = key("auto", "1: grey, 3: colour; auto: 3 if a picture has colour")
    grey_range: tuple[Text, ...] = key(
        ("auto",),
        "black and white of grey pictures of more than 8 bits: two numbers, or dtype (0 and 65535 for integers), or "
        "auto: 0 and 65535 for integers that use them, else the 99.8th percentile of each subject is white, as for "
        "12-bit values in 16-bit files",
    )
    on_error: Literal["raise", "skip"] = key(
        "raise", "a file that cannot be read ends the command, or is skipped and counted"
    )
    num_subjects: Int = key(24, "number of synthetic brains of the demo", unit="subjects", ge=1, le=10**6)
    include: tuple[Text, ...] = key(
        (), "take only files whose name, or path in SOURCE if there is a slash, matches one of these patterns"
    )
    subject_pattern: Pattern | None = key(
        None, "regular expression; its group 1, or else its match, in the path of a file in SOURCE is the subject"
    )
    subject_from: Literal["name", "folder"] | None = key(
        None, "what identifies the subject of a file; null: its name or its folder, whichever does"
    )
    table: FilePath | None = key(
        None, "table of subjects, .csv, .tsv or .xlsx: its values become attributes of the samples, such as age and sex"
    )
    table_key: Text | None = key(
        None, "column of --table with the subject or session; null: guessed, such as ID or participant_id"
    )
    columns: tuple[Text, ...] = key(
        (), "columns of --table to take, such as age sex cdr:category; their kind, number or category, is inferred"
    )
    strict: Bool = key(
        False,
        "doubts about subjects, classes, masks or contrasts end the command with exit code 2; false: they are warnings",
    )
    workers: Int | None = key(
        None, "processes that read and encode; null: one per available core, fewer for few slices", ge=1
    )
    overwrite: Bool = key(False, "replace the contents of OUT")

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of train, validate and test; NaN for text that is not a number."""
        return tuple(_to_float(text) for text in self.split)

    @property
    def grey_limits(self) -> Literal["auto", "dtype"] | tuple[float, float]:
        """The setting of the grey range: two numbers, auto or dtype; auto for values that find_conflicts reports."""
        if self.grey_range == ("dtype",):
            return "dtype"
        low, high = [*map(_to_float, self.grey_range), math.nan, math.nan][:2]
        return (low, high) if low < high and len(self.grey_range) == 2 else "auto"

    @property
    def selection(self) -> dict[str, object]:
        """The given settings of the files, subjects and grey values, by name."""
        names = ("include", "subject_pattern", "subject_from", "columns")
        selected: dict[str, object] = {"table": self.table.name} if self.table else {}
        selected |= {name: value for name in names if (value := getattr(self, name))}
        return selected if self.grey_range == ("auto",) else selected | {"grey_range": self.grey_range}

    def find_conflicts(self) -> list[Problem]:
        problems = []
        if self.grey_limits == "auto" and self.grey_range != ("auto",):
            expected = "auto, dtype or two numbers, the lower one first"
            problems.append(Problem("--grey-range", " ".join(self.grey_range), expected))
        if not (min(self.shares) >= 0 and abs(sum(self.shares) - 1) <= 1e-3):  # also true for NaN
            problems.append(Problem("--split", " ".join(self.split), "three shares from 0 to 1 with the sum 1"))
        if self.source != "demo":
            source, out = Path(self.source).resolve(), self.out.resolve()
            if out == source or out in source.parents:
                problems.append(Problem("OUT", str(self.out), "a folder that does not contain SOURCE"))
        return problems + self._find_selection_conflicts()

    def _find_selection_conflicts(self) -> list[Problem]:
        if self.table is None and (self.columns or self.table_key):
            flag = "--columns" if self.columns else "--table-key"
            return [Problem(flag, "a value without --table", "also --table, the file with the columns")]
        if self.source == "demo":
            flags = ["--" + name.replace("_", "-") for name in self.selection]
            return [Problem(flag, "a value, with demo as SOURCE", "only with a folder as SOURCE") for flag in flags]
        if self.subject_pattern and self.subject_from:
            return [Problem("--subject-from", f"{self.subject_from} beside --subject-pattern", "one of them")]
        return []


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
