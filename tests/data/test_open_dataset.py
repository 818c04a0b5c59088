"""Opening a dataset from a folder, third-party shards or a URL."""

import errno
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shard_server import ShardServer

from vqdist.data.open_dataset import Dataset, open_dataset
from vqdist.data.shards.manifest import load_manifest
from vqdist.foundation.errors import DataError


def test_a_folder_is_opened_where_it_is(image_set: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert open_dataset(image_set, cache) == Dataset(image_set, image_set, load_manifest(image_set))
    assert not cache.exists()


def test_third_party_shards_are_indexed_by_one_of_several_processes(image_set: Path, tmp_path: Path) -> None:
    tars = tmp_path / "tars"
    for split in ("train", "validate"):
        (tars / split).mkdir(parents=True)
        for tar in image_set.glob(f"{split}/*.tar"):
            shutil.copy(tar, tars / split)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_dataset, [tars] * 4, [tmp_path / "cache"] * 4))
    assert all(dataset == opened[0] for dataset in opened)
    assert (opened[0].path, opened[0].folder.parent) == (tars, tmp_path / "cache")
    assert opened[0].manifest.splits["train"].samples == 60
    assert open_dataset(opened[0].folder, tmp_path / "other").folder == opened[0].folder
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir() if path.name != ".lock") == [""]


def test_the_head_of_a_url_is_downloaded_once(code_set: Path, tmp_path: Path) -> None:
    with ShardServer(code_set) as server:
        dataset = open_dataset(server.url, tmp_path)
        assert open_dataset(server.url, tmp_path) == dataset
        assert {name: count for name, count in server.requests.items() if name != "dataset.json"} == {
            "vqvae/config.json": 1,
            "vqvae/model.safetensors": 1,
        }
    for name in ("config.json", "model.safetensors"):
        assert (dataset.folder / "vqvae" / name).read_bytes() == (code_set / "vqvae" / name).read_bytes()
    assert dataset.manifest == load_manifest(code_set)


def test_the_users_cache_folder_is_the_default(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home-cache"))
    monkeypatch.setattr("sys.platform", "linux")
    (tmp_path / "tars").mkdir()
    shutil.copy(image_set / "train/shard-000000.tar", tmp_path / "tars")
    assert open_dataset(str(tmp_path / "tars")).folder.parent == tmp_path / "home-cache" / "vqdist"


def test_a_folder_without_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").touch()
    expected = r"mine: found no dataset\.json and no shards; expected a dataset: `vqdist shard`"
    with pytest.raises(DataError, match=expected):
        open_dataset(tmp_path / "mine", tmp_path / "cache")
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "none", tmp_path / "cache")
    with pytest.raises(DataError, match=r"expected a dataset: .*/mine, with `--split test` for a split of it"):
        open_dataset(f"{tmp_path}/mine:test", tmp_path / "cache")


def test_a_cache_folder_that_cannot_be_written_is_named(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    shutil.copy(image_set / "train/shard-000000.tar", tars)
    (tmp_path / "file").touch()
    found = r"data\.cache_dir: found .*file/cache, in which nothing can be written: Not a directory"
    with pytest.raises(DataError, match=found):
        open_dataset(tars, tmp_path / "file" / "cache")
    with ShardServer(image_set) as server, pytest.raises(DataError, match=found):
        open_dataset(server.url, tmp_path / "file" / "cache")
    assert open_dataset(image_set, tmp_path / "file" / "cache").folder == image_set, "no cache is needed"

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(DataError, match=r"data\.cache_dir: found .*full, .* No space left on device"):
        open_dataset(tars, tmp_path / "full")


def test_one_shard_of_a_split_is_refused(image_set: Path, tmp_path: Path) -> None:
    shutil.copy(image_set / "train/shard-000000.tar", tmp_path / "train-000.tar")
    shutil.copy(image_set / "train/shard-000000.tar", tmp_path / "brains.tar")
    expected = r"train-000\.tar: found a file, one shard of train; expected its folder, .*train-\{000\.\.999\}\.tar"
    with pytest.raises(DataError, match=expected):
        open_dataset(tmp_path / "train-000.tar", tmp_path / "cache")
    for name in ("brains.tar", "train-{000..000}.tar"):
        assert open_dataset(tmp_path / name, tmp_path / "cache").manifest.splits.keys() == {"train"}


@pytest.mark.parametrize("path", ["s3://bucket/train-{0..3}.tar", "hf://datasets/a/b.tar::hf://datasets/a/c.tar"])
def test_a_url_of_tars_may_be_a_path(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(url: str, *_: object, **__: object) -> Path:
        raise DataError.of("url", url, "nothing")

    monkeypatch.setattr("vqdist.data.open_dataset.download_shards", download)
    for given in (path, Path(path)):
        with pytest.raises(DataError) as error:
            open_dataset(given, tmp_path)
        assert error.value.problems[0].found == path
