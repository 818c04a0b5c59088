"""Masks of slices: find the mask file of each slice, and read it as True and False."""

import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from vqdist.data.sources.file_names import stem
from vqdist.data.sources.pictures import read_pixels
from vqdist.foundation.errors import DataError
from vqdist.foundation.progress import count_noun
from vqdist.inference.reconstruction import find_pictures

# Words of file names that say what a picture shows, not which slice it is.
_MASK_WORDS = frozenset({"mask", "masks", "seg", "segmentation", "truth", "gt", "roi", "annotation"})
_WORDS = _MASK_WORDS | {"slice", "image", "img", "picture", "lesion", "lesions", "label", "labels"}
_MOST_LABELS = 15  # a mask with no greater value holds numbers of labels, not grey values
_MIDDLE_GREY = 127

Mask = npt.NDArray[np.bool_]


def identify(name: str) -> tuple[str, ...]:
    """Return what identifies a slice in a file name: its words and numbers without those for its kind.

    case_040_slice_0_lesion.png and case_040_slice_0_mask.png have the same identity.
    """
    words = re.findall(r"\d+|[^\W\d_]+", stem(PurePosixPath(name)).lower())
    return tuple(word.lstrip("0") or "0" if word.isdecimal() else word for word in words if word not in _WORDS)


def is_mask_name(name: str) -> bool:
    """Whether a word of a file name says that it is a mask."""
    return not _MASK_WORDS.isdisjoint(re.findall(r"[^\W\d_]+", stem(PurePosixPath(name)).lower()))


def find_masks(folder: Path, pictures: Sequence[str], *, within: Path | None = None) -> list[Path | None]:
    """Return the mask of each slice: the file of the same name, or else of the same identity; None without one.

    A file whose name says that it is a mask comes before others.

    Args:
        folder: folder of masks; a file is the mask of every slice.
        pictures: path of each picture, or key of each sample.
        within: the folder of the pictures. If it holds masks too, their names must say so.
    Raises:
        DataError: no masks, none that belongs to a slice, or several for the same slice.
    """
    if folder.is_file():
        return [folder] * len(pictures)
    masks = list_mask_files(folder)
    if within is not None and within.resolve() == folder.resolve():
        masks = [path for path in masks if is_mask_name(path.name)]
    by_stem, by_identity = _group(masks, _stem), _group(masks, identify)
    found = [
        _prefer(by_stem.get(_stem(name), []), by_identity.get(identify(PurePosixPath(name).name), []))
        for name in pictures
    ]
    for name, paths in zip(pictures, found, strict=True):
        if len(paths) > 1:
            raise DataError.of(name, f"{len(paths)} masks, for example {paths[0]} and {paths[1]}", "one mask")
    if not any(found):
        expected = f"masks named like the slices, for example {_stem(pictures[0])}.png"
        raise DataError.of(str(folder), f"no mask of any of {count_noun(len(pictures), 'slice')}", expected)
    return [paths[0] if paths else None for paths in found]


def list_mask_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may be masks; DataError if there are none."""
    try:
        return find_pictures(folder)
    except DataError:
        missing = "no masks" if folder.is_dir() else "nothing"
        raise DataError.of(str(folder), missing, "a mask, or a folder of masks named like the slices") from None


def _prefer(same_name: list[Path], same_identity: list[Path]) -> list[Path]:
    """Return the files of the same name, or else of the same identity; of both, those whose names say mask, if any do.

    A folder may hold slices and their masks: then the file of the same name is the slice.
    """
    named = [path for path in same_identity if is_mask_name(path.name)]
    return [path for path in same_name if path in named] or named or same_name or same_identity


def _stem(name: str | Path) -> str:
    return stem(PurePosixPath(Path(name).name)).lower()


def _group(paths: Sequence[Path], name_of: Callable[[str], Hashable]) -> dict[Hashable, list[Path]]:
    groups: dict[Hashable, list[Path]] = {}
    for path in paths:
        groups.setdefault(name_of(path.name), []).append(path)
    return groups


def read_mask(path: Path, shape: tuple[int, ...]) -> Mask:
    """Read a mask, (H, W), True where it is white.

    White is above the middle grey. A mask of small numbers (labels) is True where it is above 0.

    Args:
        shape: (H, W) of the slice.
    Raises:
        DataError: no picture, or another size.
    """
    pixels = read_pixels(path, channels=1)
    if pixels.shape != shape:
        found, expected = (f"{height} x {width} pixels" for height, width in (pixels.shape, shape))
        raise DataError.of(str(path), found, f"{expected} (height x width), the size of its slice")
    return pixels > (0 if pixels.max(initial=0) <= _MOST_LABELS else _MIDDLE_GREY)
