"""Sources of slices: folders of pictures, OASIS slices and discs, NIfTI volumes, and synthetic brains.

A source is a list of files, each with its subject and optionally a label and a split, and a function that reads the
slices of one file.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from vqdist.data.sources.file_names import (
    build_keys,
    natural_key,
    parse_slice_number,
    parse_split,
    parse_subject,
    stem,
)
from vqdist.data.sources.phantom import phantom_slice
from vqdist.data.sources.pictures import has_colour, load_picture, picture_extensions
from vqdist.data.sources.volumes import slice_volume
from vqdist.foundation.errors import DataError

LAYOUTS = ("imagefolder", "oasis-png", "oasis1", "nifti")
DEMO = "demo"
_OASIS_PNG = re.compile(r"case_\d+_slice_\d+(\.nii)?\.png$", re.IGNORECASE)
_OASIS1 = re.compile(r"OAS1_\d{4}_MR\d+[^/]*_t88_masked_gfc\.(hdr|img)$", re.IGNORECASE)
_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_EXPECTED = {
    "imagefolder": "CLASS/picture.png, perhaps below train/, validate/ and test/",
    "oasis-png": "keras_png_slices_{train,validate,test}/case_NNN_slice_M.nii.png",
    "oasis1": "disc*/OAS1_NNNN_MRk/PROCESSED/MPRAGE/T88_111/*_t88_masked_gfc.{hdr,img}",
    "nifti": "files that end in .nii or .nii.gz",
}


@dataclass(frozen=True)
class SourceFile:
    """One picture, volume or synthetic brain.

    Attributes:
        source: path inside the source's folder, with slashes.
        subject: name of the subject, which is in one split only.
        key: readable and unique, without dots; the first part of the keys of its samples.
        split: split of the source's folders, or None.
        label: number of the class, or None.
        slice: slice number in the name of a picture, or None.
    """

    source: str
    subject: str
    key: str = ""
    split: str | None = None
    label: int | None = None
    slice: int | None = None


@dataclass(frozen=True)
class SourceSlice:
    """One slice: the key of its sample, its slice number or None, and its image, (C, H, W) uint8."""

    key: str
    slice: int | None
    image: npt.NDArray[np.uint8]


Reader = Callable[[SourceFile], list[SourceSlice]]


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        layout: one of LAYOUTS, or "demo".
        files: in natural order.
        channels: 1 or 3.
        class_names: name of each label; empty without classes.
        passed_over: other files in the folder, which are not part of the layout.
        read: returns the slices of a file; raises DataError, which names the file, if it cannot be read.
    """

    layout: str
    files: tuple[SourceFile, ...]
    channels: int
    class_names: tuple[str, ...]
    passed_over: tuple[str, ...]
    read: Reader

    @property
    def by_volume(self) -> bool:
        """Whether a file is a volume of many slices."""
        return self.layout in ("nifti", "oasis1")


def open_source(
    source: str | Path,
    *,
    layout: str = "auto",
    image_size: int = 256,
    channels: int | None = None,
    num_slices: int = 32,
    num_subjects: int = 24,
    seed: int = 0,
) -> Source:
    """List the files of a source.

    Args:
        source: a folder, or "demo".
        layout: one of LAYOUTS, or "auto" to detect it from the names of the files.
        image_size: rows and columns of each slice.
        channels: 1 or 3; None: 3 if any picture has colour, else 1.
        num_slices: number of axial slices from the middle of each volume.
        num_subjects, seed: of the demo.
    Raises:
        DataError: no such folder, no file of the layout in it, or files of several layouts.
    """
    if str(source) == DEMO:
        return _open_demo(image_size, channels or 1, num_slices, num_subjects, seed)
    root = Path(source)
    if not root.is_dir():
        raise DataError.of(str(root), "no such folder", "a folder of pictures or volumes, or `demo`")
    names = sorted(_walk(root), key=natural_key)
    layout = _detect_layout(names, root) if layout == "auto" else layout
    taken, passed_over = _select(names, layout, root)
    files, class_names = _list_classes(taken, root) if layout == "imagefolder" else (_parse_names(taken), ())
    keys = build_keys(_key_source(file, layout) for file in files)
    files = [replace(file, key=key) for file, key in zip(files, keys, strict=True)]
    if layout in ("nifti", "oasis1"):
        channels = channels or 1
        read = _volume_reader(root, channels, num_slices=num_slices, image_size=image_size)
    else:
        channels = channels or (3 if any(has_colour(root / file.source) for file in files) else 1)
        read = _picture_reader(root, channels, image_size=image_size)
    return Source(layout, tuple(files), channels, class_names, passed_over, read)


def _picture_reader(root: Path, channels: int, *, image_size: int) -> Reader:
    def read(file: SourceFile) -> list[SourceSlice]:
        picture = load_picture(root / file.source, image_size=image_size, channels=channels)
        return [SourceSlice(file.key, file.slice, picture)]

    return read


def _volume_reader(root: Path, channels: int, *, num_slices: int, image_size: int) -> Reader:
    def read(file: SourceFile) -> list[SourceSlice]:
        slices = slice_volume(root / file.source, num_slices=num_slices, image_size=image_size)
        return _number_slices(file, slices, channels)

    return read


