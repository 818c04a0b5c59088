"""Index one third-party shard: group its members into samples, choose their pictures, and read their fields."""

import io
import os
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from vqdist.data.shards.codecs import is_turned, read_picture_size
from vqdist.data.shards.findings import Findings
from vqdist.data.shards.png import check_png_chunks
from vqdist.data.shards.sample_fields import SIMILAR_TO_LABEL, read_fields
from vqdist.data.shards.tar_members import clean_name, find_member_fault, is_passed_over, scan_tar, split_name
from vqdist.foundation.errors import DataError, Problem, list_examples

READABLE = ("png", "jpg", "jpeg")
PICTURES = (*READABLE, "webp", "tif", "tiff", "bmp", "gif", "ppm", "pgm", "pbm", "pnm", "jp2")


@dataclass(frozen=True)
class IndexSettings:
    """How third-party shards are indexed.

    Attributes:
        image_key: extension of the pictures; None: each sample has one picture. Alternatives are separated by `;`.
        skip_unusable: leave out samples and shards that cannot be used, instead of raising.
    """

    image_key: str | None = None
    skip_unusable: bool = False

    @property
    def extensions(self) -> tuple[str, ...]:
        """The extensions of image_key, in lower case and without a leading dot."""
        return tuple(part.strip().lstrip(".").lower() for part in (self.image_key or "").split(";") if part.strip(" ."))


@dataclass
class Members:
    """The members of one sample: extension -> member, and the names of those that were refused."""

    key: str
    members: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    fault: Problem | None = None


@dataclass(frozen=True)
class FoundSample:
    """A usable sample.

    Attributes:
        span: offset, size and crc32 of its picture.
        name: what precedes the format in the extension of the picture: "" for KEY.png, "seg" for KEY.seg.png; "" for
            all pictures if image_key chooses them.
        size, channels: (H, W) and 1 or 3.
        info: subject, source, slice and label.
        is_choice: image_key chose another picture than earlier versions of vqdist did.
    """

    key: str
    where: str
    span: tuple[int, int, int]
    name: str
    size: tuple[int, int]
    channels: int
    info: dict[str, Any]
    is_choice: bool = False

    @property
    def shape(self) -> str:
        """The size as text: rows x columns x channels."""
        return f"{self.size[0]} x {self.size[1]} x {self.channels}"


def read_shard(tar: Path, settings: IndexSettings, findings: Findings) -> list[FoundSample]:
    """Return the usable samples of a shard, in their order; everything else goes to the findings.

    If the tar is damaged, its samples before the damage are returned.

    Raises:
        OSError: the tar cannot be read.
    """
    samples: dict[str, Members] = {}
    with open(tar, "rb") as file:
        group_members(file, tar, samples, findings)
        found = [_try_read(file, tar, sample, settings, findings) for sample in samples.values()]
    return [sample for sample in found if sample is not None]


def group_members(file: BinaryIO, tar: Path, samples: dict[str, Members], findings: Findings) -> None:
    """Group the members of a tar by their keys."""
    last = None
    try:
        for member in scan_tar(file, tar):
            if not is_passed_over(member):
                last = _add_member(member, tar, samples, findings) or last
    except DataError as error:
        findings.leave_out(error.problems[0])
        if last is not None:
            samples.pop(last, None)  # members of it may be behind the damage


def _add_member(member: tarfile.TarInfo, tar: Path, samples: dict[str, Members], findings: Findings) -> str | None:
    """Add a member to its sample and return the key."""
    name = clean_name(member.name)
    key, extension = split_name(name)
    if not extension or not key.rpartition("/")[2]:
        findings.note("no extension", f"{name[:80]} in {tar.name}")
        return None
    sample = samples.setdefault(key, Members(key))
    where = f"{tar}, sample {key[:200]}"
    member.name = name
    if fault := find_member_fault(member):
        is_link = member.islnk() or member.issym()
        hint = "; `tar --dereference --hard-dereference` stores files instead of links" if is_link else ""
        sample.fault = sample.fault or Problem(where, fault, f"plain KEY.EXTENSION files{hint}")
    elif extension in sample.members:
        both = {sample.members[extension].name, name}
        found = f"{name} twice" if len(both) == 1 else f"{' and '.join(sorted(both))}, which have the same extension"
        sample.fault = sample.fault or Problem(where, found, "each file once in a shard")
    else:
        sample.members[extension] = member
    return key


