"""Paths at which there is no dataset: the message says what is there and what to give instead."""

from pathlib import Path

import pytest

from vqdist.data.dataset_path import find_path_problem
from vqdist.data.open_dataset import open_dataset
from vqdist.foundation.errors import DataError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("set/x.tar.gz", "found a file, which is compressed; expected a folder of shards that are not compressed"),
        ("set/dataset.json", "found a file; expected its folder"),
        ("set/pictures.zip", "found a file; expected a folder: a dataset of `vqdist shard`, or third-party"),
        ("set/train-{000..001}.tar", r"found no file .*set/train-001.tar; expected tars that exist, for each"),
        ("set/train-{001..009}.tar", r"found no 9 files: .*set/train-001.tar, .*\.\.\. \(9 in all\)"),
        ("set/other-*.tar", r"found no file .*other-\*.tar"),
        ("set/train-*", "found a pattern of file names; expected the folder of the shards, such as .*set:"),
        ("nowhere", "found no such folder"),
        ("link.tar", "found a link to nowhere.tar, which does not exist"),
        ("x" * 5000, "File name too long"),
    ],
)
def test_a_path_that_is_no_folder_is_explained(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "set").mkdir()
    for file in ("train-000.tar", "x.tar.gz", "dataset.json", "pictures.zip"):
        (tmp_path / "set" / file).touch()
    (tmp_path / "link.tar").symlink_to("nowhere.tar")
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / name, tmp_path / "cache")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://host/train-{000..009}", "a pattern of shards"),
        ("pipe:curl https://host/train.tar", "a pattern of shards"),
        ("https://host/train.tar.gz", "a single shard"),
    ],
)
def test_a_url_of_shards_is_explained(url: str, found: str) -> None:
    problem = find_path_problem(url)
    assert problem is not None
    assert problem.found == found
    assert "the URL of a folder with dataset.json" in problem.expected


def test_good_paths_and_urls_have_no_problem(tmp_path: Path) -> None:
    (tmp_path / "set [1]").mkdir()
    for path in (tmp_path, tmp_path / "set [1]", tmp_path / "new", "https://host/set?token=1", "s3://bucket/set"):
        assert find_path_problem(path) is None


def test_folders_that_are_no_dataset_are_explained(image_set: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    for number in range(9):
        (tmp_path / "packed" / f"train-{number}.tar.gz").touch()
    (tmp_path / "packed" / "train-9.tar").touch()
    compressed = r"compressed shards: train-0.tar.gz, .*train-4.tar.gz, ... \(9 in all\); expected .* decompress them"
    with pytest.raises(DataError, match=compressed):
        open_dataset(tmp_path / "packed", tmp_path / "cache")
    with pytest.raises(DataError, match=rf"found a split of the dataset in {image_set}; expected the dataset"):
        open_dataset(image_set / "train", tmp_path / "cache")
    (tmp_path / "all" / "mine").mkdir(parents=True)
    (tmp_path / "all" / "mine" / "dataset.json").touch()
    with pytest.raises(DataError, match="found a folder of datasets: mine; expected one of these folders"):
        open_dataset(tmp_path / "all", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
