"""The index of a shard: offset, size and crc32 of each member of each sample.

A tar does not reveal that it was truncated or that a header is damaged: readers stop early without an error. With
the index, a sample is read by its offset and verified by its checksum.
"""

import json
import tarfile
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqdist.data.shards.manifest import ShardInfo
from vqdist.data.shards.tar_members import BLOCK, MAX_MEMBER_BYTES, find_member_fault, refuse, scan_tar, split_name
from vqdist.foundation.errors import DamagedDataError
from vqdist.foundation.json_validation import parse_json

INDEX_VERSION = 1
MAX_INFO_BYTES = 2**20
_MAX_INDEX_BYTES_PER_SAMPLE = 2**14


def index_path(shard: Path) -> Path:
    """Return the path of a shard's index: shard-000000.index.json beside shard-000000.tar."""
    return shard.with_name(shard.name.removesuffix(".tar") + ".index.json")


def max_index_bytes(samples: int) -> int:
    """Return the maximum size of the index of a shard with this number of samples."""
    return 4096 + samples * _MAX_INDEX_BYTES_PER_SAMPLE


@dataclass(frozen=True)
class ShardIndex:
    """A parsed index, with 48 bytes per sample in addition to its key.

    Attributes:
        keys, subjects: one per sample; a subject is None in third-party shards without subjects.
        spans: six numbers per sample: offset, size and crc32 of the payload, then of the JSON.
        infos: for third-party shards, the content that a sample's JSON would have; else empty.
    """

    keys: list[str]
    subjects: list[str | None]
    spans: array
    infos: list[dict[str, Any]]


def is_sound_header(header: bytes) -> bool:
    """Whether a block of 512 bytes is a tar header with a correct checksum, which is the sum of its bytes."""
    checksum = header[148:156].strip(b" \0")
    if len(header) != BLOCK or not checksum or checksum.strip(b"01234567"):
        return False
    # The lower half of Adler-32 is the sum of all bytes, plus 1, modulo 65521. The field itself counts as spaces.
    total = zlib.adler32(header[:148] + b" " * 8 + header[156:]) & 0xFFFF
    return (total - 1 - int(checksum, 8)) % 65521 == 0 or _has_signed_checksum(header)


def _has_signed_checksum(header: bytes) -> bool:
    """Whether the checksum is correct as the sum of signed bytes, which some old tar programs wrote."""
    try:
        tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def parse_index(data: bytes, shard: ShardInfo, *, extension: str, where: str) -> ShardIndex:
    """Decode an index and check every value against the shard's size in the manifest.

    Args:
        shard: the shard's entry in the manifest.
        extension: extension of the payload, "png" or "npy".
        where: name of the index in an error.
    Raises:
        DamagedDataError: another number of samples, a member outside the shard, a duplicate key, and so on.
    """
    values = parse_json(data, where)
    samples = values.get("samples") if isinstance(values, dict) else None
    if not isinstance(samples, list) or len(samples) != shard.samples:
        found = len(samples) if isinstance(samples, list) else "no list of"
        raise DamagedDataError.of(where, f"{found} samples", f"{shard.samples}, as in the manifest")
    index = ShardIndex([], [], array("q"), [])
    for number, sample in enumerate(samples):
        problem = _add_sample(index, sample, shard.bytes, extension)
        if problem:
            raise DamagedDataError.of(f"{where}, sample {number}", problem, f"{extension} and json in the shard")
    if index.infos and len(index.infos) != len(index.keys):
        raise DamagedDataError.of(where, f"{len(index.infos)} infos", f"none or {len(index.keys)}")
    if len(set(index.keys)) != len(index.keys):
        raise DamagedDataError.of(where, "a duplicate key", "each key once")
    return index


def _add_sample(index: ShardIndex, sample: Any, shard_bytes: int, extension: str) -> str | None:
    """Append one sample to the index, or return what is wrong with it."""
    if not isinstance(sample, dict) or not isinstance(sample.get("members"), dict):
        return "an entry without key and members"
    key, subject, members = sample.get("key"), sample.get("subject"), sample["members"]
    if not isinstance(key, str) or not (subject is None or isinstance(subject, str)):
        return f"key {str(key)[:80]!r}, subject {str(subject)[:80]!r}"
    if isinstance(sample.get("info"), dict):
        index.infos.append(sample["info"])
        members = {**members, "json": [0, 0, 0]}
    for name, limit in ((extension, MAX_MEMBER_BYTES), ("json", MAX_INFO_BYTES)):
        span = members.get(name)
        if not isinstance(span, list) or len(span) != 3 or any(type(x) is not int or x < 0 for x in span):
            return f"{name} at {str(span)[:80]}"
        if span[0] + span[1] > shard_bytes or span[1] > limit or span[2] >= 2**32:
            return f"{name} at {str(span)[:80]} of a shard of {shard_bytes} bytes"
        index.spans.extend(span)
    index.keys.append(key)
    index.subjects.append(subject)
    return None


def build_index(shard: Path) -> dict[str, Any]:
    """Read a whole tar that vqdist wrote and return its index as JSON values.

    Raises:
        DamagedDataError: damage anywhere in the tar, or a member that is no KEY.EXTENSION file; names the shard and the
            offset.
    """
    samples: dict[str, dict[str, Any]] = {}
    with open(shard, "rb") as file:
        for member in scan_tar(file, shard):
            if fault := find_member_fault(member):
                refuse(shard, member.offset, fault)
            file.seek(member.offset_data)
            data = file.read(member.size)
            key, extension = split_name(member.name)
            sample = samples.setdefault(key, {"key": key, "subject": None, "members": {}})
            if not extension or extension in sample["members"]:
                refuse(shard, member.offset, f"a member {member.name!r}")
            sample["members"][extension] = [member.offset_data, member.size, zlib.crc32(data)]
            if extension == "json":
                sample["subject"] = _subject(data, f"{shard}, {member.name}")
    return {"format_version": INDEX_VERSION, "shard": shard.name, "samples": list(samples.values())}


def encode_index(index: dict[str, Any]) -> bytes:
    """Return the bytes of an index file, with one line per sample."""
    lines = ",\n".join(json.dumps(sample) for sample in index["samples"])
    head = json.dumps({"format_version": index["format_version"], "shard": index["shard"]})
    return f'{head[:-1]}, "samples": [\n{lines}\n]}}\n'.encode()


def _subject(data: bytes, where: str) -> str | None:
    info = parse_json(data, where)
    subject = info.get("subject") if isinstance(info, dict) else None
    return subject if isinstance(subject, str) else None
