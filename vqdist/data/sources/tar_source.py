"""Tars as a source: WebDataset shards of pictures in any format and size, which become a dataset of one size."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from vqdist.data.remote.download import is_url
from vqdist.data.shards.findings import Findings
from vqdist.data.shards.sample_fields import read_fields
from vqdist.data.shards.shard_files import find_shards
from vqdist.data.shards.shard_indexer import Members, group_members
from vqdist.data.shards.tar_lists import list_local_tars, names_tars
from vqdist.data.shards.third_party import find_split
from vqdist.data.sources.demo_source import DEMO
from vqdist.data.sources.file_names import build_keys, parse_slice_number
from vqdist.data.sources.file_selection import matches_glob
from vqdist.data.sources.folders import PlacedFile
from vqdist.data.sources.pictures import PictureBytes, has_colour, load_picture, picture_extensions
from vqdist.data.sources.source import Source, SourceFile, SourceSlice
from vqdist.data.sources.subjects import (
    BY_NAME_OR_FOLDER,
    Subject,
    SubjectOptions,
    describe_subjects,
    identify_subjects,
)
from vqdist.foundation.errors import DataError, list_examples
from vqdist.foundation.progress import print_message

LAYOUT = "webdataset"


@dataclass(frozen=True)
class _Picture:
    """The picture of a sample: its tar, and its place in it; and the fields of the sample."""

    tar: Path
    offset: int
    size: int
    placed: PlacedFile
    info: dict[str, Any]

    def read(self) -> PictureBytes:
        """Read the bytes of the file."""
        with open(self.tar, "rb") as file:
            return PictureBytes(f"{self.tar}, {self.placed.path}", os.pread(file.fileno(), self.size, self.offset))


def find_source_tars(source: str, layout: str) -> tuple[Path, tuple[Path, ...]] | None:
    """Return the common folder of the tars that a source names or holds, and the tars; None for another source.

    A folder with a picture or a volume beside tars is not taken for one of shards, unless the layout says so.

    Raises:
        DataError: tars that do not exist.
    """
    if source == DEMO or layout not in ("auto", LAYOUT):
        return None
    if is_url(source.split("::")[0]):
        raise DataError.of("SOURCE", source[:200], "files on this machine; train reads shards at URLs by --data.path")
    root = Path(source)
    if names_tars(source) and not root.is_dir():
        return list_local_tars(source)
    tars = find_shards(root).tars if root.is_dir() else ()
    if layout == LAYOUT and not tars:
        raise DataError.of(source, "no tars", "a tar, a pattern of tars, or a folder that contains some")
    others = [] if layout == LAYOUT else [path for path in root.rglob("*") if _is_other_source(path)]
    return (root, tars) if tars and not others else None


def _is_other_source(path: Path) -> bool:
    name = path.name.lower()
    return path.suffix.lower() in picture_extensions() or name.endswith((".nii", ".nii.gz", ".hdr"))


def open_tars(
    folder: Path,
    tars: Sequence[Path],
    *,
    image_size: int,
    channels: int | None = None,
    include: Sequence[str] = (),
    subjects: SubjectOptions = BY_NAME_OR_FOLDER,
    skip_unusable: bool = False,
) -> Source:
    """List the samples of tars. KEY.json and KEY.cls give subject, slice number and label, else the names do.

    Args:
        folder: folder of the tars; the names of the folders below it may state the split.
        image_size: rows and columns of each slice.
        channels: 1 or 3; None: 3 if any picture has colour, else 1.
        include: patterns of the names of the pictures to take; empty: all.
        subjects: how to identify the subjects that no KEY.json names.
        skip_unusable: leave out samples that cannot be used, instead of raising.
    Raises:
        DataError: a tar is damaged, a sample has no picture or several, or there is no sample.
    """
    findings = Findings(str(folder))
    pictures = [found for tar in tars for found in _list_pictures(folder, tar, include, findings)]
    if not skip_unusable:
        findings.raise_problems()
    for line in findings.describe():
        print_message(f"{folder}: {line}")
    if not pictures:
        raise DataError.of(str(folder), "no samples with a picture in its tars", "KEY.png, KEY.jpg or another picture")
    found = _identify(pictures, subjects, folder)
    keys = build_keys(_list_key_sources(pictures))
    files = [
        SourceFile(
            f"{picture.tar.relative_to(folder)}/{picture.placed.path}",
            subject.name,
            key,
            picture.placed.split,
            picture.info["label"],
            picture.info["slice"],
        )
        for picture, subject, key in zip(pictures, found, keys, strict=True)
    ]
    by_key = dict(zip(keys, pictures, strict=True))
    chosen = channels or (3 if any(has_colour(picture.read()) for picture in pictures) else 1)
    read = partial(_read_slice, by_key, image_size=image_size, channels=chosen)
    return Source(LAYOUT, tuple(files), chosen, (), (), read, subject_summary=describe_subjects(found))


def _read_slice(
    pictures: Mapping[str, _Picture],
    file: SourceFile,
    report: Callable[[str], None] = print_message,
    *,
    image_size: int,
    channels: int,
) -> list[SourceSlice]:
    image = load_picture(pictures[file.key].read(), image_size=image_size, channels=channels, report=report)
    return [SourceSlice(file.key, file.slice, image)]


def _list_pictures(folder: Path, tar: Path, include: Sequence[str], findings: Findings) -> list[_Picture]:
    """Return the picture of each sample of a tar; what cannot be used goes to the findings."""
    samples: dict[str, Members] = {}
    split, pictures = find_split(tar.relative_to(folder)), []
    with open(tar, "rb") as file:
        group_members(file, tar, samples, findings)
        for sample in samples.values():
            try:
                pictures.append(_choose_picture(file.fileno(), tar, sample, include, split, findings))
            except DataError as error:
                findings.leave_out(error.problems[0])
    return pictures


def _choose_picture(
    file: int, tar: Path, sample: Members, include: Sequence[str], split: str | None, findings: Findings
) -> _Picture:
    where = f"{tar}, sample {sample.key[:200]}"
    if sample.fault is not None:
        raise DataError([sample.fault])
    found = [member for name, member in sample.members.items() if f".{name.rpartition('.')[2]}" in picture_extensions()]
    taken = [member for member in found if not include or any(matches_glob(member.name, each) for each in include)]
    if len(taken) != 1:
        names = list_examples([member.name for member in taken or sample.members.values()])
        endings = [PurePosixPath(member.name).name.partition(".")[2] for member in taken]
        advice = f"; --include '*.{endings[0]}' takes one for all samples" if taken else ""
        raise DataError.of(where, f"{len(taken)} pictures: {names}", f"one picture{advice}")
    data = {
        name: os.pread(file, sample.members[name].size, sample.members[name].offset_data)
        for name in ("json", "cls")
        if name in sample.members
    }
    fields = read_fields(data.get("json"), data.get("cls"), where=where)
    for name, value in fields.not_understood.items():
        findings.note(name, f"{value} in {sample.key[:80]}")
    member = taken[0]
    info = {**fields.info}
    if info["slice"] is None:
        info["slice"] = parse_slice_number(PurePosixPath(member.name).name)
    placed = PlacedFile(member.name, PurePosixPath(member.name).parts[:-1], split)
    return _Picture(tar, member.offset_data, member.size, placed, info)


def _identify(pictures: Sequence[_Picture], options: SubjectOptions, folder: Path) -> list[Subject]:
    """Return the subject of each picture: that of its KEY.json, unless the user asks for another rule."""
    placed = [picture.placed for picture in pictures]
    by_name = identify_subjects(placed, options, pictures=True, root_name=folder.resolve().name)
    if options != BY_NAME_OR_FOLDER:
        return by_name
    return [
        found if picture.info["subject"] is None else Subject(str(picture.info["subject"]), "json")
        for picture, found in zip(pictures, by_name, strict=True)
    ]


def _list_key_sources(pictures: Sequence[_Picture]) -> list[str]:
    """Return the text from which the key of each picture is built: its name, with its tar where names repeat."""
    counts = Counter(picture.placed.path for picture in pictures)
    return [
        (f"{picture.tar.stem}/" if counts[picture.placed.path] > 1 else "") + picture.placed.path.rpartition(".")[0]
        for picture in pictures
    ]
