"""Checks of files: file system, disk space, and the shards of a dataset."""

import os
import shutil
import time
from pathlib import Path

import pytest

from vqdist.config.model_config import VQVAEConfig
from vqdist.config.schema import RunConfig, run_config_type
from vqdist.diagnosis import storage
from vqdist.diagnosis.storage import check_dataset, check_file_system, check_space


def configure(path: Path | str | None) -> RunConfig:
    return run_config_type("vqvae", VQVAEConfig).model_validate({"data": {"path": None if path is None else str(path)}})


def test_file_system_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    check = check_file_system(tmp_path / "runs" / "a")
    assert check.state == "ok"
    assert check.found.startswith(f"{tmp_path}: rename is atomic")
    assert check.figures["sync_s"] > 0
    assert abs(check.figures["clock_skew_s"]) < 1
    assert list(tmp_path.iterdir()) == []


def test_run_dir_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = check_file_system(tmp_path / "file" / "run")
    assert (check.state, check.found) == ("fix", f"run.dir: {tmp_path / 'file'}, which is a file")


def test_file_system_that_refuses_to_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    check = check_file_system(tmp_path)
    assert (check.state, check.found) == ("fix", f"{tmp_path}: Input/output error")
    assert list(tmp_path.iterdir()) == []


def test_slow_sync_and_wrong_clock_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAX_SYNC_S", 0.0)
    assert "faster file system" in check_file_system(tmp_path).fix
    real = time.time
    monkeypatch.setattr(storage.time, "time", lambda: real() + 60)
    check = check_file_system(tmp_path)
    assert check.fix.startswith("synchronise the clocks")
    assert check.figures["clock_skew_s"] == pytest.approx(-60, abs=2)


def test_space_for_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "free_bytes", lambda folder: 5 * 2**30)
    assert check_space(tmp_path, 0, 3).state == "ok"
    assert check_space(tmp_path, 2**30, 3).state == "ok"  # three kept, one being written, and the model
    check = check_space(tmp_path, 2**30 + 1, 3)
    assert (check.state, check.figures) == ("fix", {"free_bytes": 5 * 2**30, "checkpoint_bytes": 2**30 + 1})
    monkeypatch.setattr(storage, "free_bytes", lambda folder: 2**28 - 1)
    assert check_space(tmp_path, 0, 3).state == "fix"


def test_dataset_of_shards(image_set: Path) -> None:
    (check,), manifest = check_dataset(configure(image_set))
    assert (check.state, check.found) == ("ok", f"{image_set}: images, 60 train, 9 validate, 9 test")
    assert manifest is not None


def test_missing_and_truncated_shards(image_set: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(image_set, tmp_path / "copy")
    first, second = sorted(copy.glob("train/*.tar"))[:2]
    first.unlink()
    size = second.stat().st_size
    os.truncate(second, size - 10)
    checks, manifest = check_dataset(configure(copy))
    assert [check.state for check in checks] == ["fix", "fix"]
    assert checks[0].found == f"train/{first.name}: no such file"
    assert (checks[1].found, checks[1].fix) == (
        f"train/{second.name}: {size - 10:,} bytes",
        f"correct it: expected {size:,} bytes, as in dataset.json",
    )
    assert manifest is not None
    assert check_dataset(configure(copy), compare_sizes=False)[0][0].state == "ok"


def test_datasets_that_are_checked_later(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.tar").touch()
    states = [check_dataset(configure(path)) for path in (None, "https://host/data", tmp_path, tmp_path / "none")]
    assert [(check.state, manifest) for (check,), manifest in states] == [
        ("ok", None),
        ("note", None),
        ("note", None),
        ("fix", None),
    ]


def test_third_party_shards_need_a_cache_folder(image_set: Path, tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    shutil.copy(image_set / "train/shard-000000.tar", tmp_path / "tars")
    (tmp_path / "file").touch()
    for path in (tmp_path / "tars", "http://127.0.0.1:9/data"):
        config = configure(path).replace("data", cache_dir=str(tmp_path / "file" / "cache"))
        (check,), _ = check_dataset(config)
        assert (check.name, check.state) == ("cache folder", "fix")
        assert check.found == f"data.cache_dir: {tmp_path / 'file'}, which is a file"
        (check,), _ = check_dataset(config.replace("data", cache_dir=str(tmp_path / "cache")))
        assert check.state == "note"


def test_a_path_that_is_no_folder_of_shards_is_explained(tmp_path: Path) -> None:
    for name in ("set/train-0.tar", "packed/train-0.tar.gz", "hidden/._train-0.tar"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for name, state, found in (
        ("set", "note", "third-party shards, indexed when the run first starts"),
        ("set/train-0.tar", "fix", "a file"),
        ("set/train-{0..0}.tar", "note", "third-party shards, indexed when the run first starts"),
        ("set/train-{0..9}.tar", "fix", "no 9 files"),
        ("packed", "fix", "compressed shards: train-0.tar.gz"),
        ("hidden", "fix", "no dataset.json and no shards"),
    ):
        (check,), _ = check_dataset(configure(tmp_path / name))
        assert check.state == state
        assert found in check.found
