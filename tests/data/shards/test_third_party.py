"""Third-party shards: indexed once, read like any dataset, and refused if they are damaged or changed."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.noise_images import read_all
from support.third_party_shards import encode_picture, write_tar

from vqdist.data.open_dataset import open_dataset
from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.manifest import Manifest, load_manifest
from vqdist.data.shards.shard_files import find_shards
from vqdist.data.shards.shard_indexer import IndexSettings
from vqdist.data.shards.third_party import index_third_party_shards, read_notes, read_settings, shorten_key
from vqdist.foundation.errors import DamagedDataError, DataError


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of PNG and JSON for train, one of JPEG and a class for test."""
    for shard in range(2):
        members = {}
        for number in range(3 * shard, 3 * shard + 3):
            info = {"subject": f"p{number // 2}", "slice": number, "label": "odd"}
            members |= {
                f"été/{number}.png": encode_picture(number, "PNG"),
                f"été/{number}.json": json.dumps(info).encode(),
            }
        write_tar(tmp_path / "set" / f"train-{shard:03d}.tar", members)
    write_tar(tmp_path / "set" / "test-000.tar", {"x.jpg": encode_picture(7, "JPEG"), "x.cls": b"4\n"})
    return tmp_path / "set"


def index(folder: Path, cache: Path, **settings: object) -> Path:
    return index_third_party_shards(folder, find_shards(folder).tars, cache, IndexSettings(**settings))


def open_index(folder: Path, **settings: object) -> tuple[Manifest, list[dict[str, Any]]]:
    """Index shards and return the manifest and the samples of train."""
    root = index(folder, folder.parent / "cache", **settings)
    return load_manifest(root), read_all(root)


def number(count: int, **others: bytes) -> dict[str, bytes]:
    """Return the members of samples with a PNG each; `others` are members of every sample, extension -> content."""
    members = {}
    for i in range(count):
        members[f"{i:03d}.png"] = encode_picture(i, "PNG")
        members |= {f"{i:03d}.{extension}": content for extension, content in others.items()}
    return members


def test_third_party_shards_are_read_like_a_dataset(shards: Path, tmp_path: Path) -> None:
    root = index(shards, tmp_path / "cache")
    manifest = load_manifest(root)
    assert (manifest.image_size, manifest.channels, manifest.num_slices, manifest.num_labels) == ((6, 8), 3, 6, 5)
    train, test = manifest.splits["train"], manifest.splits["test"]
    assert (train.samples, train.subjects, test.samples) == (6, 3, 1)
    assert train.mean == pytest.approx((np.mean([20 * n for n in range(6)]) / 255, 100 / 255, 200 / 255))
    for number, sample in enumerate(read_all(root, "train")):
        assert sample["__key__"] == f"été/{number}"
        assert sample["json"] == {"subject": f"p{number // 2}", "slice": number, "label": None, "source": None}
        pixels = decode_png(sample["png"], image_size=(6, 8), channels=3)
        assert (pixels[0] == number * 20).all()
    (sample,) = read_all(root, "test")
    assert sample["json"]["label"] == 4
    assert decode_png(sample["png"], image_size=(6, 8), channels=3).shape == (3, 6, 8)


def test_shards_are_indexed_once(shards: Path, tmp_path: Path) -> None:
    root = index(shards, tmp_path / "cache")
    before = (root / "dataset.json").stat().st_mtime_ns
    assert index(shards, tmp_path / "cache") == root
    assert (root / "dataset.json").stat().st_mtime_ns == before
    (tmp_path / "link").symlink_to(shards)
    assert index(tmp_path / "link", tmp_path / "cache") == root
    write_tar(shards / "train-002.tar", {"y.png": encode_picture(0, "PNG")})
    with pytest.raises(DataError, match="other shards than were indexed"):
        index(shards, tmp_path / "cache")