def _open_demo(image_size: int, channels: int, num_slices: int, num_subjects: int, seed: int) -> Source:
    names = [f"phantom_{number:04d}" for number in range(num_subjects)]

    def read(file: SourceFile) -> list[SourceSlice]:
        options = {"num_slices": num_slices, "image_size": image_size, "seed": seed}
        subject = names.index(file.key)
        slices = np.stack([phantom_slice(subject, number, **options) for number in range(num_slices)])
        return _number_slices(file, slices, channels)

    files = tuple(SourceFile(DEMO, name, name) for name in names)
    return Source(DEMO, files, channels, (), (), read)


def _number_slices(file: SourceFile, slices: npt.NDArray[np.uint8], channels: int) -> list[SourceSlice]:
    """Build the slices of a volume, (n, H, W), with numbers from 0."""
    return [
        SourceSlice(f"{file.key}_slice_{number:03d}", number, np.repeat(image[None], channels, axis=0))
        for number, image in enumerate(slices)
    ]


def _walk(root: Path) -> Iterator[str]:
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


def _matches(name: str, layout: str) -> bool:
    if layout == "imagefolder":
        return os.path.splitext(name)[1].lower() in picture_extensions()
    return bool({"oasis-png": _OASIS_PNG, "oasis1": _OASIS1, "nifti": _NIFTI}[layout].search(name))


def _detect_layout(names: Sequence[str], root: Path) -> str:
    found = [layout for layout in ("oasis1", "nifti", "oasis-png") if any(_matches(n, layout) for n in names)]
    if len(found) > 1:
        raise DataError.of(str(root), f"files of {' and '.join(found)}", "one of them, or --layout")
    return found[0] if found else "imagefolder"


def _select(names: Sequence[str], layout: str, root: Path) -> tuple[list[str], tuple[str, ...]]:
    """Split names into those of the layout and all others; of an Analyze pair, return the header."""
    taken = [name for name in names if _matches(name, layout)]
    if not taken:
        inside = f"{len(names)} files, such as {names[0]}" if names else "an empty folder"
        raise DataError.of(str(root), inside, _EXPECTED[layout])
    passed_over = tuple(name for name in names if not _matches(name, layout))
    if layout == "oasis1":
        headers = {name[:-4] for name in taken if name.lower().endswith(".hdr")}
        halves = headers ^ {name[:-4] for name in taken if name.lower().endswith(".img")}
        if halves:
            raise DataError.of(str(root / sorted(halves)[0]), "one half of a pair", "both .hdr and .img")
        taken = [name for name in taken if name.lower().endswith(".hdr")]
    return taken, passed_over


def _parse_names(names: Sequence[str]) -> list[SourceFile]:
    """Parse the paths of volumes or OASIS slices."""
    files = []
    for name in names:
        path = PurePosixPath(name)
        splits = [split for folder in path.parts[:-1] if (split := parse_split(folder))]
        subject = parse_subject(path.name) or parse_subject(name) or stem(path)
        files.append(SourceFile(name, subject, "", splits[-1] if splits else None, None, parse_slice_number(path.name)))
    return files


def _key_source(file: SourceFile, layout: str) -> str:
    """Return the text from which the key of a file is built: its name, after the class folder if there is one."""
    path = PurePosixPath(file.source)
    if layout == "imagefolder":
        inside = path.parent.parts[1:] if file.split else path.parent.parts
        return "/".join((*inside, stem(path)))
    return stem(path)


def _list_classes(names: Sequence[str], root: Path) -> tuple[list[SourceFile], tuple[str, ...]]:
    """Return the files of an ImageFolder with their labels, and the class names, sorted as in torchvision."""
    paths = [PurePosixPath(name) for name in names]
    splits = _split_folders(paths, root)
    depth = 1 if splits else 0
    classes = sorted({path.parts[depth] for path in paths if len(path.parts) > depth + 1})
    files = []
    for path in paths:
        if classes and len(path.parts) < depth + 2:
            raise DataError.of(str(root / path), "a picture outside the class folders", "all pictures inside them")
        label = classes.index(path.parts[depth]) if classes else None
        inside = path.parts[depth + 1 :] if classes else path.parts[depth:]  # a class is not a subject
        subject = parse_subject("/".join(inside)) or str(path)
        split = splits.get(path.parts[0])
        files.append(SourceFile(str(path), subject, "", split, label, parse_slice_number(path.name)))
    return files, tuple(classes)


def _split_folders(paths: Sequence[PurePosixPath], root: Path) -> dict[str, str]:
    """Return folder -> split for the top folders of an ImageFolder; empty if they are class folders."""
    top = {path.parts[0] for path in paths if len(path.parts) > 1}
    splits = _find_splits(top)
    below = {path.parts[1] for path in paths if len(path.parts) > 2}
    if not splits and "train" in _find_splits(below).values():
        found = f"the folders of the splits inside {', '.join(sorted(top))}"
        raise DataError.of(str(root), found, "that folder as SOURCE")
    if set(splits) == top:
        return splits
    if "train" in splits.values():
        odd = sorted(top - set(splits))[0]
        raise DataError.of(str(root / odd), f"a folder beside {', '.join(sorted(splits))}", "only folders of splits")
    return {}


def _find_splits(folders: set[str]) -> dict[str, str]:
    return {folder: split for folder in folders if "_" not in folder and (split := parse_split(folder))}
