"""Sources of slices: folders of pictures, OASIS slices and discs, NIfTI volumes, and synthetic brains.

A source is a list of files, each with its subject and optionally a label and a split, and a function that reads the
slices of one file.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from vqdist.data.sources.demo_source import DEMO, open_demo
from vqdist.data.sources.file_names import build_keys, natural_key, parse_slice_number
from vqdist.data.sources.file_selection import find_masks, select_included, walk_files
from vqdist.data.sources.folders import PlacedFile, drop_classes, explain_missing_classes, place_pictures, place_volumes
from vqdist.data.sources.mask_doubts import find_mask_doubts
from vqdist.data.sources.pictures import has_colour, picture_extensions
from vqdist.data.sources.result_folders import find_overviews
from vqdist.data.sources.site_doubts import find_site_doubts
from vqdist.data.sources.slice_affines import oasis_affine, to_rows
from vqdist.data.sources.source import Reader, Source, SourceFile, SourceSlice, number_slices
from vqdist.data.sources.subject_doubts import find_class_doubts, find_subject_doubts
from vqdist.data.sources.subject_pictures import GreyRange, SubjectPictures
from vqdist.data.sources.subjects import (
    BY_NAME_OR_FOLDER,
    Subject,
    SubjectOptions,
    describe_subjects,
    identify_subjects,
)
from vqdist.data.sources.unsupported_formats import check_formats, explain_file
from vqdist.data.sources.volume_kinds import find_kind_doubts
from vqdist.data.sources.volumes import cut_middle
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import AffineRows
from vqdist.foundation.printable_text import printable
from vqdist.foundation.progress import count_noun, print_message
from vqdist.foundation.run_status import is_run

LAYOUTS = ("imagefolder", "oasis-png", "oasis1", "nifti")
_OASIS_PNG = re.compile(r"case_\d+_slice_\d+(\.nii)?\.png$", re.IGNORECASE)
_OASIS1 = re.compile(r"OAS1_\d{4}_MR\d+[^/]*_t88_masked_gfc\.(hdr|img)$", re.IGNORECASE)
_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_EXPECTED = {
    "any": "CLASS/picture.png, volumes that end in .nii or .nii.gz, or another layout of `vqdist shard --help`",
    "imagefolder": "CLASS/picture.png, perhaps below train/, validate/ and test/",
    "oasis-png": "keras_png_slices_{train,validate,test}/case_NNN_slice_M.nii.png",
    "oasis1": "disc*/OAS1_NNNN_MRk/PROCESSED/MPRAGE/T88_111/*_t88_masked_gfc.{hdr,img}",
    "nifti": "files that end in .nii or .nii.gz",
}


def open_source(
    source: str | Path,
    *,
    layout: str = "auto",
    image_size: int = 256,
    channels: int | None = None,
    num_slices: int = 32,
    num_subjects: int = 24,
    seed: int = 0,
    include: Sequence[str] = (),
    subjects: SubjectOptions = BY_NAME_OR_FOLDER,
    grey_range: GreyRange = "auto",
) -> Source:
    """List the files of a source.

    Args:
        source: a folder, or "demo".
        layout: one of LAYOUTS, or "auto" to detect it from the names of the files.
        image_size: rows and columns of each slice.
        channels: 1 or 3; None: 3 if any picture has colour, else 1.
        num_slices: number of axial slices of each volume.
        num_subjects, seed: of the demo.
        include: patterns of the paths to take; empty: all.
        subjects: how to identify the subjects.
        grey_range: of grey pictures of more than 8 bits; see SubjectPictures.
    Raises:
        DataError: no such folder, a run, no file of the layout in it, files of several layouts, or files without a
            subject.
    """
    if str(source) == DEMO:
        return open_demo(image_size, channels or 1, num_slices, num_subjects, seed)
    root = Path(source)
    if root.is_file():
        raise explain_file(root, _EXPECTED["any"], is_read=any(_matches(root.name, layout) for layout in LAYOUTS))
    if not root.is_dir():
        raise DataError.of(str(root), "no such folder", "a folder of pictures or volumes, or `demo`")
    if is_run(root):
        raise DataError.of(str(root), "the folder of a run", "a folder of pictures or volumes, or `demo`")
    found_names = sorted(walk_files(root), key=natural_key)
    names = select_included(found_names, include, where=str(root))
    detected = layout == "auto"
    layout = _detect_layout(names, root) if detected else layout
    overviews = find_overviews(found_names) if layout == "imagefolder" else set()
    taken, passed_over = _select(names, layout, root, detected=detected, overviews=overviews)
    masks = (
        find_masks(taken, include, pictures=layout == "imagefolder") if layout in ("imagefolder", "nifti") else set()
    )
    taken, masked = [name for name in taken if name not in masks], tuple(name for name in taken if name in masks)
    placed = place_pictures(taken, root) if layout == "imagefolder" else place_volumes(taken)
    placed, found = _identify(placed, subjects, pictures=layout in ("imagefolder", "oasis-png"), root=root)
    class_names = tuple(sorted({file.class_name for file in placed if file.class_name is not None}))
    files = _build_files(placed, found, class_names, layout)
    if layout in ("nifti", "oasis1"):
        channels = channels or 1
        read: Reader = partial(_read_volume, root=root, channels=channels, num_slices=num_slices, image_size=image_size)
    else:
        channels = channels or (3 if any(has_colour(root / file.source) for file in files) else 1)
        affine = oasis_affine(image_size) if layout == "oasis-png" else None
        pictures = _list_pictures(root, files, channels, image_size=image_size, grey_range=grey_range)
        read = partial(_read_picture, pictures, affine)
    doubts = find_class_doubts(class_names) + find_subject_doubts(placed, found)
    if layout in ("imagefolder", "nifti"):
        doubts += find_mask_doubts(taken, include, root_name=root.resolve().name)
    doubts += find_site_doubts(placed, found, pictures=layout == "imagefolder")
    if layout == "nifti":
        doubts += find_kind_doubts(placed, found, include)
    summary = describe_subjects(found, [file.class_name for file in placed])
    classes = tuple(map(printable, class_names))
    no_classes = printable(explain_missing_classes(placed)) if layout == "imagefolder" else ""
    return Source(
        layout, tuple(files), channels, classes, passed_over, read, masked, summary, no_classes, tuple(doubts)
    )


def _identify(
    placed: list[PlacedFile], options: SubjectOptions, *, pictures: bool, root: Path
) -> tuple[list[PlacedFile], list[Subject]]:
    """Return the files and their subjects. Class folders that are one subject each are no classes."""
    if options.origin == "folder" and not any(file.informative_folders for file in placed):
        placed = drop_classes(placed)
    found = identify_subjects(placed, options, pictures=pictures, root_name=root.resolve().name)
    if all(file.class_name == subject.name for file, subject in zip(placed, found, strict=True)):
        placed = drop_classes(placed)
    return placed, found


def _build_files(
    placed: Sequence[PlacedFile], subjects: Sequence[Subject], class_names: Sequence[str], layout: str
) -> list[SourceFile]:
    """Return the files with their keys, labels and slice numbers."""
    stems = Counter(file.stem.lower() for file in placed)
    labels = {name: label for label, name in enumerate(class_names)}
    texts = [
        _key_source(
            file, with_folders=layout == "imagefolder" or stems[file.stem.lower()] > 1 or found.rule == "folder"
        )
        for file, found in zip(placed, subjects, strict=True)
    ]
    return [
        SourceFile(
            source=file.path,
            subject=printable(found.name),
            key=key,
            split=file.split,
            label=None if file.class_name is None else labels[file.class_name],
            slice=parse_slice_number(file.name),
        )
        for file, found, key in zip(placed, subjects, build_keys(texts), strict=True)
    ]


def _key_source(file: PlacedFile, *, with_folders: bool) -> str:
    """Return the text from which the key of a file is built: its name, after its folders below that of the split."""
    folders = file.folders if file.class_name is None else (file.class_name, *file.folders)
    return "/".join((*folders, file.stem)) if with_folders else file.stem


def _list_pictures(
    root: Path, files: Sequence[SourceFile], channels: int, *, image_size: int, grey_range: GreyRange
) -> SubjectPictures:
    listed = ((file.source, file.subject) for file in files)
    return SubjectPictures(root, listed, image_size=image_size, channels=channels, grey_range=grey_range)


def _read_picture(
    pictures: SubjectPictures,
    affine: AffineRows | None,
    file: SourceFile,
    report: Callable[[str], None] = print_message,
) -> list[SourceSlice]:
    return [SourceSlice(file.key, file.slice, pictures.load(file.source, file.subject, report), affine)]


def _read_volume(
    file: SourceFile,
    report: Callable[[str], None] = print_message,
    *,
    root: Path,
    channels: int,
    num_slices: int,
    image_size: int,
) -> list[SourceSlice]:
    slices, affine = cut_middle(root / file.source, num_slices=num_slices, image_size=image_size)
    return number_slices(file, slices, channels, to_rows(affine))


def _matches(name: str, layout: str) -> bool:
    if layout == "imagefolder":
        return os.path.splitext(name)[1].lower() in picture_extensions()
    return bool({"oasis-png": _OASIS_PNG, "oasis1": _OASIS1, "nifti": _NIFTI}[layout].search(name))


def _detect_layout(names: Sequence[str], root: Path) -> str:
    found = [layout for layout in ("oasis1", "nifti", "oasis-png") if any(_matches(n, layout) for n in names)]
    if len(found) > 1:
        examples = [f"{layout} ({next(n for n in names if _matches(n, layout))})" for layout in found]
        expected = f"the folder of one of these layouts, or --layout {' or '.join(found)}"
        raise DataError.of(str(root), f"files of several layouts: {', '.join(examples)}", expected)
    if not found:
        check_formats(names, root, is_picture=lambda name: _matches(name, "imagefolder"))
    return found[0] if found else "imagefolder"


def _select(
    names: Sequence[str], layout: str, root: Path, *, detected: bool, overviews: Collection[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Split names into those of the layout and all others, with overviews; of an Analyze pair, return the header."""
    taken = [name for name in names if _matches(name, layout) and name not in overviews]
    if not taken and (shown := [name for name in names if name in overviews]):
        raise DataError.of(str(root), f"only figures of slices, such as {shown[0]}", "pictures of single slices")
    if not taken:
        check_formats(names, root)
        inside = f"{count_noun(len(names), 'file')}, such as {names[0]}" if names else "an empty folder"
        raise DataError.of(str(root), inside, _EXPECTED["any" if detected else layout])
    passed_over = tuple(name for name in names if not _matches(name, layout) or name in overviews)
    if layout == "oasis1":
        headers = {name[:-4] for name in taken if name.lower().endswith(".hdr")}
        halves = headers ^ {name[:-4] for name in taken if name.lower().endswith(".img")}
        if halves:
            raise DataError.of(str(root / sorted(halves)[0]), "one half of a pair", "both .hdr and .img")
        taken = [name for name in taken if name.lower().endswith(".hdr")]
    return taken, passed_over
