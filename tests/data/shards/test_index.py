"""The index of a shard: it agrees with the tar, and a damaged tar or index is refused."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from support.noise_images import read_all, read_index

from vqdist.data.shards.index import (
    BLOCK,
    build_index,
    encode_index,
    index_path,
    is_sound_header,
    max_index_bytes,
    parse_index,
)
from vqdist.data.shards.manifest import MANIFEST, ShardInfo
from vqdist.foundation.errors import DamagedDataError, DataError


def make_tar(path: Path, name: str, data: bytes = b"x", **values: object) -> Path:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for key, value in values.items():
            setattr(member, key, value)
        tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


def test_the_index_agrees_with_the_tar(noise_set: Path) -> None:
    shard = noise_set / "train" / "shard-000000.tar"
    data = shard.read_bytes()
    for sample in read_index(shard)["samples"]:
        for extension, (offset, size, _) in sample["members"].items():
            with tarfile.open(shard) as tar:
                member = tar.extractfile(f"{sample['key']}.{extension}")
                assert member is not None
                assert member.read() == data[offset : offset + size]


def test_parsing_returns_what_was_built(noise_set: Path) -> None:
    shard = noise_set / "train" / "shard-000000.tar"
    info = ShardInfo("train/shard-000000.tar", 4, shard.stat().st_size, "a" * 64)
    data = index_path(shard).read_bytes()
    assert len(data) <= max_index_bytes(4)
    index = parse_index(data, info, extension="png", where="here")
    samples = build_index(shard)["samples"]
    assert index.keys == [sample["key"] for sample in samples]
    assert index.subjects == ["train-0", "train-0", "train-0", "train-1"]
    assert index.infos == []
    expected = [number for sample in samples for name in ("png", "json") for number in sample["members"][name]]
    assert index.spans.tolist() == expected
    with pytest.raises(DamagedDataError, match=r"here, sample 0: found npy at None"):
        parse_index(data, info, extension="npy", where="here")
    with pytest.raises(DamagedDataError, match=r"here: found 4 samples; expected 5"):
        parse_index(data, ShardInfo(info.name, 5, info.bytes, info.sha256), extension="png", where="here")


def test_a_duplicate_key_is_refused(noise_set: Path) -> None:
    shard = noise_set / "train" / "shard-000000.tar"
    index = read_index(shard)
    index["samples"][1]["key"] = index["samples"][0]["key"]
    info = ShardInfo("s.tar", 4, shard.stat().st_size, "a" * 64)
    with pytest.raises(DamagedDataError, match="a duplicate key"):
        parse_index(encode_index(index), info, extension="png", where="here")


def test_tar_headers_are_checked_by_their_checksum(noise_set: Path) -> None:
    header = (noise_set / "train" / "shard-000000.tar").read_bytes()[:BLOCK]
    assert is_sound_header(header)
    for bit in range(0, 8 * BLOCK, 7):
        flipped = bytearray(header)
        flipped[bit // 8] ^= 1 << bit % 8
        # Only a bit of the field's padding changes nothing.
        assert not is_sound_header(bytes(flipped)) or bit // 8 in range(148, 156)
    assert not is_sound_header(bytes(BLOCK))
    assert not is_sound_header(header[:-1])


def test_signed_checksums_of_old_tar_programs_are_accepted() -> None:
    member = tarfile.TarInfo("é.png")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT)[:BLOCK])
    signed = sum(byte - 256 * (byte > 127) for byte in header[:148] + b" " * 8 + header[156:])
    assert signed != sum(header[:148] + b" " * 8 + header[156:])
    header[148:156] = b"%06o\0 " % signed
    assert is_sound_header(bytes(header))
    header[148:156] = b"%06o\0 " % (signed + 1)
    assert not is_sound_header(bytes(header))


def test_a_wrong_index_is_refused(noise_set: Path) -> None:
    shard = noise_set / "train" / "shard-000000.tar"
    path = noise_set / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["shards"][0]["index_sha256"] = None
    path.write_text(json.dumps(manifest))
    good = read_index(shard)
    for span in ([0, 2**40, 0], [-1, 5, 0], [0, 5], [0, 5, 2**32], ["0", 5, 0], [True, 5, 0], None):
        bad = json.loads(json.dumps(good))
        bad["samples"][1]["members"]["png"] = span
        index_path(shard).write_text(json.dumps(bad))
        with pytest.raises(DamagedDataError, match=r"index\.json, sample 1"):
            read_all(noise_set)
    for text in ('{"samples": []}', "[]", "[" * 100_000, '{"samples": NaN}', "x" * 10**6):
        index_path(shard).write_text(text)
        with pytest.raises(DataError, match=r"index\.json"):
            read_all(noise_set)


def damage_cases(data: bytes) -> dict[str, bytes]:
    """Return damaged tars that WebDataset reads without an error (all but a flipped payload bit)."""
    header = data.index(b"train_001.json")
    flipped = bytearray(data)
    flipped[header + 3] ^= 1
    zeroed = bytearray(data)
    zeroed[header : header + 1024] = bytes(1024)
    return {
        "cut at a sample boundary": data[:header],
        "cut in a header": data[: header + 100],
        "cut between members": data[: data.index(b"train_001.png")],
        "a header bit": bytes(flipped),
        "two zeroed blocks": bytes(zeroed),
        "something behind the end": data + b"x" * 512,
    }


def test_indexing_refuses_a_damaged_tar(noise_set: Path, tmp_path: Path) -> None:
    data = (noise_set / "train" / "shard-000000.tar").read_bytes()
    for name, damaged in damage_cases(data).items():
        shard = tmp_path / f"{name}.tar"
        shard.write_bytes(damaged)
        with pytest.raises(DamagedDataError, match=f"{name}.tar, offset"):
            build_index(shard)


def test_indexing_refuses_dangerous_members(tmp_path: Path) -> None:
    for name in ("../a.png", "/etc/a.png", "a/../../b.png"):
        with pytest.raises(DamagedDataError, match="a member named"):
            build_index(make_tar(tmp_path / "x.tar", name))
    with pytest.raises(DamagedDataError, match="not a plain file"):
        build_index(make_tar(tmp_path / "x.tar", "a.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"))
    claimed = tarfile.TarInfo("a.png")
    claimed.size = 2**40
    (tmp_path / "x.tar").write_bytes(claimed.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
    with pytest.raises(DamagedDataError, match="1099511627776"):
        build_index(tmp_path / "x.tar")


def test_a_key_keeps_its_folders_and_ends_at_the_first_dot(tmp_path: Path) -> None:
    index = build_index(make_tar(tmp_path / "x.tar", "a.b/c.seg.png"))
    assert [(sample["key"], list(sample["members"])) for sample in index["samples"]] == [("a.b/c", ["seg.png"])]
    assert json.loads(encode_index(index)) == index
