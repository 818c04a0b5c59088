"""From a source to a dataset: every slice of every file, and errors for files that cannot be read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.noise_images import read_all

from vqdist.data.shards.build import make_demo, write_source
from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.manifest import Manifest
from vqdist.data.sources.layouts import open_source
from vqdist.data.sources.phantom import describe_phantom, phantom_slice
from vqdist.data.sources.source import Source, SourceFile, SourceSlice
from vqdist.foundation.errors import DataError


def make_source(broken: tuple[str, ...] = ()) -> Source:
    """Return two synthetic brains of three slices; some of them cannot be read."""
    source = open_source("demo", num_subjects=2, num_slices=3, image_size=16)

    def read(file: SourceFile, report: object = None) -> list[SourceSlice]:
        if file.subject in broken:
            raise DataError.of(file.source, "noise", "a brain")
        return source.read(file)

    return replace(source, read=read)


def write(source: Source, out: Path, **options: object) -> tuple[Manifest, list[str]]:
    splits = {"phantom_0000": "train", "phantom_0001": "test"}
    return write_source(source, splits, out, origin="here", shares=(0.5, 0.0, 0.5), seed=3, image_size=16, **options)


def test_every_slice_is_written_with_its_info(tmp_path: Path) -> None:
    manifest, skipped = write(make_source(), tmp_path / "out", samples_per_shard=2)
    assert skipped == []
    expected = {"path": "here", "layout": "demo", "split": [0.5, 0.0, 0.5], "seed": 3, "skipped": []}
    assert manifest.source == expected
    assert [len(manifest.splits[name].shards) for name in ("train", "test")] == [2, 2]
    for subject, split in enumerate(("train", "test")):
        for number, sample in enumerate(read_all(tmp_path / "out", split)):
            assert sample["__key__"] == f"phantom_{subject:04d}_slice_{number:03d}"
            info = {"subject": f"phantom_{subject:04d}", "slice": number, "label": None, "source": "demo"}
            person = describe_phantom(subject)
            assert sample["json"] == info | {"attributes": {"age": person.age, "sex": person.sex}}
            image = phantom_slice(subject, number, num_slices=3, image_size=16)
            assert np.array_equal(decode_png(sample["png"], image_size=(16, 16), channels=1)[0], image)
    first, second = describe_phantom(0), describe_phantom(1)
    assert (manifest.attributes["age"].low, manifest.attributes["sex"].values) == (first.age, (first.sex,)), "of train"
    assert [row.values for row in manifest.attribute_rows] == [(first.age, first.sex)]
    assert (tmp_path / "out" / "subjects.csv").read_text().splitlines() == [
        "subject,age,sex",
        f"phantom_0000,{first.age},{first.sex}",
        f"phantom_0001,{second.age},{second.sex}",
    ]


def test_unreadable_files_raise_or_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="found noise"):
        write(make_source(("phantom_0001",)), tmp_path / "out")
    with pytest.raises(DataError, match="split test: found no readable file"):
        write(make_source(("phantom_0001",)), tmp_path / "out", skip_unreadable=True)
    assert list(tmp_path.iterdir()) == []
    both_in_train = {"phantom_0000": "train", "phantom_0001": "train"}
    options = {"origin": "here", "shares": (1.0, 0.0, 0.0), "seed": 0, "image_size": 16, "skip_unreadable": True}
    manifest, skipped = write_source(make_source(("phantom_0001",)), both_in_train, tmp_path / "out", **options)
    assert skipped == manifest.source["skipped"] == ["demo"]
    assert manifest.splits["train"].samples == 3
    assert "skipped 1 of 2 files" in capsys.readouterr().err


def test_short_volumes_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(replace(make_source(), layout="nifti"), tmp_path / "out", num_slices=5)
    assert capsys.readouterr().err.count("3 axial slices, not 5; all are used") == 2


def test_the_demo_has_all_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = np.ones((128, 128), np.uint8)
    monkeypatch.setattr("vqdist.data.sources.demo_source.phantom_slice", lambda *_, **__: flat)
    manifest = make_demo(tmp_path / "demo")
    assert {name: split.subjects for name, split in manifest.splits.items()} == {"train": 19, "validate": 3, "test": 2}
    assert (manifest.image_size, manifest.channels, manifest.num_slices) == ((128, 128), 1, 32)


def test_messages_about_exif_are_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").mkdir()
    for number in range(9):
        Image.new("L", (4, 4), 9).save(tmp_path / f"source/{number}.jpg", exif=b"Exif\0\0no TIFF header")
    source = open_source(tmp_path / "source", image_size=4)
    splits = dict.fromkeys((file.subject for file in source.files), "train")
    write_source(source, splits, tmp_path / "out", origin="here", shares=(1.0, 0.0, 0.0), seed=0, image_size=4)
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("shard:")]
    assert len(said) == 6
    assert "0.jpg: EXIF data cannot be read" in said[0]
    assert "not listed" in said[-1]
