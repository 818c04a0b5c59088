"""Each layout is told from its files, and each file keeps its subject, split, label and slice number."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqdist.data.sources.file_names import build_keys, natural_key
from vqdist.data.sources.layouts import Source, open_source
from vqdist.data.sources.pictures import load_picture
from vqdist.foundation.errors import DataError


def touch(root: Path, *names: str, mode: str = "L") -> Path:
    """Write small pictures."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (6, 4), number % 250 if mode == "L" else "red").save(root / name)
    return root


def table(source: Source) -> list[tuple]:
    return [(f.key, f.subject, f.split, f.label, f.slice) for f in source.files]


def test_natural_order_and_keys() -> None:
    assert sorted(["s10", "s9", "a", "s1b"], key=natural_key) == ["a", "s1b", "s9", "s10"]
    keys = build_keys(["a.b/c.d", "a_b-c_d", "A_b-c_d", "é", "x" * 300])
    assert keys[0] == "a_b-c_d"
    assert len({key.lower() for key in keys}) == 5
    assert all(key.isascii() and "." not in key and len(key) <= 90 for key in keys)


def test_oasis_slices(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "keras_png_slices_train/case_002_slice_10.nii.png",
        "keras_png_slices_train/case_002_slice_9.nii.png",
        "keras_png_slices_validate/case_401_slice_0.nii.png",
        "keras_png_slices_test/case_441_slice_3.nii.png",
        "keras_png_slices_seg_train/seg_002_slice_9.nii.png",
    )
    source = open_source(tmp_path)
    assert (source.layout, source.channels) == ("oasis-png", 1)
    assert table(source) == [
        ("case_441_slice_3", "case_441", "test", None, 3),
        ("case_002_slice_9", "case_002", "train", None, 9),
        ("case_002_slice_10", "case_002", "train", None, 10),
        ("case_401_slice_0", "case_401", "validate", None, 0),
    ]
    assert source.passed_over == ("keras_png_slices_seg_train/seg_002_slice_9.nii.png",)


def test_class_folders(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "dog/1.png", "cat/x/2.jpg", "cat/OAS1_0007_MR1_5.png", "dog/1.bmp"))
    assert (source.layout, source.class_names) == ("imagefolder", ("cat", "dog"))
    assert {row[1:4] for row in table(source)} == {
        ("OAS1_0007", None, 0),
        ("cat/x/2.jpg", None, 0),
        ("dog/1.png", None, 1),
        ("dog/1.bmp", None, 1),
    }
    assert len({file.key for file in source.files}) == 4


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("sub-acute/a.png", "sub-acute/a.png"),
        ("sub-acute/sub-3_slice_1.png", "sub-3"),
        ("sub-acute/ward/sub-3/1.png", "sub-3"),
        ("chronic/nonsub-3.png", "chronic/nonsub-3.png"),
        ("chronic/outpatient3.png", "chronic/outpatient3.png"),
        ("chronic/left_patient3.png", "patient3"),
        ("chronic/1136_S_0184.png", "chronic/1136_S_0184.png"),
    ],
)
def test_a_picture_is_its_own_subject_unless_its_name_says_otherwise(tmp_path: Path, name: str, subject: str) -> None:
    files = open_source(touch(tmp_path, name, "normal/z.png")).files
    assert {file.source: file.subject for file in files} == {name: subject, "normal/z.png": "normal/z.png"}


def test_class_folders_below_splits(tmp_path: Path) -> None:
    names = ("train/b/1.png", "Val/a/1.png", "test/c/1.png")
    source = open_source(touch(tmp_path, *names))
    assert source.class_names == ("a", "b", "c")
    assert [(f.split, f.label, f.subject) for f in source.files] == [
        ("validate", 0, "Val/a/1.png"),
        ("test", 2, "test/c/1.png"),
        ("train", 1, "train/b/1.png"),
    ]


def test_pictures_without_classes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("passed over")
    source = open_source(touch(tmp_path, "1.png", "2.tif"))
    assert [row[2:] for row in table(source)] == [(None, None, None)] * 2
    assert source.passed_over == ("notes.txt",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "empty folder"),
        (("1.png", "a/2.png"), "outside the class folders"),
        (("train/a/1.png", "extra/a/2.png"), "a folder beside train"),
        (("data/train/a/1.png", "data/test/a/2.png"), "the folders of the splits inside data"),
    ],
)
def test_odd_folders_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(touch(tmp_path, *names))


