"""Tars named by a path, a pattern, a list or a URL."""

from pathlib import Path

import fsspec
import pytest

from vqdist.data.shards.tar_lists import (
    expand_braces,
    list_local_tars,
    list_remote_tars,
    name_downloads,
    names_tars,
)
from vqdist.foundation.errors import DataError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{train,val}-{1..0}.tar", ["train-1.tar", "train-0.tar", "val-1.tar", "val-0.tar"]),
        ("a.tar::b-{0..1}.tar", ["a.tar", "b-0.tar", "b-1.tar"]),
    ],
)
def test_braces_stand_for_numbers_and_words(text: str, names: list[str]) -> None:
    assert expand_braces(text) == names
    assert names_tars(text)


@pytest.mark.parametrize("path", ["set", "set/train-*", "https://h/set?x=a.tar", "a.tar::b", "a.tar.gz"])
def test_other_paths_name_no_tars(path: str) -> None:
    assert not names_tars(path)


def test_too_many_shards_are_refused() -> None:
    with pytest.raises(DataError, match="more than 100,000 shards"):
        expand_braces("{0..999999}-{0..999999}.tar")


def test_local_tars_have_a_common_folder(tmp_path: Path) -> None:
    for name in ("train/0.tar", "train/1.tar", "val/0.tar", "val/a [1].tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder, tars = list_local_tars(f"{tmp_path}/{{train,val}}/*.tar::{tmp_path}/train/0.tar")
    assert folder == tmp_path
    assert [tar.relative_to(folder).as_posix() for tar in tars] == [
        "train/0.tar",
        "train/1.tar",
        "val/0.tar",
        "val/a [1].tar",
    ]
    assert list_local_tars(tmp_path / "val" / "a [1].tar") == (tmp_path / "val", (tmp_path / "val" / "a [1].tar",))
    with pytest.raises(DataError, match=r"found no 2 files: .*/2\.tar, .*/3\.tar"):
        list_local_tars(f"{tmp_path}/train/{{1..3}}.tar")


def test_wildcards_of_urls_are_looked_up() -> None:
    files = fsspec.filesystem("memory")
    for name in ("b/train-0.tar", "b/train-1.tar", "b/val-0.tar"):
        files.pipe(f"/bucket-of-tars/{name}", b"")
    assert list_remote_tars("memory://bucket-of-tars/b/train-*.tar") == [
        "memory://bucket-of-tars/b/train-0.tar",
        "memory://bucket-of-tars/b/train-1.tar",
    ]
    with pytest.raises(DataError, match="found no match"):
        list_remote_tars("memory://bucket-of-tars/b/other-*.tar")
    with pytest.raises(DataError, match="found a wildcard; expected braces"):
        list_remote_tars("https://host/train-*.tar")
    assert list_remote_tars("https://host/{a,b}.tar?token=1") == [
        "https://host/a.tar?token=1",
        "https://host/b.tar?token=1",
    ]


def test_downloads_keep_the_folders_that_differ() -> None:
    assert name_downloads(["https://h/d/train/0.tar?x=1", "https://h/d/val/0.tar"]) == ["train/0.tar", "val/0.tar"]
    assert name_downloads(["s3://bucket/d/train-0.tar"]) == ["train-0.tar"]
    assert name_downloads(["https://a/0.tar", "https://b/0.tar"]) == ["a/0.tar", "b/0.tar"]
