"""Folders that vqdist sample, complete, score and evaluate write: their single slices, and what each was made for."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from vqdist.config.attributes import AttributeValue
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import load_json

SAMPLES, COMPLETIONS = "samples.json", "completions.json"
MAX_JSON_BYTES = 2**28

# A file that a command writes -> the pictures in its folder that show several slices, or maps and no slices.
_OVERVIEWS = {
    SAMPLES: ("grid.png", "volume-*.png"),
    COMPLETIONS: ("grid.png",),
    "scores.jsonl": ("maps/*.png", "figures/*.png"),
    "reconstructions.png": ("reconstructions.png", "pictures/[0-9][0-9][0-9][0-9]-*.png"),
}


def find_overviews(names: Iterable[str]) -> set[str]:
    """Return the pictures that show no single slice: grids, figures and maps that a command has written.

    Args:
        names: paths inside a folder, with slashes, of all its files: what wrote a picture is known from other files.
    """
    names = list(names)
    patterns: dict[str, list[str]] = defaultdict(list)  # folder -> patterns of the paths inside it
    for name in names:
        folder, _, written = name.rpartition("/")
        patterns[folder] += _OVERVIEWS.get(written, ())
    found = set()
    for name in names:
        folder, _, picture = name.rpartition("/")
        outer, _, inner = folder.rpartition("/")
        direct = any(fnmatchcase(picture, pattern) for pattern in patterns[folder])
        if direct or (folder and any(fnmatchcase(f"{inner}/{picture}", pattern) for pattern in patterns[outer])):
            found.add(name)
    return found


def read_entries(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return file name -> entry of each slice that samples.json or completions.json lists; empty without them.

    The entries may have `label`, `slice`, `attributes` and `subject`. Names do not leave the folder.

    Raises:
        DataError: a file that the commands have not written.
    """
    path = next((path for path in (folder / SAMPLES, folder / COMPLETIONS) if path.is_file()), None)
    if path is None:
        return {}
    content = load_json(path, MAX_JSON_BYTES)
    if isinstance(content, dict) and "volumes" in content:
        return {}
    entries = list(_list_entries(content))
    names = [entry.get("file") for entry in entries if isinstance(entry, dict)]
    if not entries or len(names) < len(entries) or not all(isinstance(n, str) and Path(n).name == n for n in names):
        expected = "a file that vqdist sample or complete has written"
        raise DataError.of(str(path), "no list of samples with their files", expected)
    return dict(zip(map(str, names), entries, strict=True))


def _list_entries(content: object) -> Iterator[Any]:
    match content:
        case {"samples": list(samples)}:
            yield from samples
        case {"slices": list(slices)}:
            for found in slices:
                match found:
                    case {"completions": list(completions), "key": key}:
                        about = {**found, "subject": key}  # the completions of a slice are related
                        yield from ({**about, **one} if isinstance(one, dict) else None for one in completions)
                    case _:
                        yield None


def read_number(entry: Mapping[str, Any], name: str) -> int | None:
    """Return the label or the slice number of an entry; None without."""
    number = entry.get(name)
    return number if type(number) is int and 0 <= number < 2**63 else None


def read_attributes(entry: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Return the known attributes of an entry."""
    found = entry.get("attributes")
    items = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in items if isinstance(value, str) or type(value) in (int, float)}
