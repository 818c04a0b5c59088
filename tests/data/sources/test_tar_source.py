"""Tars as a source: pictures of any format and size, with the subjects and labels of their JSON."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.third_party_shards import encode_picture, write_tar

from vqdist.data.sources.pictures import load_picture
from vqdist.data.sources.subjects import SubjectOptions
from vqdist.data.sources.tar_source import find_source_tars, open_tars
from vqdist.foundation.errors import DataError


def encode(kind: str, mode: str, size: tuple[int, int], **settings: object) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(size[0]).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(stream, kind, **settings)
    return stream.getvalue()


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Pictures of four formats, modes and sizes; the first is turned, the last has no JSON."""
    turned = Image.Exif()
    turned[0x0112] = 6
    members = {
        "a/1.jpg": encode("JPEG", "RGB", (9, 7), exif=turned),
        "a/1.json": json.dumps({"subject": "anna", "label": 1, "slice": 4}).encode(),
        "2.webp": encode("WEBP", "RGB", (12, 5)),
        "2.json": json.dumps({"subject": "bob"}).encode(),
        "2.cls": b"0",
    }
    write_tar(tmp_path / "in" / "train" / "0.tar", members)
    others = {"2.PNG": encode("PNG", "RGBA", (8, 8)), "sub-7_slice_3.tif": encode("TIFF", "L", (30, 20))}
    write_tar(tmp_path / "in" / "val" / "0.tar", others)
    return tmp_path / "in"


def test_pictures_are_read_as_from_files(tars: Path, tmp_path: Path) -> None:
    source = open_tars(*find_source_tars(str(tars), "auto"), image_size=16)
    found = [(file.source, file.subject, file.split, file.label, file.slice) for file in source.files]
    assert found == [
        ("train/0.tar/a/1.jpg", "anna", "train", 1, 4),
        ("train/0.tar/2.webp", "bob", "train", 0, None),
        ("val/0.tar/2.PNG", source.files[2].subject, "validate", None, None),
        ("val/0.tar/sub-7_slice_3.tif", "sub-7", "validate", None, 3),
    ]
    assert source.channels == 3
    assert len({file.key for file in source.files}) == 4
    (tmp_path / "a.jpg").write_bytes(_member(tars / "train" / "0.tar", "a/1.jpg"))
    (slice_,) = source.read(source.files[0])
    expected = load_picture(tmp_path / "a.jpg", image_size=16, channels=3)
    np.testing.assert_array_equal(slice_.image, expected)
    assert expected[:, 0].any(), "turned upright: higher than wide"
    assert "subject in its .json" in source.subject_summary
    by_name = open_tars(*find_source_tars(str(tars), "auto"), image_size=16, subjects=SubjectOptions(pattern=r"\d"))
    assert [file.subject for file in by_name.files] == ["1", "2", "2", "7"]


def _member(tar: Path, name: str) -> bytes:
    import tarfile

    with tarfile.open(tar) as opened:
        member = opened.extractfile(name)
        assert member is not None
        return member.read()


def test_what_is_a_source_of_tars(tars: Path) -> None:
    one = tars / "train" / "0.tar"
    assert find_source_tars(str(one), "auto") == (one.parent, (one,))
    assert find_source_tars(f"{tars}/{{train,val}}/*.tar", "auto") == (tars, (one, tars / "val" / "0.tar"))
    assert find_source_tars("demo", "auto") is None
    assert find_source_tars(str(tars), "imagefolder") is None
    Image.new("L", (4, 4)).save(tars / "a.png")
    assert find_source_tars(str(tars), "auto") is None
    assert find_source_tars(str(tars), "webdataset") is not None
    with pytest.raises(DataError, match="found no tars"):
        find_source_tars(str(tars / "nowhere"), "webdataset")
    with pytest.raises(DataError, match=r"SOURCE: found https://host/0\.tar; expected files on this machine"):
        find_source_tars("https://host/0.tar", "auto")


def test_samples_that_cannot_be_used_are_named_or_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = encode_picture(1, "PNG")
    members = {"a.png": picture, "b.image.png": picture, "b.mask.png": picture, "c.txt": b"", "d.png": picture}
    tar = write_tar(tmp_path / "x.tar", members | {"d.json": b'{"label": "cat"}'})
    with pytest.raises(DataError) as error:
        open_tars(tmp_path, [tar], image_size=8)
    message = str(error.value)
    assert "2 pictures: b.image.png, b.mask.png; expected one picture; --include '*.image.png' takes" in message
    assert "sample c: found 0 pictures: c.txt; expected one picture" in message
    source = open_tars(tmp_path, [tar], image_size=8, skip_unusable=True)
    assert [file.source for file in source.files] == ["x.tar/a.png", "x.tar/d.png"]
    assert "1 label was not understood and is ignored" in capsys.readouterr().err
    source = open_tars(tmp_path, [tar], image_size=8, include=["*.image.png"], skip_unusable=True)
    assert [file.source for file in source.files] == ["x.tar/b.image.png"]
    with pytest.raises(DataError, match="no samples with a picture"):
        open_tars(tmp_path, [tar], image_size=8, include=["*.jpg"], skip_unusable=True)


def test_a_damaged_picture_names_tar_and_member(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", {"a.png": encode_picture(1, "PNG")[:60]})
    source = open_tars(tmp_path, [tar], image_size=8, channels=1)
    with pytest.raises(DataError, match=r"x\.tar, a\.png: found a damaged PNG"):
        source.read(source.files[0])
