"""Third-party shards at URLs, downloaded into the cache and read like local ones."""

from pathlib import Path

import fsspec
import pytest
from shard_server import ShardServer
from support.third_party_shards import encode_picture, write_tar

from vqdist.data.open_dataset import open_dataset
from vqdist.foundation.errors import DataError


@pytest.fixture
def served(tmp_path: Path) -> Path:
    for shard in range(2):
        members = {f"{number}.png": encode_picture(number, "PNG") for number in range(3 * shard, 3 * shard + 3)}
        write_tar(tmp_path / "served" / "train" / f"{shard}.tar", members)
    write_tar(tmp_path / "served" / "val" / "0.tar", {"9.png": encode_picture(9, "PNG")})
    return tmp_path / "served"


def test_a_pattern_is_downloaded_once_and_splits_come_from_its_folders(served: Path, tmp_path: Path) -> None:
    with ShardServer(served) as server:
        url = f"{server.url}/train/{{0..1}}.tar::{server.url}/val/0.tar"
        dataset = open_dataset(url, tmp_path / "cache")
        assert {name: split.samples for name, split in dataset.manifest.splits.items()} == {"train": 6, "validate": 1}
        assert open_dataset(url, tmp_path / "cache").folder == dataset.folder
        assert set(server.requests.values()) == {1}
    assert dataset.path == url
    local = open_dataset(f"{served}/{{train,val}}/*.tar", tmp_path / "cache")
    assert local.manifest.splits.keys() == dataset.manifest.splits.keys()
    assert [shard.sha256 for shard in local.manifest.splits["train"].shards] == [
        shard.sha256 for shard in dataset.manifest.splits["train"].shards
    ]


def test_another_scheme_and_a_single_tar(served: Path, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/third-party/one.tar", (served / "train" / "0.tar").read_bytes())
    dataset = open_dataset("memory://third-party/one.tar", tmp_path / "cache")
    assert dataset.manifest.splits["train"].samples == 3
    one = open_dataset(served / "train" / "0.tar", tmp_path / "cache")
    assert one.manifest.splits["train"].samples == 3
    assert open_dataset(served, tmp_path / "cache").manifest.splits["train"].samples == 6, "an index of its own"


def test_what_is_missing_or_too_large_is_named(served: Path, tmp_path: Path) -> None:
    with ShardServer(served) as server:
        with pytest.raises(DataError, match=r"train/2\.tar: found HTTP 404"):
            open_dataset(f"{server.url}/train/{{0..2}}.tar", tmp_path / "cache")
        with pytest.raises(DataError, match=r"data\.cache_gib: found 9.99e-07 GiB, less than the shards of"):
            open_dataset(f"{server.url}/train/0.tar", tmp_path / "cache", cache_gib=1e-6)
        with pytest.raises(DataError, match=r"expected http\(s\)://, or another scheme"):
            open_dataset("zip://x/a.tar::memory://b/c.tar", tmp_path / "cache")
