"""Signs that a source consists of segmentation masks, or that masks are mixed with the images."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from vqdist.data.sources.file_names import stem
from vqdist.data.sources.file_selection import matches_glob
from vqdist.data.sources.generic_names import folder_role, has_mask_word, strip_counter
from vqdist.foundation.errors import Problem
from vqdist.foundation.progress import count_noun


def find_mask_doubts(names: Sequence[str], patterns: Sequence[str], *, root_name: str) -> list[Problem]:
    """Return a problem if files that will be written look like masks.

    Args:
        names: paths of the files that will be written.
        patterns: of --include; one that matches nothing but masks takes them on purpose.
        root_name: name of the source's folder.
    """
    found = _find_named(names) or _find_in_folders(names, root_name)
    if not found or any(_takes_only(found, names, pattern) for pattern in patterns):
        return []
    some = f"{len(found):,} of {count_noun(len(names), 'file')} that look like segmentation masks"
    example = next(name for name in names if name in found)
    if len(found) == len(names):
        expected = "images; they are written as images, and --include '*' says that this is intended"
    else:
        expected = "images only; pass --include with patterns of the images, or with one that matches only masks"
    return [Problem("masks", f"{some}, such as {example}", expected)]


def _takes_only(masks: set[str], names: Sequence[str], pattern: str) -> bool:
    return {name for name in names if matches_glob(name, pattern)} <= masks


def _find_named(names: Sequence[str]) -> set[str]:
    """Return the files with names of masks, if they are most of the source or are in one folder with images."""
    masks = {name for name in names if _has_mask_name(PurePosixPath(name))}
    if 2 * len(masks) > len(names):
        return masks
    folders: dict[str, set[bool]] = defaultdict(set)
    for name in names:
        folders[name.rpartition("/")[0]].add(name in masks)
    return {name for name in masks if len(folders[name.rpartition("/")[0]]) > 1}


def _has_mask_name(path: PurePosixPath) -> bool:
    """Whether the name is that of a mask, and not that of a class such as with_mask/with_mask_1.png."""
    name = stem(path)
    kind = (strip_counter(name) or name).lower()
    of_class = any(folder.lower() == kind and folder_role(folder) != "mask" for folder in path.parts[:-1])
    return has_mask_word(name) and not of_class


def _find_in_folders(names: Sequence[str], root_name: str) -> set[str]:
    """Return all files if each is in a folder for masks, perhaps the source itself."""
    for name in names:
        roles = [folder_role(folder) for folder in (root_name, *PurePosixPath(name).parts[:-1])]
        if "mask" not in roles or "image" in roles:
            return set()
    return set(names)
