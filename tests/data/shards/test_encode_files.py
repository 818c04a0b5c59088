"""Files are encoded in order, by any number of workers, with their messages and errors."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.encode_files import EncodedFile, encode_files, group_files
from vqdist.data.sources.layouts import open_source
from vqdist.data.sources.source import SourceFile, SourceSlice


def save_mixed_folder(root: Path) -> None:
    """Write 140 pictures of 14 subjects: float pictures with a common range, damaged ones, and wrong EXIF data."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(140):
        name = root / f"case_{number // 10:03d}_slice_{number % 10}"
        pixels = rng.random((8, 8), np.float32) * (1 + number % 10)
        if number % 31 == 7:
            name.with_suffix(".png").write_bytes(b"no picture")
        elif number % 10 == 4:
            Image.fromarray(pixels.astype(np.uint8)).save(name.with_suffix(".jpg"), exif=b"Exif\0\0no TIFF header")
        else:
            Image.fromarray(pixels).save(name.with_suffix(".tif"))


def test_the_result_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    save_mixed_folder(tmp_path / "source")
    source = open_source(tmp_path / "source", layout="imagefolder", image_size=8)
    alone, shared = (
        list(encode_files(source.read, source.files, slices_per_file=1, workers=workers)) for workers in (1, 2)
    )
    assert len(alone) == len(source.files) == 140
    for one, other, file in zip(alone, shared, source.files, strict=True):
        assert str(one.error) == str(other.error)
        assert one.messages == other.messages
        assert [piece.png for piece in one.slices] == [piece.png for piece in other.slices]
        for piece, twin in zip(one.slices, other.slices, strict=True):
            (image,) = source.read(file, lambda _: None)
            np.testing.assert_array_equal(decode_png(piece.png, image_size=(8, 8), channels=1), image.image)
            np.testing.assert_array_equal(piece.pixel_counts, twin.pixel_counts)
            np.testing.assert_array_equal(piece.pixel_counts[0], np.bincount(image.image.ravel(), minlength=256))
    assert sum(one.error is not None for one in alone) == 5
    assert sum(len(one.messages) for one in alone) == 14


def read_process(file: SourceFile, report: object = None) -> list[SourceSlice]:
    """Return a slice whose key is the number of the process."""
    return [SourceSlice(str(os.getpid()), None, np.zeros((1, 4, 4), np.uint8))]


@pytest.mark.parametrize(("files", "slices_per_file", "starts"), [(127, 1, False), (128, 1, True), (4, 32, True)])
def test_small_sources_start_no_workers(files: int, slices_per_file: int, starts: bool) -> None:
    listed = [SourceFile(f"{number}.png", f"{number}") for number in range(files)]
    encoded: list[EncodedFile] = list(encode_files(read_process, listed, slices_per_file=slices_per_file, workers=2))
    assert len(encoded) == files
    assert (str(os.getpid()) not in {file.slices[0].key for file in encoded}) == starts


def test_groups_keep_subjects_together() -> None:
    subjects = ["a"] * 3 + ["b"] * 9 + ["c"] * 70 + ["d"]
    files = [SourceFile(f"{number}.png", subject) for number, subject in enumerate(subjects)]
    groups = group_files(files, 1)
    assert [file for group in groups for file in group] == files
    assert ["".join(dict.fromkeys(file.subject for file in group)) for group in groups] == ["ab", "c", "cd"]
    assert [len(group) for group in groups] == [12, 64, 7]
    assert [len(group) for group in group_files(files[:4], 32)] == [3, 1]
