"""The meaning of the folders in a source: splits, classes, and subjects."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from vqdist.data.sources.file_names import parse_local_subject, parse_split, parse_split_folder, parse_subject, stem
from vqdist.data.sources.generic_names import folder_role, is_generic_folder, split_free_words
from vqdist.foundation.errors import DataError, list_examples


@dataclass(frozen=True)
class PlacedFile:
    """A file and the meaning of its folders.

    Attributes:
        path: path inside the source, with slashes.
        folders: its folders below those of split and class, which may identify the subject.
        split: split of its folder, or None.
        class_name: name of its class folder, or None.
    """

    path: str
    folders: tuple[str, ...]
    split: str | None = None
    class_name: str | None = None

    @cached_property
    def name(self) -> str:
        """Name of the file."""
        return self.path.rpartition("/")[2]

    @cached_property
    def stem(self) -> str:
        """Name of the file without its extension."""
        return stem(PurePosixPath(self.name))

    @property
    def parent(self) -> str:
        """Path of the folder of the file."""
        return self.path.rpartition("/")[0]

    @property
    def inside(self) -> str:
        """Path below the folders of split and class."""
        return "/".join((*self.folders, self.name))

    @cached_property
    def informative_folders(self) -> tuple[str, ...]:
        """The folders that may identify the subject: without modalities, sessions and the like."""
        return tuple(folder for folder in self.folders if not is_generic_folder(folder))


def place_volumes(names: Sequence[str]) -> list[PlacedFile]:
    """Return volumes, or slices of OASIS, with the split in the name of the innermost folder that states one."""
    placed = []
    for name in names:
        folders = PurePosixPath(name).parts[:-1]
        splits = [split for folder in folders if (split := parse_split(folder))]
        others = tuple(folder for folder in folders if not parse_split(folder))
        placed.append(PlacedFile(name, others, splits[-1] if splits else None))
    return placed


def place_pictures(names: Sequence[str], root: Path) -> list[PlacedFile]:
    """Return the pictures of an ImageFolder with their splits and classes.

    Raises:
        DataError: folders of splits and others side by side, or a picture outside the class folders.
    """
    paths = [PurePosixPath(name) for name in names]
    splits = find_split_folders(paths, root)
    depth = 1 if splits else 0
    classes = {path.parts[depth] for path in paths if len(path.parts) > depth + 1}
    placed = []
    for path in paths:
        if classes and len(path.parts) < depth + 2:
            raise DataError.of(str(root / path), "a picture outside the class folders", "all pictures inside them")
        split, folders = splits.get(path.parts[0]), path.parts[depth:-1]
        if classes:  # a class is not a subject
            placed.append(PlacedFile(str(path), folders[1:], split, folders[0]))
        else:
            placed.append(PlacedFile(str(path), folders, split))
    return drop_classes(placed) if _are_subjects(classes) or _are_of_all_images(classes) else placed


def drop_classes(files: Sequence[PlacedFile]) -> list[PlacedFile]:
    """Return files whose class folders are not classes but belong to the folders that may identify the subject."""
    return [
        file if file.class_name is None else replace(file, folders=(file.class_name, *file.folders), class_name=None)
        for file in files
    ]


def explain_missing_classes(files: Sequence[PlacedFile]) -> str:
    """Return why the folders of an ImageFolder are no classes; empty if there are classes, or no such folders."""
    folders = sorted({file.folders[0] for file in files if file.folders})
    if not folders or any(file.class_name is not None for file in files):
        return ""
    names = f"the folder{'s' * (len(folders) > 1)} {list_examples(folders)}"
    if not _are_of_all_images(folders):
        return f"{names} {'are subjects' if len(folders) > 1 else 'is a subject'}"
    inner = any(len(file.folders) > 1 for file in files)
    advice = "; if the folders inside are classes, move them one level up" if inner else ""
    return f"{names} hold{'s' * (len(folders) == 1)} all images{advice}"


def _are_subjects(folders: Collection[str]) -> bool:
    return bool(folders) and all(parse_subject(name) or parse_local_subject(name) for name in folders)


def _are_of_all_images(folders: Collection[str]) -> bool:
    """Whether there is one folder for images, such as images or scans, perhaps as imagesTr and imagesTs."""
    return len({split_free_words(name) for name in folders}) == 1 and all(folder_role(f) == "image" for f in folders)


def find_split_folders(paths: Sequence[PurePosixPath], root: Path) -> dict[str, str]:
    """Return folder -> split for the top folders of an ImageFolder; empty if they are class folders."""
    top = {path.parts[0] for path in paths if len(path.parts) > 1}
    splits = _parse_folders(top)
    below = {path.parts[1] for path in paths if len(path.parts) > 2}
    if not splits and "train" in _parse_folders(below).values():
        found = f"the folders of the splits inside {list_examples(sorted(top))}"
        raise DataError.of(str(root), found, "that folder as SOURCE")
    if set(splits) == top:
        return splits
    if "train" in splits.values():
        odd = sorted(top - set(splits))[0]
        raise DataError.of(
            str(root / odd), f"a folder beside {list_examples(sorted(splits))}", "only folders of splits"
        )
    return {}


def _parse_folders(folders: set[str]) -> dict[str, str]:
    return {folder: split for folder in folders if (split := parse_split_folder(folder))}
