"""The shard command, called as people call it."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.third_party_shards import encode_picture, write_tar

from vqdist.config.shard_options import ShardOptions
from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.foundation.command import run_command
from vqdist.shard import describe_size, main

SHARED = Path(__file__).parents[2] / "shared" / "data"


def shard(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict, str]:
    """Run the command; return its exit code, its JSON and what it said."""
    capsys.readouterr()
    code = run_command(main, [str(word) for word in words])
    out, said = capsys.readouterr()
    return code, json.loads(out) if out else {}, said


def read_all(folder: Path, split: str) -> list[dict]:
    reader = ShardReader(folder, load_manifest(folder), split)
    return [reader.read(number) for number in range(len(reader))]


def save_pictures(root: Path, *names: str, size: tuple[int, int] = (12, 8)) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def test_demo(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("demo", tmp_path / "d", "--num-subjects", 5, "--num-slices", 3, "--image-size", 32)
    code, result, _ = shard(capsys, *words, "--samples-per-shard", 4)
    assert code == 0
    assert result == {
        "out": str(tmp_path / "d"),
        "splits": {
            "train": {"samples": 9, "subjects": 3, "shards": 3},
            "validate": {"samples": 3, "subjects": 1, "shards": 1},
            "test": {"samples": 3, "subjects": 1, "shards": 1},
        },
    }
    manifest = load_manifest(tmp_path / "d")
    assert (manifest.image_size, manifest.channels, manifest.num_slices) == ((32, 32), 1, 3)
    assert [sample["json"]["slice"] for sample in read_all(tmp_path / "d", "test")] == [0, 1, 2]
    again = shard(capsys, "demo", tmp_path / "e", *words[2:], "--samples-per-shard", "4")
    assert again[0] == 0
    assert load_manifest(tmp_path / "e").fingerprint == manifest.fingerprint


def test_class_folders_keep_split_label_and_pixels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = ("train/b/1.png", "train/a/2.png", "val/a/3.png", "test/b/4.png")
    source = save_pictures(tmp_path / "s", *names, size=(16, 16))
    code, result, said = shard(capsys, source, tmp_path / "d", "--image-size", 16)
    assert code == 0
    assert {name: split["samples"] for name, split in result["splits"].items()} == {
        "train": 2,
        "validate": 1,
        "test": 1,
    }
    assert "0 a, 1 b" in said
    manifest = load_manifest(tmp_path / "d")
    assert (manifest.channels, manifest.class_names, manifest.num_labels) == (3, ("a", "b"), 2)
    for split in manifest.splits:
        for sample in read_all(tmp_path / "d", split):
            info = sample["json"]
            expected = np.asarray(Image.open(source / info["source"])).transpose(2, 0, 1)
            assert np.array_equal(decode_png(sample["png"], image_size=(16, 16), channels=3), expected)
            assert info["label"] == ("ab".index(info["source"].split("/")[1]))


def test_sessions_of_one_person_stay_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = [f"OAS1_{person:04d}_MR{session}.png" for person in range(6) for session in (1, 2)]
    source = save_pictures(tmp_path / "s", *names)
    code, result, _ = shard(capsys, source, tmp_path / "d", "--image-size", 8, "--channels", 1)
    assert code == 0
    assert sum(split["subjects"] for split in result["splits"].values()) == 6
    people = [{s["json"]["subject"] for s in read_all(tmp_path / "d", split)} for split in result["splits"]]
    assert sum(map(len, people)) == 6


def test_bad_files_end_the_command_or_are_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", *(f"{number}.png" for number in range(6)))
    (source / "3.png").write_bytes(b"no picture")
    words = (source, tmp_path / "d", "--image-size", 8, "--split", 1, 0, 0)
    code, result, said = shard(capsys, *words)
    assert (code, result) == (2, {})
    assert "3.png" in said
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    code, result, said = shard(capsys, *words, "--on-error", "skip")
    assert (code, result["splits"]["train"]["samples"], result["skipped"]) == (0, 5, 1)
    assert "skipped 1 of 6 files" in said
    assert load_manifest(tmp_path / "d").source["skipped"] == ["3.png"]


def test_the_dataset_and_the_messages_do_not_depend_on_the_workers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = save_pictures(tmp_path / "s", *(f"case_{number // 20:03d}_slice_{number}.png" for number in range(200)))
    for number in (33, 120, 121):
        (source / f"case_{number // 20:03d}_slice_{number}.png").write_bytes(b"no picture")
    words = ("--image-size", 8, "--samples-per-shard", 30, "--workers")
    found = {}
    for workers in (1, 3):
        out = tmp_path / f"d{workers}"
        code, result, said = shard(capsys, source, out, *words, workers, "--on-error", "skip")
        assert (code, result["skipped"]) == (0, 3)
        lines = [line for line in said.replace(str(out), "OUT").splitlines() if not line.startswith("shard: ")]
        files = {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
        code, _, refusal = shard(capsys, source, tmp_path / "e", *words, workers)
        assert code == 2
        assert "slice_33.png" in refusal, "the first file that cannot be read"
        found[workers] = lines, files
    assert found[1] == found[3]


def test_a_split_that_loses_all_its_files_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", "train/1.png", "test/2.png")
    (source / "test/2.png").write_bytes(b"no picture")
    code, _, said = shard(capsys, source, tmp_path / "d", "--on-error", "skip", "--image-size", 8)
    assert code == 2
    assert "split test" in said
    assert not (tmp_path / "d").exists()


def test_output_is_kept_or_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", "1.png", "2.png", "3.png")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("keep")
    words = (source, tmp_path / "d", "--image-size", 8)
    code, _, said = shard(capsys, *words)
    assert code == 2
    assert "--overwrite" in said
    assert (tmp_path / "d" / "mine.txt").read_text() == "keep"
    assert shard(capsys, *words, "--overwrite")[0] == 0
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [
        "dataset.json",
        "test",
        "train",
        "validate",
    ]
    code, _, said = shard(capsys, source, source, "--overwrite")
    assert code == 2
    assert "does not contain SOURCE" in said


def test_all_wrong_options_come_in_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("--image-size", 0, "--num-slices", -1, "--split", 0.5, 0.6, 0.1)
    code, _, said = shard(capsys, "demo", tmp_path / "d", *words)
    assert code == 2
    assert "3 problems" in said
    assert all(word in said for word in ("--image-size: found 0", "--num-slices: found -1", "found 0.5 0.6 0.1"))
    code, _, said = shard(capsys, tmp_path / "none", Path(__file__) / "d", "--image-size", "x")
    assert code == 2
    assert all(word in said for word in ("3 problems", "no such folder", "which is a file", "found 'x'; expected int"))


@pytest.mark.parametrize("shares", [("nan", "nan", "nan"), ("nan", 0.5, 0.5), (0.5, "nan", 0.5), ("inf", 0, 1)])
def test_shares_that_are_no_numbers_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shares: tuple[object, ...]
) -> None:
    code, _, said = shard(capsys, "demo", tmp_path / "d", "--split", *shares)
    assert code == 2
    assert f"--split: found {' '.join(map(str, shares))}; expected three shares" in said
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("words", [("", "d"), ("demo", "")])
def test_an_empty_path_is_not_the_working_directory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = shard(capsys, *words)
    assert code == 2
    assert "found nothing" in said
    assert list(tmp_path.iterdir()) == []


def test_missing_splits_are_told_and_made_on_demand(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = [f"train/a/{number}.png" for number in range(9)] + ["test/a/x.png"]
    source = save_pictures(tmp_path / "s", *names)
    code, result, said = shard(capsys, source, tmp_path / "d", "--image-size", 8)
    assert (code, sorted(result["splits"])) == (0, ["test", "train"])
    assert "no validate" in said
    code, result, _ = shard(capsys, source, tmp_path / "e", "--image-size", 8, "--split", 0.8, 0.1, 0.1)
    counts = {name: split["samples"] for name, split in result["splits"].items()}
    assert counts == {"train": 8, "validate": 1, "test": 1}


def test_a_short_volume_is_taken_whole_and_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import nibabel

    (tmp_path / "s").mkdir()
    volume = np.random.default_rng(0).uniform(1, 9, (8, 9, 5)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "s" / "a.nii.gz")
    words = (tmp_path / "s", tmp_path / "d", "--image-size", 8, "--split", 0, 0, 1, "--channels", 3)
    code, result, said = shard(capsys, *words)
    assert (code, result["splits"]["test"]["samples"]) == (0, 5)
    assert "5 axial slices, not 32" in said
    assert load_manifest(tmp_path / "d").channels == 3


def test_help_is_complete_and_imports_little() -> None:
    script = "import sys; from vqdist.foundation.command import run_command; from vqdist.shard import main\n"
    script += "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    script += "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'PIL', 'webdataset')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "(int, pixels, default: 256)" in text
    assert "default: 0.8 0.1 0.1" in text
    assert all(f"{word} (true|false, default: false)" in text for word in ("an error", "of OUT", "are warnings"))
    assert "OUT folder of the dataset; new or empty (path, required)" in text
    assert "SOURCE folder; tar, or pattern of tars; or demo for synthetic brains (text, required)" in text
    for flag in (
        "layout",
        "samples-per-shard",
        "seed",
        "num-slices",
        "channels",
        "on-error",
        "num-subjects",
        "workers",
        "include",
        "strict",
    ):
        assert f"--{flag}" in text


def save_volumes(root: Path, *names: str) -> Path:
    import nibabel

    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        volume = np.random.default_rng(number).uniform(1, 9, (8, 9, 5)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), root / name)
    return root


def splits_of_folders(folder: Path, splits: Iterable[str]) -> dict[str, set[str]]:
    """Return the splits in which the files of each top folder of the source are."""
    found: dict[str, set[str]] = {}
    for split in splits:
        for sample in read_all(folder, split):
            found.setdefault(sample["json"]["source"].split("/")[0], set()).add(split)
    return found


def test_equal_names_in_the_folders_of_patients(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = [f"{patient}/{name}.nii.gz" for patient in range(4) for name in ("T1", "T2", "T1_mask")]
    source = save_volumes(tmp_path / "s", *names)
    words = (source, tmp_path / "d", "--image-size", 8)
    assert shard(capsys, *words, "--strict")[0] == 2
    code, result, said = shard(capsys, *words)
    assert code == 0
    assert "subjects: 4 in 8 files, identified by folder: 0, 1, 2, ..." in said
    assert "left out: 4 segmentation masks, such as 0/T1_mask.nii.gz" in said
    assert "WARNING: volumes: found several kinds of volumes (T1, T2) in 4 of 4 subjects; expected one kind" in said
    assert said.rstrip().endswith("1 WARNING above; --strict true refuses such data")
    assert all(len(splits) == 1 for splits in splits_of_folders(tmp_path / "d", result["splits"]).values())
    keys = [sample["__key__"] for split in result["splits"] for sample in read_all(tmp_path / "d", split)]
    assert len(keys) == len(set(keys)) == 40
    assert "0-T1_slice_000" in keys


def test_masks_alone_are_doubted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", *(f"case_{case}/mask_{n}.png" for case in range(3) for n in range(2)))
    words = (source, tmp_path / "d", "--image-size", 16)
    code, _, said = shard(capsys, *words, "--strict")
    assert code == 2
    assert "masks: found 6 of 6 files that look like segmentation masks, such as case_0/mask_0.png; " in said
    code, _, said = shard(capsys, *words)
    assert code == 0
    assert "WARNING: masks: found 6 of 6 files" in said
    code, _, said = shard(capsys, *words, "--strict", "--overwrite", "--include", "*")
    assert code == 0
    assert "WARNING" not in said


def test_doubts_are_warnings_or_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", *(f"{folder}/{number}.png" for folder in "abc" for number in range(4)))
    words = (source, tmp_path / "d", "--image-size", 16)
    code, _, said = shard(capsys, *words, "--strict", "true")
    assert code == 2
    assert "each a subject of its own, although 4 file names occur in several folders (0, 1, 2, 3)" in said
    assert not (tmp_path / "d").exists()
    code, _, said = shard(capsys, *words)
    assert code == 0
    assert "WARNING: subjects: found 12 files" in said
    assert said.rstrip().endswith("1 WARNING above; --strict true refuses such data")
    for number, flags in enumerate((("--subject-from", "folder"), ("--subject-pattern", "^(.)/"))):
        out = tmp_path / f"e{number}"
        code, result, said = shard(capsys, source, out, "--image-size", 16, "--strict", *flags)
        assert code == 0
        assert "WARNING" not in said
        assert sorted(map(sorted, splits_of_folders(out, result["splits"]).values())) == [
            ["test"],
            ["train"],
            ["validate"],
        ]
        assert load_manifest(out).source[flags[0][2:].replace("-", "_")] == flags[1]


def test_a_class_without_a_file_in_train_is_a_warning(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", "train/a/1.png", "train/b/2.png", "val/images/3.png")
    code, _, said = shard(capsys, source, tmp_path / "d", "--image-size", 8)
    assert code == 0
    assert "WARNING: classes: found no file in train of the class images (only validate)" in said
    assert shard(capsys, source, tmp_path / "e", "--image-size", 8, "--strict")[0] == 2


def test_folders_that_are_no_classes_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", *(f"{folder}/{n}.png" for folder in ("scan", "photo") for n in range(3)))
    words = ("--image-size", 8, "--split", 1, 0, 0)
    assert "classes: 0 photo, 1 scan" in shard(capsys, source, tmp_path / "d", *words)[2]
    said = shard(capsys, source, tmp_path / "e", *words, "--subject-from", "folder")[2]
    assert "classes: none; the folders photo, scan are subjects" in said
    said = shard(capsys, source / "scan", tmp_path / "f", *words)[2]
    assert "classes: " not in said


def test_included_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", *(f"{number}_{kind}.png" for number in range(4) for kind in "abc"))
    words = (source, tmp_path / "d", "--image-size", 8, "--split", 1, 0, 0, "--include", "*_a.png", "--include")
    code, result, _ = shard(capsys, *words, "*_b.png", "0*")
    assert (code, result["splits"]["train"]["samples"]) == (0, 9)
    assert load_manifest(tmp_path / "d").source["include"] == ["*_a.png", "*_b.png", "0*"]
    code, _, said = shard(capsys, *words, "*.nii", "--overwrite")
    assert code == 2
    assert "--include *.nii: found no match" in said


def test_wrong_selections_come_in_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", "1.png")
    code, _, said = shard(capsys, source, tmp_path / "d", "--subject-pattern", "(", "--subject-from", "file")
    assert code == 2
    assert "--subject-pattern: found '('; expected a regular expression (missing )" in said
    assert "--subject-from: found 'file'; expected name, folder or null" in said
    code, _, said = shard(capsys, source, tmp_path / "d", "--subject-pattern", ".", "--subject-from", "name")
    assert code == 2
    assert "--subject-from: found name beside --subject-pattern; expected one of them" in said
    code, _, said = shard(capsys, "demo", tmp_path / "d", "--include", "x", "--subject-from", "name")
    assert code == 2
    assert said.count("only with a folder as SOURCE") == 2


def test_a_terabyte_is_refused_by_its_header(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 10_000, 10_000, 10_000, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    (tmp_path / "s" / "big.nii").write_bytes(header)
    code, _, said = shard(capsys, tmp_path / "s", tmp_path / "d", "--split", 1, 0, 0)
    assert code == 2
    assert "big.nii" in said
    assert "10000 x 10000 x 10000" in said


def test_damage_that_only_a_checksum_shows_is_an_error_or_counted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import nibabel

    (tmp_path / "volumes").mkdir()
    for number in range(4):
        volume = np.random.default_rng(number).integers(1, 900, (12, 12, 9)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "volumes" / f"sub-{number}.nii.gz")
    pictures = save_pictures(tmp_path / "pictures", *(f"{number}.png" for number in range(6)))
    for source, name in ((tmp_path / "volumes", "sub-3.nii.gz"), (pictures, "3.png")):
        data = bytearray((source / name).read_bytes())
        at = len(data) - 6 if name.endswith("gz") else data.index(b"IDAT") + 30  # a byte of the CRC; of the pixels
        data[at] ^= 1
        (source / name).write_bytes(data)
        out = tmp_path / f"out-{name}"
        words = (source, out, "--image-size", 8, "--num-slices", 2)
        code, _, said = shard(capsys, *words)
        assert (code, out.exists()) == (2, False)
        assert f"{source / name}: found damaged" in said.replace("found a damaged", "found damaged")
        code, result, said = shard(capsys, *words, "--on-error", "skip")
        assert (code, result["skipped"]) == (0, 1)
        assert load_manifest(out).source["skipped"] == [name]


def test_names_that_are_not_utf_8(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_pictures(tmp_path / "s", "a/1.png", "a/2.png", "b/3.png", "b/4.png")
    folder = tmp_path / os.fsdecode(b"K\xf6rper")
    source.rename(folder)
    (folder / "b").rename(folder / os.fsdecode(b"Gef\xe4\xdfe"))
    (folder / "a/1.png").rename(folder / os.fsdecode(b"a/Ma\xdfe_0.png"))
    (folder / "a/2.png").rename(folder / os.fsdecode(b"a/Ma\xe4e_0.png"))
    (folder / os.fsdecode(b"a/\xff.png")).write_bytes(b"no picture")
    words = (folder, tmp_path / "d", "--image-size", 8, "--split", 1, 0, 0)
    code, _, said = shard(capsys, *words)
    assert code == 2
    assert r"K\xf6rper/a/\xff.png: found no readable picture" in said
    code, result, said = shard(capsys, *words, "--on-error", "skip")
    assert (code, result["splits"]["train"]["samples"]) == (0, 4)
    manifest = load_manifest(tmp_path / "d")
    assert manifest.class_names == (r"Gef\xe4\xdfe", "a")
    assert manifest.source["skipped"] == [r"a/\xff.png"]
    assert manifest.source["path"].endswith(r"K\xf6rper")
    samples = [sample["json"] for sample in read_all(tmp_path / "d", "train")]
    assert {sample["source"] for sample in samples} == {
        r"a/Ma\xdfe_0.png",
        r"a/Ma\xe4e_0.png",
        r"Gef\xe4\xdfe/3.png",
        r"Gef\xe4\xdfe/4.png",
    }
    assert len({sample["subject"] for sample in samples}) == 4


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
def test_real_volumes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("--num-slices", 2, "--image-size", 64)
    code, result, said = shard(capsys, SHARED / "nifti", tmp_path / "n", *words)
    assert code == 0
    sessions = {s["json"]["source"]: split for split in result["splits"] for s in read_all(tmp_path / "n", split)}
    assert len(sessions) == 4
    assert sessions["OAS1_0101_MR1_brain.nii.gz"] == sessions["OAS1_0101_MR2_brain.nii.gz"]
    assert "share a stem, which may be one person: colin27_brain and colin27_head" in said
    code, _, said = shard(capsys, SHARED / "oasis_discs", tmp_path / "o", *words)
    assert code == 2
    assert "1 subject for 3 shares above zero" in said
    assert shard(capsys, SHARED / "oasis_discs", tmp_path / "o", *words, "--split", 0, 0, 1)[0] == 0


def test_one_contrast_of_several_passes_strict(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = save_volumes(tmp_path / "s", *(f"sub-{n}/{name}.nii.gz" for n in range(3) for name in ("T1", "FLAIR")))
    words = (source, tmp_path / "d", "--image-size", 8, "--strict")
    code, _, said = shard(capsys, *words)
    assert code == 2
    assert "several kinds of volumes (FLAIR, T1) in 3 of 3 subjects" in said
    assert shard(capsys, *words, "--include", "*T1*")[0] == 0


@pytest.mark.parametrize(
    ("size", "advice"),
    [
        (60, "a multiple of 8: shard with --image-size 56 or 64, or train with --model.downsample 4 --model.patch 2"),
        (50, "a multiple of 8: shard with --image-size 48 or 56"),
        (8, "a multiple of 8 and at least 11 pixels: shard with --image-size 16"),
        (3, "a multiple of 8 and at least 11 pixels: shard with --image-size 16"),
        (15, "a multiple of 8: shard with --image-size 16"),
        (64, None),
    ],
)
def test_sizes_that_do_not_fit_the_recommended_configuration(size: int, advice: str | None) -> None:
    found = f"--image-size {size} does not fit vqvae_oasis, which needs "
    assert describe_size(size) == ("" if advice is None else found + advice)


def test_a_size_that_does_not_fit_is_a_warning(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("demo", tmp_path / "d", "--num-subjects", 3, "--num-slices", 1, "--image-size", 60)
    assert "WARNING: --image-size 60 does not fit vqvae_oasis" in shard(capsys, *words)[2]


@pytest.mark.parametrize(
    ("words", "limits"), [(("auto",), "auto"), (("dtype",), "dtype"), (("0", "4095"), (0.0, 4095.0))]
)
def test_the_grey_range_is_read(words: tuple[str, ...], limits: object) -> None:
    options = ShardOptions(source="s", out=Path("d"), grey_range=words)
    assert options.grey_limits == limits
    assert options.find_conflicts() == []
    assert ("grey_range" in options.selection) is (words != ("auto",))


@pytest.mark.parametrize("words", [("9", "3"), ("a", "b"), ("1",), ("1", "2", "3")])
def test_a_wrong_grey_range_is_named(words: tuple[str, ...]) -> None:
    (problem,) = ShardOptions(source="s", out=Path("d"), grey_range=words).find_conflicts()
    expected = f"--grey-range: found {' '.join(words)}; expected auto, dtype or two numbers, the lower one first"
    assert str(problem) == expected


def test_a_grey_range_of_tars_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.png": encode_picture(1, "PNG")})
    code, _, said = shard(capsys, tmp_path / "0.tar", tmp_path / "d", "--grey-range", 0, 4095)
    assert code == 2
    assert "--grey-range: found 0 4095, with tars as SOURCE" in said


def test_12_bit_pictures_are_sharded_with_the_given_range(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for number in range(2):
        values = np.full((8, 8), 2000, np.uint16)
        Image.fromarray(values).save(tmp_path / "s" / f"sub-{number}_slice_0.png")
    words = (tmp_path / "s", tmp_path / "d", "--image-size", 8, "--split", 1, 0, 0, "--grey-range", 0, 4000)
    assert shard(capsys, *words)[0] == 0
    for sample in read_all(tmp_path / "d", "train"):
        assert (decode_png(sample["png"], image_size=(8, 8), channels=1, where="") == 128).all()