def test_volumes_and_discs(tmp_path: Path) -> None:
    for name in ("OAS1_0101_MR1_brain.nii.gz", "OAS1_0101_MR2_brain.nii.gz", "ixi12.nii", "sub-7/anat/T1w.nii"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).touch()
    source = open_source(tmp_path / "a")
    assert source.layout == "nifti"
    assert {(file.key, file.subject) for file in source.files} == {
        ("OAS1_0101_MR1_brain", "OAS1_0101"),
        ("OAS1_0101_MR2_brain", "OAS1_0101"),
        ("ixi12", "ixi12"),
        ("T1w", "sub-7"),
    }
    folder = tmp_path / "b" / "disc1" / "OAS1_0040_MR1" / "PROCESSED" / "MPRAGE" / "T88_111"
    folder.mkdir(parents=True)
    stem = "OAS1_0040_MR1_mpr_n4_anon_111_t88_masked_gfc"
    for ending in (".hdr", ".img", "_tra_90.gif"):
        (folder / f"{stem}{ending}").touch()
    source = open_source(tmp_path / "b")
    assert (source.layout, len(source.passed_over)) == ("oasis1", 1)
    assert table(source) == [(stem, "OAS1_0040", None, None, None)]
    with pytest.raises(DataError, match="oasis1 and nifti"):
        open_source(tmp_path)
    (folder / f"{stem}.img").unlink()
    with pytest.raises(DataError, match="one half of a pair"):
        open_source(tmp_path / "b")


def test_folder_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(open_source(tmp_path).files) == 1


def test_demo(tmp_path: Path) -> None:
    source = open_source("demo", num_subjects=3, num_slices=4, image_size=32, channels=3)
    assert [file.subject for file in source.files] == ["phantom_0000", "phantom_0001", "phantom_0002"]
    pieces = source.read(source.files[2])
    assert [(piece.key, piece.slice) for piece in pieces][-1] == ("phantom_0002_slice_003", 3)
    assert pieces[0].image.shape == (3, 32, 32)


def test_colour_is_seen_in_any_mode(tmp_path: Path) -> None:
    assert open_source(touch(tmp_path / "a", "1.png", "2.png")).channels == 1
    assert open_source(touch(tmp_path / "b", "1.png", mode="RGB")).channels == 3
    for name in ("c", "d"):
        (tmp_path / name).mkdir()
    Image.new("L", (4, 4)).convert("P").save(tmp_path / "c" / "1.png")
    Image.new("RGB", (4, 4), "red").convert("P").save(tmp_path / "d" / "1.gif")
    assert open_source(tmp_path / "c").channels == 1
    assert open_source(tmp_path / "d").channels == 3


def gradient(dtype: type, high: int) -> np.ndarray:
    return np.linspace(0, high, 64).reshape(8, 8).astype(dtype)


def test_every_mode_gives_the_same_grey(tmp_path: Path) -> None:
    grey = gradient(np.uint8, 252)
    pictures = {
        "8.png": Image.fromarray(grey),
        "16.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "16.tif": Image.fromarray(grey.astype(np.uint16) * 257),
        "32.tif": Image.fromarray(grey.astype(np.int32) * 257),
        "p.png": Image.fromarray(grey).convert("P"),
        "rgb.bmp": Image.fromarray(grey).convert("RGB"),
        "rgba.png": Image.fromarray(grey).convert("RGBA"),
        "la.png": Image.fromarray(grey).convert("LA"),
        "l.webp": Image.fromarray(grey).convert("RGB"),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        found = load_picture(tmp_path / name, image_size=8, channels=1)
        assert np.abs(found[0].astype(int) - grey).max() <= 1, name
        colour = load_picture(tmp_path / name, image_size=8, channels=3)
        assert np.abs(colour.astype(int) - grey).max() <= 1, name
    Image.fromarray(gradient(np.float32, 1)).save(tmp_path / "f.tif")
    assert load_picture(tmp_path / "f.tif", image_size=8, channels=1).max() == 255
    Image.new("1", (8, 8), 1).save(tmp_path / "1.png")
    assert load_picture(tmp_path / "1.png", image_size=8, channels=1).min() == 255


def test_transparent_parts_are_black(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 4), 200, np.uint8)
    pixels[:4, :, 3], pixels[4:, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = load_picture(tmp_path / "a.png", image_size=8, channels=3)
    assert (found[:, :4] == 0).all()
    assert (found[:, 4:] == 200).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([250, 250, 250, 0, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert load_picture(tmp_path / "p.png", image_size=8, channels=1).max() == 0


def test_pictures_are_padded_not_stretched(tmp_path: Path) -> None:
    Image.new("L", (100, 40), 255).save(tmp_path / "wide.png")
    found = load_picture(tmp_path / "wide.png", image_size=50, channels=1)[0]
    assert (found[16:34] == 255).all()
    assert (found[:14] == 0).all()
    assert (found[36:] == 0).all()
    assert abs((found > 127).sum() - 20 * 50) <= 50
    turned = Image.new("L", (100, 40), 255)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    found = load_picture(tmp_path / "turned.jpg", image_size=50, channels=1)[0]
    assert found[25, 0] < 5
    assert found[0, 25] > 250


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(gradient(np.uint8, 255).repeat(40, 0).repeat(40, 1)).save(stream, "PNG")
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    bomb = stream.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + stream.getvalue()[33:]
    (tmp_path / "bomb.png").write_bytes(bomb)
    frames = [Image.new("L", (4, 4), grey) for grey in (0, 90, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "cut.png").write_bytes(stream.getvalue()[:200])
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.tif").touch()
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name in ("bomb.png", "film.gif", "cut.png", "text.jpg", "empty.tif", "script.png", "none.png"):
        with pytest.raises(DataError, match=name):
            load_picture(tmp_path / name, image_size=8, channels=1)