def _try_read(
    file: BinaryIO, tar: Path, sample: Members, settings: IndexSettings, findings: Findings
) -> FoundSample | None:
    """Read one sample; None if it cannot be used."""
    where = f"{tar}, sample {sample.key[:200]}"
    try:
        if sample.fault is not None:
            raise DataError([sample.fault])
        return _read_sample(file, sample, settings, findings, where)
    except DataError as error:
        findings.leave_out(error.problems[0])
        return None


def _read_sample(
    file: BinaryIO, sample: Members, settings: IndexSettings, findings: Findings, where: str
) -> FoundSample:
    members = sample.members
    extension = choose_picture({name: member.name for name, member in members.items()}, settings, where)
    payload = _read(file, members[extension])
    size, channels = read_picture_size(payload, where)
    try:
        check_png_chunks(io.BytesIO(payload))
    except ValueError as error:
        raise DataError.of(where, f"a damaged picture ({error})", "a whole picture") from error
    if is_turned(payload):
        findings.note("turned", members[extension].name[:80])
    data = {name: _read(file, members[name]) if name in members else None for name in ("json", "cls")}
    fields = read_fields(data["json"], data["cls"], where=where)
    for name, value in fields.not_understood.items():
        findings.note(name, f"{value} in {sample.key[:80]}")
    if fields.other_label is not None:
        findings.note("two labels", f"{fields.info['label']} and {fields.other_label} in {sample.key[:80]}")
    similar = fields.similar_field or next((name for name in members if name in SIMILAR_TO_LABEL - {"cls"}), None)
    if fields.info["label"] is None and similar is not None:
        findings.note("other label", f"{similar} in {sample.key[:80]}")
    return FoundSample(
        sample.key,
        where,
        (members[extension].offset_data, len(payload), zlib.crc32(payload)),
        "" if settings.extensions else extension.rpartition(".")[0],
        size,
        channels,
        fields.info,
        is_choice=_is_choice(extension, list_pictures(members)),
    )


def _read(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    return os.pread(file.fileno(), member.size, member.offset_data)


def list_pictures(extensions: Mapping[str, Any]) -> list[str]:
    """Return the extensions of pictures, such as png and seg.png, among those of a sample."""
    return [name for name in extensions if name.rpartition(".")[2] in PICTURES]


def _is_choice(extension: str, pictures: list[str]) -> bool:
    """Whether a picture is another one than earlier versions took: the first of png, jpg and jpeg."""
    return len(pictures) > 1 and extension != next((name for name in READABLE if name in pictures), None)


def choose_picture(names: Mapping[str, str], settings: IndexSettings, where: str) -> str:
    """Return the extension of the picture of a sample.

    Args:
        names: extension -> name of each member of the sample.
    Raises:
        DataError: no picture, or several without settings.image_key.
    """
    if wanted := settings.extensions:
        chosen = next((extension for extension in wanted if extension in names), None)
        if chosen is None:
            expected = f"a member with the extension {' or '.join(wanted)}, which image_key names"
            raise DataError.of(where, list_examples(names.values()), expected)
        return chosen
    pictures = list_pictures(names)
    if len(pictures) > 1:
        found = f"{len(pictures):,} pictures: {list_examples([names[name] for name in pictures])}"
        raise DataError.of(where, found, _describe_choice(pictures))
    if not pictures or pictures[0].rpartition(".")[2] not in READABLE:
        expected = (
            f"a picture, {', '.join(READABLE[:-1])} or {READABLE[-1]}; `vqdist shard` converts "
            "other formats, from the tars; on_error skip leaves out samples without a picture"
        )
        raise DataError.of(where, list_examples(names.values()), expected)
    return pictures[0]


def _describe_choice(pictures: list[str]) -> str:
    choices = list_examples([f"--data.image_key {name}" for name in pictures[:2]], separator=" or ")
    expected = f"one picture; choose one for all samples, such as {choices} (--image-key of encode and evaluate)"
    if any("." in name for name in pictures):
        expected += ". A key ends at the first dot of a file name: if these are different samples, rename them"
    return expected
