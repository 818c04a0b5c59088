"""Float and 32-bit pictures of a subject share one intensity range."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqdist.data.sources.layouts import open_source
from vqdist.data.sources.pictures import load_picture
from vqdist.data.sources.subject_pictures import SubjectPictures


def write(root: Path, name: str, values: np.ndarray) -> tuple[str, str]:
    """Write a picture of one row pattern; return its path and its subject, the text before the underscore."""
    Image.fromarray(np.tile(values, (8, 1))).save(root / name)
    return name, name.split("_")[0]


def ramp(high: float, dtype: type) -> np.ndarray:
    return np.linspace(high / 8, high, 8).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_equal_values_of_a_subject_have_equal_grey_levels(tmp_path: Path, dtype: type) -> None:
    files = [write(tmp_path, f"a_{i}.tif", ramp(high, dtype)) for i, high in enumerate((200_000, 50_000, 800_000))]
    files += [write(tmp_path, "b_0.tif", ramp(1000_000, dtype)), write(tmp_path, "a_3.tif", np.zeros(8, dtype))]
    pictures = SubjectPictures(tmp_path, files, image_size=8, channels=1)
    found = {name: pictures.load(name, subject)[0, 0].astype(int) for name, subject in files}
    for name, high in (("a_0.tif", 200_000), ("a_1.tif", 50_000), ("a_2.tif", 800_000)):
        assert np.abs(found[name] - ramp(high, dtype) * 255 / 800_000).max() <= 1, name
    assert (found["a_3.tif"] == 0).all()
    assert found["b_0.tif"].max() == 255
    alone = load_picture(tmp_path / "b_0.tif", image_size=8, channels=1)
    assert np.array_equal(found["b_0.tif"], alone[0, 0])


def test_integers_of_16_bits_keep_their_fixed_range(tmp_path: Path) -> None:
    files = [write(tmp_path, f"a_{i}.tif", ramp(high, np.int32)) for i, high in enumerate((10_000, 40_000))]
    pictures = SubjectPictures(tmp_path, files, image_size=8, channels=1)
    for name, subject in files:
        assert np.array_equal(pictures.load(name, subject), load_picture(tmp_path / name, image_size=8, channels=1))


def test_kinds_of_numbers_are_not_mixed(tmp_path: Path) -> None:
    files = [
        write(tmp_path, "a_0.tif", ramp(1, np.float32)),
        write(tmp_path, "a_1.png", ramp(60_000, np.uint16)),
        write(tmp_path, "a_2.png", ramp(200, np.uint8)),
    ]
    (tmp_path / "a_3.tif").write_bytes(b"no picture")
    pictures = SubjectPictures(tmp_path, [*files, ("a_3.tif", "a")], image_size=8, channels=1)
    assert pictures.load("a_0.tif", "a").max() == 255
    assert pictures.load("a_1.png", "a").max() == round(60_000 / 257)
    assert pictures.load("a_2.png", "a").max() == 200


def test_each_picture_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vqdist.data.sources import subject_pictures

    files = [write(tmp_path, f"{subject}_{i}.tif", ramp(1, np.float32)) for i in range(4) for subject in "ab"]
    measured = []
    original = subject_pictures.measure_grey_range
    monkeypatch.setattr(subject_pictures, "measure_grey_range", lambda path: (measured.append(path), original(path))[1])
    pictures = SubjectPictures(tmp_path, files, image_size=8, channels=1)
    for name, subject in files:
        pictures.load(name, subject)
    assert len(measured) == len(set(measured)) == 8


def test_a_source_of_pictures_uses_its_subjects(tmp_path: Path) -> None:
    for number, high in enumerate((1.0, 0.25)):
        write(tmp_path, f"sub-1_slice_{number}.tif", ramp(high, np.float32))
    source = open_source(tmp_path, image_size=8)
    levels = [int(source.read(file)[0].image.max()) for file in source.files]
    assert levels == [255, 64]


def test_messages_are_reported(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 9).save(tmp_path / "1.jpg", exif=b"Exif\0\0no TIFF header")
    pictures = SubjectPictures(tmp_path, [("1.jpg", "1")], image_size=4, channels=1)
    messages: list[str] = []
    assert pictures.load("1.jpg", "1", messages.append).shape == (1, 4, 4)
    (message,) = messages
    assert "1.jpg: EXIF data cannot be read" in message


def test_12_bit_values_in_16_bit_files_use_all_grey_levels(tmp_path: Path) -> None:
    files = [write(tmp_path, f"a_{i}.png", ramp(high, np.uint16)) for i, high in enumerate((4000, 1000))]
    files.append(write(tmp_path, "b_0.png", ramp(4000, np.uint16)))
    found = {}
    for grey_range in ("auto", "dtype", (0.0, 2000.0)):
        pictures = SubjectPictures(tmp_path, files, image_size=8, channels=1, grey_range=grey_range)
        found[grey_range] = [int(pictures.load(name, subject).max()) for name, subject in files]
    assert found["auto"] == pytest.approx([255, 64, 255], abs=1)
    assert found["dtype"] == [16, 4, 16]
    assert found[0.0, 2000.0] == [255, 128, 255]


def test_a_subject_with_values_above_12_bits_has_the_16_bit_range(tmp_path: Path) -> None:
    files = [write(tmp_path, f"a_{i}.png", ramp(high, np.uint16)) for i, high in enumerate((4000, 60_000))]
    pictures = SubjectPictures(tmp_path, files, image_size=8, channels=1)
    assert [int(pictures.load(name, subject).max()) for name, subject in files] == [16, 233]