def test_splits_come_from_folders_and_names(tmp_path: Path) -> None:
    names = {
        "val/a.tar": "validate",
        "x/b_test-0001.tar": "test",
        "mytraining/c.tar": "train",
        "test/train-0.tar": "test",
    }
    for number, name in enumerate(names):
        write_tar(tmp_path / "set" / name, {f"{number}.png": encode_picture(number, "PNG")})
    root = index(tmp_path / "set", tmp_path / "cache")
    for split in ("train", "validate", "test"):
        found = {int(sample["__key__"]) for sample in read_all(root, split)}
        assert found == {number for number, expected in enumerate(names.values()) if expected == split}


def test_damage_after_the_indexing_is_detected(shards: Path, tmp_path: Path) -> None:
    root = index(shards, tmp_path / "cache")
    data = bytearray((shards / "train-001.tar").read_bytes())
    data[data.index(b"IDAT") + 6] ^= 1
    (shards / "train-001.tar").write_bytes(data)
    with pytest.raises(DamagedDataError, match=r"shard-000001\.tar, sample été/3"):
        read_all(root, "train")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": encode_picture(0, "PNG", (9, 9))}, r"6 x 8 x 3 in .*; 9 x 9 x 3 in .*pictures of one size"),
        ({"a.pickle": b"x"}, "found a.pickle; expected a picture"),
        ({"a.tif": b"x"}, "found a.tif; expected a picture"),
        ({"a.png": b"no png"}, "not a PNG"),
        ({"a.png": encode_picture(0, "PNG"), "a.json": b"{"}, "invalid JSON"),
        ({"../a.png": encode_picture(0, "PNG")}, "a member named"),
    ],
)
def test_unusable_shards_are_refused(shards: Path, tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    write_tar(shards / "train-009.tar", members)
    with pytest.raises(DataError, match=message):
        index(shards, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_truncated_tar_is_refused(shards: Path, tmp_path: Path) -> None:
    path = shards / "train-001.tar"
    path.write_bytes(path.read_bytes()[: 1024 * 3])
    with pytest.raises(DataError, match=r"train-001\.tar, offset"):
        index(shards, tmp_path / "cache")


def test_members_that_are_no_samples_are_passed_over(tmp_path: Path) -> None:
    members = number(2) | {
        **{
            ".DS_Store": b"x",
            "._000.png": b"x",
            "a/.hidden/1.png": b"x",
            "__MACOSX/._000.png": b"x",
            "Thumbs.db": b"x",
        },
        **{"__meta__": b"{}", "__index__/0": b"x", "__meta__.json": b"{}"},
    }
    path = write_tar(tmp_path / "set" / "train-0.tar", members)
    with tarfile.open(path, "a") as tar:
        for name in ("folder", "./"):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        tar.addfile(tarfile.TarInfo("./folder\\b.PNG"))
    with pytest.raises(DataError, match="sample folder/b: found 0 bytes that are not a PNG"):
        open_index(tmp_path / "set")
    manifest, samples = open_index(tmp_path / "set", skip_unusable=True)
    assert [sample["__key__"] for sample in samples] == ["000", "001"]
    assert manifest.source["unusable"] == 1


def test_extensions_are_read_in_lower_case(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "set" / "train-0.TAR",
        {"a.JPG": encode_picture(1, "JPEG"), "a.CLS": b"3", "b.Png": encode_picture(1, "PNG")},
    )
    manifest, samples = open_index(tmp_path / "set")
    assert [(sample["__key__"], sample["json"]["label"]) for sample in samples] == [("a", 3), ("b", None)]
    assert manifest.num_labels == 4


def test_what_was_not_understood_is_counted_and_kept_with_the_index(tmp_path: Path) -> None:
    members = number(7, json=b'{"label": "cat", "slice": -1}') | {"README": b"x", "x.png": encode_picture(1, "PNG")}
    write_tar(
        tmp_path / "set" / "images-0.tar", members | {"x.cls": b"2", "x.json": b'\xef\xbb\xbf{"label": 1, "y": NaN}'}
    )
    manifest, samples = open_index(tmp_path / "set")
    notes = read_notes(manifest)
    assert notes == [
        "7 labels were not understood and are ignored (a label is a whole number from 0): 'cat' in 000, 'cat' in 001, "
        "'cat' in 002, 'cat' in 003, 'cat' in 004, ...",
        "7 slice numbers were not understood and are ignored (a slice number is a whole number from 0): -1 in 000, "
        "-1 in 001, -1 in 002, -1 in 003, -1 in 004, ...",
        "1 sample has different labels in .json and .cls; that of .json is used: 1 and 2 in x",
        "1 member without an extension was ignored: README in images-0.tar",
        "1 shard has no split in its name or folders and counts as train; name shards or folders validate-*, test-* "
        "to get these splits: images-0.tar",
    ]
    assert [sample["json"]["label"] for sample in samples] == [None] * 7 + [1]


def test_two_pictures_in_a_sample_are_refused_unless_image_key_chooses(tmp_path: Path) -> None:
    members = {
        "a.jpg": encode_picture(3, "JPEG"),
        "a.png": encode_picture(9, "PNG"),
        "b.seg.PNG": encode_picture(9, "PNG"),
        "b.jpg": encode_picture(4, "JPEG"),
    }
    write_tar(tmp_path / "set" / "train-0.tar", members)
    with pytest.raises(DataError) as refused:
        open_index(tmp_path / "set")
    first, second = refused.value.problems
    assert first.found == "2 pictures: a.jpg, a.png"
    assert "--data.image_key jpg or --data.image_key png" in first.expected
    assert second.found == "2 pictures: b.seg.PNG, b.jpg"
    assert "A key ends at the first dot" in second.expected
    fingerprints = set()
    for image_key, pixel in ((".JPG", 60), ("png;seg.png", 180)):
        manifest, samples = open_index(tmp_path / "set", image_key=image_key)
        image = decode_png(samples[0]["png"], image_size=(6, 8), channels=3)
        assert abs(int(image[0, 0, 0]) - pixel) < 5
        fingerprints.add(manifest.fingerprint)
        assert read_settings(manifest.source) == IndexSettings(image_key, skip_unusable=False)
    assert len(fingerprints) == 2
    with pytest.raises(DataError, match=r"sample b: found b.seg.PNG, b.jpg; expected a member with the extension png"):
        open_index(tmp_path / "set", image_key="png")


def test_image_key_changes_the_fingerprint_only_where_it_chooses(tmp_path: Path) -> None:
    write_tar(tmp_path / "set" / "train-0.tar", number(2, json=b"{}"))
    manifest, _ = open_index(tmp_path / "set")
    chosen, _ = open_index(tmp_path / "set", image_key="png")
    assert manifest.fingerprint == chosen.fingerprint
    # Versions without image_key took the png of a sample with a png and a jpg: their runs resume with image_key png.
    write_tar(
        tmp_path / "both" / "train-0.tar", {"a.png": encode_picture(1, "PNG"), "a.jpg": encode_picture(1, "JPEG")}
    )
    assert open_index(tmp_path / "both", image_key="png")[0].image_key is None
    assert open_index(tmp_path / "both", image_key="jpg")[0].image_key == "jpg"


def test_keys_with_dots_are_explained(tmp_path: Path) -> None:
    pictures = {f"scan_0.{i}_v2.png": encode_picture(1, "PNG") for i in range(2000)}
    write_tar(tmp_path / "one" / "train-0.tar", pictures)
    with pytest.raises(
        DataError, match=r"sample scan_0: found 2,000 pictures: .* \(2,000 in all\).*first dot"
    ) as refused:
        open_index(tmp_path / "one")
    assert len(str(refused.value)) < 1000
    write_tar(tmp_path / "two" / "train-0.tar", {f"s{i}.v{i}.png": encode_picture(1, "PNG") for i in range(2000)})
    with pytest.raises(DataError, match=r"KEY.v0.EXTENSION in .*first dot") as refused:
        open_index(tmp_path / "two")
    assert len(str(refused.value)) < 1500
    write_tar(tmp_path / "same" / "train-0.tar", {f"s{i}.t1.png": encode_picture(1, "PNG") for i in range(3)})
    assert [sample["__key__"] for sample in open_index(tmp_path / "same")[1]] == ["s0", "s1", "s2"]


def test_many_sizes_are_reported_by_five_examples(tmp_path: Path) -> None:
    members = {f"{i}.png": encode_picture(0, "PNG", (3 + i % 60, 3)) for i in range(300)}
    write_tar(tmp_path / "set" / "train-0.tar", members)
    with pytest.raises(
        DataError, match=r"3 x 3 x 3 in .*\.\.\. \(60 in all\); expected pictures of one size"
    ) as refused:
        open_index(tmp_path / "set")
    assert len(str(refused.value)) < 1500


def test_unusable_samples_are_listed_or_left_out_and_counted(tmp_path: Path) -> None:
    members = number(20) | {f"x{i}.txt": b"a caption" for i in range(9)} | {"odd.png": encode_picture(0, "PNG", (9, 9))}
    members |= {"bad.png": encode_picture(1, "PNG")[:60], "rgba.json": b"{", "rgba.png": encode_picture(1, "PNG")}
    write_tar(tmp_path / "set" / "train-0.tar", members)
    with pytest.raises(DataError) as refused:
        open_index(tmp_path / "set")
    captions, damaged, invalid = refused.value.problems
    names = "; ".join(f"train-0.tar, sample x{i}: x{i}.txt" for i in range(5))
    assert captions.found == f"{names}; ... (9 in all)"
    assert damaged.where.endswith("train-0.tar, sample bad")
    assert invalid.found.startswith("invalid JSON")
    manifest, samples = open_index(tmp_path / "set", skip_unusable=True)
    assert len(samples) == 20
    assert manifest.source["unusable"] == 12
    assert read_notes(manifest)[0].startswith(f"9 left out: {names}; ... (9 in all); expected a picture")


def test_an_index_of_an_earlier_version_is_left_alone(shards: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(str(shards.resolve()).encode()).hexdigest()[:16]
    old = tmp_path / "cache" / f"shards-{digest}"
    old.mkdir(parents=True)
    (old / "dataset.json").write_text("{}")
    assert len(read_all(index(shards, tmp_path / "cache"))) == 6
    assert (old / "dataset.json").read_text() == "{}"


def test_an_index_without_faults_serves_both_settings_of_on_error(shards: Path, tmp_path: Path) -> None:
    assert index(shards, tmp_path / "cache") == index(shards, tmp_path / "cache", skip_unusable=True)


def test_damaged_and_unreadable_tars_are_left_out_if_they_are_skipped(shards: Path, tmp_path: Path) -> None:
    cut = shards / "train-001.tar"
    cut.write_bytes(cut.read_bytes()[: 1024 * 7])
    (shards / "train-002.tar").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"train-001\.tar, offset"):
        index(shards, tmp_path / "cache")
    root = index(shards, tmp_path / "cache", skip_unusable=True)
    # Of the damaged tar, the sample before the one that is cut.
    assert [sample["__key__"] for sample in read_all(root)] == ["été/0", "été/1", "été/2", "été/3"]
    assert load_manifest(root).source["unusable"] == 2
    cut.unlink()
    with pytest.raises(
        DataError, match=r"train-002\.tar: found No such file or directory; expected a shard that can be"
    ):
        index(shards, tmp_path / "cache")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("a.png", "found a.png twice; expected each file once"),
        ("a.PNG", "found a.PNG and a.png, which have the same extension; expected each file once"),
    ],
)
def test_a_key_that_occurs_twice_is_refused(tmp_path: Path, second: str, message: str) -> None:
    path = write_tar(tmp_path / "set" / "train-0.tar", number(2) | {"a.png": encode_picture(1, "PNG")})
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo(second)
        member.size = len(encode_picture(1, "PNG"))
        tar.addfile(member, io.BytesIO(encode_picture(1, "PNG")))
    with pytest.raises(DataError, match=message):
        open_index(tmp_path / "set")
    assert len(open_index(tmp_path / "set", skip_unusable=True)[1]) == 2


