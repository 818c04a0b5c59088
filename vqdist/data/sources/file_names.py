"""Parsing of file names: natural order, subject, slice number and split, and the key of a sample."""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

_DIGITS = re.compile(r"(\d+)")
# Names that identify a person, each with its canonical spelling: case is ignored.
_DATASET_SUBJECTS: tuple[tuple[str, Callable[[str], str]], ...] = (
    (r"OAS3\d{4}(?!\d)|OAS\d+_\d{4}", str.upper),  # OASIS: OAS1_0101_MR2 is the second session of OAS1_0101
    (r"\d{3}_S_\d{4}", str.upper),  # ADNI
    (r"IXI\d{3}(?!\d)", str.upper),
    (r"TCGA[-_][A-Z0-9]{2}[-_][A-Z0-9]{4}(?![A-Z0-9])", str.upper),
    (r"LIDC-IDRI-\d{4}", str.upper),
    (r"BraTS-[A-Z]+-\d{5}", lambda name: "BraTS" + name[5:].upper()),  # the next number is the time point
)
_SUBJECTS: tuple[tuple[str, Callable[[str], str]], ...] = (
    *_DATASET_SUBJECTS,
    (r"sub-[A-Za-z0-9]+", lambda name: "sub-" + name[4:]),  # BIDS
    (r"(?:case|subject|subj|sub|patient|pat|pt|participant|person)[-_]?\d+", str.lower),
    (r"(?:subject|patient|participant|person)[-_][A-Z](?![A-Z0-9])", str.lower),
)
# Numbers that may restart in each folder.
_LOCAL_SUBJECTS: tuple[tuple[str, Callable[[str], str]], ...] = (
    (r"(?:volume|vol)[-_]?\d+", str.lower),
    (r"(?:(?<=/)|^)[PS]\d+(?![A-Z0-9])", str.upper),
)
_SLICE = re.compile(r"slice[-_]?(\d{1,6})(?!\d)", re.IGNORECASE)
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
_CONTENT = r"(?:images?|imgs?|pictures?|photos?|slices?|scans?|volumes?|data|dataset|set|png|jpe?g|nii|nifti)"
_SPLIT_FOLDER = re.compile(rf"(?:{_CONTENT}[-_ ]?)?({'|'.join(_SPLIT_WORDS)})(?:[-_ ]?{_CONTENT})?", re.IGNORECASE)
_MAX_KEY_LENGTH = 90  # with its extension, a key must fit into the 100 bytes of a tar header
_HASH_LENGTH = 8


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts slice_2 before slice_10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _DIGITS.split(name) if part]


def stem(path: PurePosixPath) -> str:
    """Return the name of a file without its extension; .nii.gz and .nii.png count as one extension."""
    return re.sub(r"\.nii$", "", path.name if path.suffix == ".nii" else path.stem, flags=re.IGNORECASE)


def _compile(patterns: Iterable[tuple[str, Callable[[str], str]]]) -> re.Pattern[str]:
    """Return a pattern of whole words; the name of the group that matches is k and the number of its pattern."""
    options = "|".join(f"(?P<k{number}>{pattern})" for number, (pattern, _) in enumerate(patterns))
    return re.compile(rf"(?<![A-Za-z0-9])(?:{options})", re.IGNORECASE)


_SUBJECT, _LOCAL_SUBJECT = _compile(_SUBJECTS), _compile(_LOCAL_SUBJECTS)
_DATASET_SUBJECT = _compile(_DATASET_SUBJECTS)


def parse_subject(source: str) -> str | None:
    """Return the last subject id in a path (OASIS, BIDS, ADNI, case N, patient N, ...) or None.

    Case is ignored: Case_001 and case_001 are both case_001, and oas1_0101 is OAS1_0101.
    """
    return _parse_last(source, _SUBJECT, _SUBJECTS)


def parse_local_subject(source: str) -> str | None:
    """Return the last id in a path that may occur again in another folder (vol3, P061), or None."""
    return _parse_last(source, _LOCAL_SUBJECT, _LOCAL_SUBJECTS)


def is_unique_subject(name: str) -> bool:
    """Whether a subject id is that of one person everywhere: an id of a known dataset, or with a number from 10,000.

    Two sites may each have a subject 001, sub-01 or case_1.
    """
    return bool(_DATASET_SUBJECT.search(name)) or any(int(number) >= 10_000 for number in re.findall(r"\d+", name))


def _parse_last(
    source: str, pattern: re.Pattern[str], patterns: tuple[tuple[str, Callable[[str], str]], ...]
) -> str | None:
    found = list(pattern.finditer(source))
    if not found:
        return None
    _, spell = patterns[int(str(found[-1].lastgroup)[1:])]
    return spell(found[-1][0])


def parse_slice_number(name: str) -> int | None:
    """Return the last slice number in a file's name, or None."""
    found = _SLICE.findall(name)
    return int(found[-1]) if found else None


def parse_split_folder(folder: str) -> str | None:
    """Return the split that the whole name of a folder states, as train, test_images or training_set do, or None."""
    found = _SPLIT_FOLDER.fullmatch(folder)
    return _SPLIT_WORDS[found[1].lower()] if found else None


def parse_split(folder: str) -> str | None:
    """Return the split of a folder by its name or by the last word of it, such as keras_png_slices_test; or None."""
    return parse_split_folder(folder) or _SPLIT_WORDS.get(folder.lower().rpartition("_")[2])


def build_keys(sources: Iterable[str]) -> list[str]:
    """Return a readable key for each source: ASCII, without dots, and unique even if case is ignored.

    Dots become underscores, because WebDataset ends a key at its first dot. A key that is too long or not unique
    ends in a hash of its source.
    """
    keys: list[str] = []
    taken: set[str] = set()
    longest = _MAX_KEY_LENGTH - _HASH_LENGTH - 1
    for source in sources:
        key = re.sub(r"[^A-Za-z0-9_-]+", "_", source.replace("/", "-"))
        if len(key) > longest or key.lower() in taken or not key.strip("_-"):
            hashed = (f"{key[:longest]}-{_hash(source, number)}" for number in itertools.count())
            key = next(candidate for candidate in hashed if candidate.lower() not in taken)
        taken.add(key.lower())
        keys.append(key)
    return keys


def _hash(source: str, number: int) -> str:
    """Return the hash of a source that is the number-th with its text, from 0."""
    text = f"{source}/{number}" if number else source
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_LENGTH]
