"""What the name of a file tells: its place in natural order, its subject, slice and split, and a key for its sample."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

_DIGITS = re.compile(r"(\d+)")
_SUBJECT = re.compile(
    r"(?<![A-Za-z0-9])(?:"  # where a word begins
    r"OAS\d+_\d{4}"  # OASIS: OAS1_0101_MR2 is the second session of OAS1_0101
    r"|sub-[A-Za-z0-9]+"  # BIDS
    r"|\d{3}_S_\d{4}"  # ADNI
    r"|case_\d+(?=_slice)"  # the OASIS slices
    r"|(?:subject|patient)[-_]?\d+"
    r")"
)
_SLICE = re.compile(r"slice[-_]?(\d{1,6})(?!\d)")
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validate": "validate",
    "validation": "validate",
    "valid": "validate",
    "val": "validate",
    "test": "test",
    "testing": "test",
}
_MAX_KEY = 90  # with its extension a key must fit into a tar header's 100 bytes


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts slice_2 before slice_10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _DIGITS.split(name) if part]


def stem_of(path: PurePosixPath) -> str:
    """Return the file's name without its extension; .nii.gz and .nii.png count as one."""
    return re.sub(r"\.nii$", "", path.name if path.suffix == ".nii" else path.stem, flags=re.IGNORECASE)


def subject_of(source: str) -> str | None:
    """Return the subject that a path names (its last such part), or None."""
    found = _SUBJECT.findall(source)
    return found[-1] if found else None


def slice_of(name: str) -> int | None:
    """Return the slice number that a file's name tells, or None."""
    found = _SLICE.findall(name)
    return int(found[-1]) if found else None


def split_of(folder: str) -> str | None:
    """Return the split that a folder stands for: its name, or the last word of a name such as keras_png_slices_test."""
    return _SPLIT_WORDS.get(folder.lower().rpartition("_")[2])


def build_keys(sources: Iterable[str]) -> list[str]:
    """Return a key for each source: readable, plain ASCII, without a dot, unique even where case is ignored.

    WebDataset ends a key at the first dot, so a dot inside a name becomes an underscore.
    """
    keys: list[str] = []
    taken: set[str] = set()
    for source in sources:
        key = re.sub(r"[^A-Za-z0-9_-]+", "_", source.replace("/", "-"))
        if len(key) > _MAX_KEY - 9 or key.lower() in taken or not key.strip("_-"):
            key = f"{key[: _MAX_KEY - 9]}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
        taken.add(key.lower())
        keys.append(key)
    return keys
