"""The files of a source and their selection: patterns of --include, and segmentation masks, which are left out."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from vqdist.data.sources.file_names import stem
from vqdist.data.sources.generic_names import folder_role, has_mask_word, strip_last_word
from vqdist.foundation.errors import DataError
from vqdist.foundation.progress import count_noun


def walk_files(root: Path) -> Iterator[str]:
    """Yield the paths of all files that are not hidden; follow symbolic links, but each folder once."""

    def refuse(error: OSError) -> None:
        raise DataError.of(str(error.filename), error.strerror or str(error), "a folder that can be read")

    seen: set[str] = set()
    for where, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        inside = PurePosixPath(Path(where).relative_to(root).as_posix())
        yield from (str(inside / name) for name in names if not name.startswith("."))


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
            some = f"{count_noun(len(names), 'file')}, such as {', '.join(names[:3])}" if names else "no file"
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
    parents: dict[str, set[str]] = defaultdict(set)  # of each folder, the names of its files without extension
    for name in names:
        folder, _, file_name = name.rpartition("/")
        parents[folder].add(stem(PurePosixPath(file_name)))
    of_masks = _find_mask_folders(parents)
    masks = set()
    for folder, stems in parents.items():
        masks |= {(folder, found) for found in stems if folder in of_masks or _has_partner(found, stems)}
    return {name for name in names if (name.rpartition("/")[0], stem(PurePosixPath(name.rpartition("/")[2]))) in masks}


def _has_partner(name: str, others: set[str]) -> bool:
    partner, word = strip_last_word(name)
    if word.isdecimal():  # a second mask of the same picture
        partner, word = strip_last_word(partner)
    return has_mask_word(word) and partner in others


def _find_mask_folders(paths: Iterable[str]) -> set[str]:
    """Return the folders that are, or are inside, a folder for masks beside one for images."""
    found = {PurePosixPath(path) for path in paths}
    folders = found | {parent for path in found for parent in path.parents}
    with_images = {folder.parent for folder in folders if folder_role(folder.name) == "image"}
    of_masks = {f for f in folders if folder_role(f.name) == "mask" and f.parent in with_images}
    return {str(path) for path in found if of_masks & {path, *path.parents}}
