"""Members of a tar: names as WebDataset reads them, and damage that other readers do not notice."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from webdataset.tariterators import base_plus_ext

from vqdist.data.shards.tar_members import clean_name, find_member_fault, is_passed_over, scan_tar, split_name
from vqdist.foundation.errors import DamagedDataError


@pytest.mark.parametrize("name", ["a.png", "a/b.seg.PNG", "a.b/c.png", "x y/scan_0.1.png", "é.JSON"])
def test_keys_and_extensions_are_those_of_webdataset(name: str) -> None:
    key, extension = base_plus_ext(name)
    assert split_name(name) == (key, extension.lower())


def test_a_name_without_an_extension_has_an_empty_one() -> None:
    assert split_name("a.b/README") == ("a.b/README", "")


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [("./a/b.png", "a/b.png"), ("/data/a.png", "data/a.png"), ("a\\b.png", "a/b.png"), ("caf\udce9.png", "café.png")],
)
def test_names_are_made_relative(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[(name, True) for name in ("._a.png", "a/.b/c.png", "./.DS_Store", "__MACOSX/a.png", "a/Thumbs.db")],
        *[(name, True) for name in ("__meta__", "__x__/a.png", "__info__.json", "a/__meta__.json")],
        *[(name, False) for name in ("./a.png", "a.png", "__a__.png", "__a/b.png", "../a.png", "a/_b.png")],
    ],
)
def test_members_that_are_no_samples_are_recognised(name: str, expected: bool) -> None:
    assert is_passed_over(tarfile.TarInfo(name)) == expected


def test_members_that_are_no_plain_files_have_a_fault() -> None:
    member = tarfile.TarInfo("a.png")
    assert find_member_fault(member) is None
    for kind, text in (
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.FIFOTYPE, "special"),
    ):
        member.type = kind
        assert text in str(find_member_fault(member))
    for name in ("../a.png", "a/../b.png", "a" * 1025):
        assert "a member named" in str(find_member_fault(tarfile.TarInfo(name)))


def test_compressed_tars_are_named_as_such(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(stream.getvalue()))
    with (
        open(path, "rb") as file,
        pytest.raises(DamagedDataError, match=r"a\.tar: found a file compressed with gzip; expected a tar that is not"),
    ):
        list(scan_tar(file, path))


def test_hard_links_and_folders_have_no_data(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "1.png").write_bytes(b"x" * 3000)
    (tmp_path / "in" / "2.png").hardlink_to(tmp_path / "in" / "1.png")
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "in", "in")
    with open(path, "rb") as file:
        assert sorted(member.name for member in scan_tar(file, path)) == ["in", "in/1.png", "in/2.png", "in/sub"]