def test_a_key_in_two_shards_gets_the_name_of_the_second(tmp_path: Path) -> None:
    for name in ("train-0", "train-1"):
        write_tar(tmp_path / "set" / f"{name}.tar", number(2))
    manifest, samples = open_index(tmp_path / "set")
    assert [sample["__key__"] for sample in samples] == ["000", "001", "train-1/000", "train-1/001"]
    assert read_notes(manifest)[0].startswith("2 samples have the keys of samples in earlier shards")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_inside_a_tar_are_refused_with_the_way_to_avoid_them(tmp_path: Path, kind: bytes) -> None:
    path = write_tar(tmp_path / "set" / "train-0.tar", number(2))
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = kind, "000.png"
        tar.addfile(member)
    with pytest.raises(DataError, match=r"sample a: found 'a.png', a .* link, .*tar --dereference --hard-dereference"):
        open_index(tmp_path / "set")


def test_names_that_are_long_or_not_utf8_are_read(tmp_path: Path) -> None:
    members = {
        "b" * 300 + ".png": encode_picture(0, "PNG"),
        "c.png": encode_picture(1, "PNG"),
        "c.json": b'{"subject": "\\ud800"}',
    }
    path = write_tar(tmp_path / "set" / "train-0.tar", members)
    member = tarfile.TarInfo("caf\udce9.png")
    member.size = len(encode_picture(2, "PNG"))
    data = member.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape") + encode_picture(2, "PNG")
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1].offset_data + 512
    path.write_bytes(whole[:end] + data + bytes(-len(data) % 512) + bytes(1024))
    _, samples = open_index(tmp_path / "set")
    keys = [sample["__key__"] for sample in samples]
    assert keys == [shorten_key("b" * 300), "c", "café"]
    assert len(keys[0]) == 80
    assert samples[1]["json"]["subject"] == "\\ud800"


