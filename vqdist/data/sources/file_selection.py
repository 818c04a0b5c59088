"""Selection of the files of a source: patterns of --include, and segmentation masks, which are left out."""

from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from vqdist.data.sources.file_names import stem
from vqdist.data.sources.generic_names import folder_role, has_mask_word, strip_last_word
from vqdist.foundation.errors import DataError


def matches_glob(path: str, pattern: str) -> bool:
    """Whether a path matches a pattern, in which * also matches slashes and ** any number of folders.

    A pattern without a slash is compared with the file's name.
    """
    if "/" not in pattern:
        return fnmatchcase(PurePosixPath(path).name, pattern)
    without_folders = f"/{pattern}".replace("/**/", "/")  # ** may also stand for no folder
    return any(fnmatchcase(f"/{path}", found) for found in (f"/{pattern}", without_folders))


def select_included(names: Sequence[str], patterns: Sequence[str], *, where: str) -> list[str]:
    """Return the names that match any of the patterns, in their order; all names without patterns.

    Raises:
        DataError: a pattern matches no file.
    """
    if not patterns:
        return list(names)
    for pattern in patterns:
        if not any(matches_glob(name, pattern) for name in names):
            some = f"{len(names)} files, such as {', '.join(names[:3])}" if names else "no file"
            raise DataError.of(
                f"--include {pattern}", f"no match in {where}, which has {some}", "a pattern of file names"
            )
    return [name for name in names if any(matches_glob(name, pattern) for pattern in patterns)]


def find_masks(names: Sequence[str], patterns: Sequence[str], *, pictures: bool) -> set[str]:
    """Return the segmentation masks among the files, which are no slices to train on.

    A mask counts as such only beside other files, and unless a pattern of --include matches nothing but masks.

    Args:
        names: paths of the files of the layout.
        patterns: of --include.
        pictures: a picture needs a partner to be a mask, because classes have such names too.
    """
    masks = _find_picture_masks(names) if pictures else {name for name in names if _is_volume_mask(name)}
    if len(masks) == len(names):
        return set()
    for pattern in patterns:
        matched = {name for name in masks if matches_glob(name, pattern)}
        if matched and not any(matches_glob(name, pattern) for name in names if name not in masks):
            masks = masks - matched
    return masks


def _is_volume_mask(name: str) -> bool:
    path = PurePosixPath(name)
    return has_mask_word(stem(path)) or any(folder_role(folder) == "mask" for folder in path.parts[:-1])


def _find_picture_masks(names: Sequence[str]) -> set[str]:
    """Return X_mask.png beside X.png, and the files of a folder `masks` beside a folder `images`."""
    folders: dict[PurePosixPath, set[str]] = defaultdict(set)
    stems: dict[PurePosixPath, set[str]] = defaultdict(set)
    for name in names:
        path = PurePosixPath(name)
        stems[path.parent].add(stem(path))
        for folder in path.parents[:-1]:
            folders[folder.parent].add(folder.name)
    beside_images = {
        parent / folder
        for parent, children in folders.items()
        if any(folder_role(child) == "image" for child in children)
        for folder in children
        if folder_role(folder) == "mask"
    }
    masks = set()
    for name in names:
        path = PurePosixPath(name)
        partner, _ = strip_last_word(stem(path))
        named = bool(partner) and has_mask_word(stem(path)[len(partner) :]) and partner in stems[path.parent]
        if named or any(folder in beside_images for folder in path.parents):
            masks.add(name)
    return masks
