"""Parsing of file names: natural order, subject, slice number and split, and the key of a sample."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

_DIGITS = re.compile(r"(\d+)")
_SUBJECT = re.compile(
    r"(?<![A-Za-z0-9])(?:"  # the beginning of a word
    r"OAS\d+_\d{4}"  # OASIS: OAS1_0101_MR2 is the second session of OAS1_0101
    r"|sub-[A-Za-z0-9]+"  # BIDS
    r"|\d{3}_S_\d{4}"  # ADNI
    r"|case_\d+(?=_slice)"  # the OASIS PNG slices
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
_MAX_KEY_LENGTH = 90  # with its extension, a key must fit into the 100 bytes of a tar header
_HASH_LENGTH = 8


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts slice_2 before slice_10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _DIGITS.split(name) if part]


def stem(path: PurePosixPath) -> str:
    """Return the name of a file without its extension; .nii.gz and .nii.png count as one extension."""
    return re.sub(r"\.nii$", "", path.name if path.suffix == ".nii" else path.stem, flags=re.IGNORECASE)


def parse_subject(source: str) -> str | None:
    """Return the last subject id in a path (OASIS, BIDS, ADNI, subject-N, patient-N), or None."""
    found = _SUBJECT.findall(source)
    return found[-1] if found else None


def parse_slice_number(name: str) -> int | None:
    """Return the last slice number in a file's name, or None."""
    found = _SLICE.findall(name)
    return int(found[-1]) if found else None


def parse_split(folder: str) -> str | None:
    """Return the split in a folder's name: the name itself, or its last word as in keras_png_slices_test; or None."""
    return _SPLIT_WORDS.get(folder.lower().rpartition("_")[2])


def build_keys(sources: Iterable[str]) -> list[str]:
    """Return a readable key for each source: ASCII, without dots, and unique even if case is ignored.

    Dots become underscores, because WebDataset ends a key at its first dot. A key that is too long or not unique
    ends in a hash of its source.
    """
    keys: list[str] = []
    taken: set[str] = set()
    for source in sources:
        key = re.sub(r"[^A-Za-z0-9_-]+", "_", source.replace("/", "-"))
        longest = _MAX_KEY_LENGTH - _HASH_LENGTH - 1
        if len(key) > longest or key.lower() in taken or not key.strip("_-"):
            key = f"{key[:longest]}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:_HASH_LENGTH]}"
        taken.add(key.lower())
        keys.append(key)
    return keys