def test_short_keys_are_kept_and_long_ones_stay_different() -> None:
    assert shorten_key("folder/a") == "folder/a"
    long, other = shorten_key("f" * 200 + "/" + "é" * 100), shorten_key("f" * 200 + "/" + "é" * 101)
    assert long != other
    assert len(long.encode()) <= 80


def test_a_shard_that_was_replaced_is_reported_with_what_to_do(shards: Path, tmp_path: Path) -> None:
    root = index(shards, tmp_path / "cache")
    write_tar(shards / "train-001.tar", {"z.png": encode_picture(0, "PNG")})
    with pytest.raises(DamagedDataError, match=r"was replaced on purpose, delete .*/shards-\w+ to index it again"):
        read_all(root)


def test_a_flipped_bit_of_a_png_is_detected_by_its_checksum(tmp_path: Path) -> None:
    picture = bytearray(encode_picture(1, "PNG"))
    picture[picture.index(b"IDAT") + 9] ^= 1
    write_tar(tmp_path / "set" / "train-0.tar", number(1) | {"a.png": bytes(picture)})
    with pytest.raises(DataError, match=r"sample a: found a damaged picture \(the CRC of chunk IDAT"):
        open_index(tmp_path / "set")


def test_a_subject_in_two_splits_and_a_label_of_another_name_are_reported(tmp_path: Path) -> None:
    for name in ("train-0", "test-0"):
        write_tar(tmp_path / "set" / f"{name}.tar", number(2, json=b'{"subject": "p1", "class": 3}'))
    manifest, _ = open_index(tmp_path / "set")
    assert manifest.num_labels is None
    assert [note.partition(": ") for note in read_notes(manifest)] == [
        (
            "4 samples have no label, but what may be one; the label must be called label in .json, or be a .cls",
            ": ",
            "class in 000, class in 001, class in 000, class in 001",
        ),
        (
            "1 subject is in several splits, so validation and test are not independent of train",
            ": ",
            "p1 in train and test",
        ),
    ]


def test_turned_jpegs_are_counted(tmp_path: Path) -> None:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(stream, "JPEG", exif=exif)
    write_tar(tmp_path / "in" / "train.tar", {"a.jpg": stream.getvalue(), "b.jpg": encode_picture(1, "JPEG")})
    (note,) = open_dataset(tmp_path / "in", tmp_path / "cache").manifest.source["notes"]
    assert note.startswith("1 JPEG has an EXIF orientation and is used as it is stored")
    assert note.endswith(": a.jpg")
