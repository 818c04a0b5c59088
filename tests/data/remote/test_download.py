"""Downloads from a failing server: complete and verified, or an error; nothing is executed."""

import errno
import fcntl
import hashlib
from pathlib import Path

import pytest
from shard_server import ShardServer

from vqdist.data.remote import download
from vqdist.data.remote.download import (
    Expected,
    RetryPolicy,
    check_url,
    fetch_bytes,
    fetch_file,
    is_url,
    join_url,
)
from vqdist.foundation.errors import DataError, FetchError

CONTENT = bytes(range(256)) * 5000
POLICY = RetryPolicy(attempts=4, first_pause_s=0.001, timeout_s=0.5)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file").write_bytes(CONTENT)
    return folder


def fetch(server: ShardServer, target: Path) -> bool:
    expected = Expected(len(CONTENT), len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    return fetch_file(join_url(server.url, "file"), target, expected, POLICY)


@pytest.mark.parametrize("fault", ["drop", "short", "flip", "reset", "hang", "503", "429", "500"])
def test_temporary_faults_are_retried(fault: str, served: Path, tmp_path: Path) -> None:
    with ShardServer(served) as server:
        server.faults["file"].extend([fault, fault])
        assert fetch(server, tmp_path / "to" / "file")
        assert server.requests["file"] == 3
    assert (tmp_path / "to" / "file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        ("404", DataError, 1),
        ("403", DataError, 1),
        ("long", DataError, 1),
        ("flip", DataError, 3),
        ("short", DataError, 3),
        ("drop", FetchError, 4),
        ("503", FetchError, 4),
        ("reset", FetchError, 4),
    ],
)
def test_permanent_faults_are_errors_and_leave_nothing(
    fault: str, error: type[Exception], requests: int, served: Path, tmp_path: Path
) -> None:
    with ShardServer(served) as server:
        server.always["file"] = fault
        with pytest.raises(error, match="/data/file"):
            fetch(server, tmp_path / "to" / "file")
        assert server.requests["file"] == requests
    assert list((tmp_path / "to").iterdir()) == []


def test_one_process_downloads_and_partial_files_are_written_again(served: Path, tmp_path: Path) -> None:
    target = tmp_path / "file"
    partial = tmp_path / ".file.tmp-locked"
    partial.write_bytes(b"left by a killed process")
    with ShardServer(served) as server:
        with partial.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            assert not fetch(server, target)
        assert fetch(server, target)
        assert not fetch(server, target)
        assert server.requests["file"] == 1
    assert target.read_bytes() == CONTENT


def test_a_full_disk_is_not_retried(served: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class FullDisk:
        def __call__(self, file: object, chunk: bytes) -> None:
            raise download._DiskError(OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(download, "_write", FullDisk())
    with ShardServer(served) as server:
        with pytest.raises(OSError, match="No space left"):
            fetch(server, tmp_path / "to" / "file")
        assert server.requests["file"] == 1
    assert list((tmp_path / "to").iterdir()) == []


def test_redirects_lead_to_http_only(served: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for reading")
    with ShardServer(served) as server:
        server.faults["file"].append(f"redirect {server.url}/file")
        assert fetch_bytes(f"{server.url}/file", Expected(10**7), POLICY) == CONTENT
        for target in (f"file://{secret}", f"ftp://127.0.0.1/{secret}"):
            server.always["file"] = f"redirect {target}"
            with pytest.raises((DataError, FetchError)):
                fetch_bytes(f"{server.url}/file", Expected(10**7), POLICY)


def test_pipes_chains_and_wrappers_are_refused_and_run_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for url in (
        f"pipe:touch {canary}",
        f"pipe://touch {canary}",
        "simplecache::s3://bucket/data",
        "zip://x.tar::http://127.0.0.1/a.zip",
        "reference://spec.json",
        "nonsense://x",
        "http:///x",
    ):
        assert is_url(url)
        with pytest.raises(DataError, match=r"data\.path"):
            check_url(url)
    assert not canary.exists()
    assert not is_url("/a/folder")
    assert not is_url("folder")
    for url in ("https://host/data", "memory://data", "file:///data"):
        check_url(url)


def test_a_missing_package_is_named() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match="adlfs"):
        fetch_bytes("abfs://container/file", Expected(10), POLICY)


def test_the_query_of_a_signed_url_stays_at_its_end() -> None:
    assert join_url("https://host/a/data/?sig=x", "train/s.tar") == "https://host/a/data/train/s.tar?sig=x"
    assert join_url("s3://bucket/data/", "train/s.tar") == "s3://bucket/data/train/s.tar"


def test_fsspec_urls(served: Path, tmp_path: Path) -> None:
    expected = Expected(len(CONTENT), len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert fetch_file(f"file://{served}/file", tmp_path / "file", expected, POLICY)
    assert (tmp_path / "file").read_bytes() == CONTENT
    with pytest.raises(DataError):
        fetch_file(f"file://{served}/other", tmp_path / "other", expected, POLICY)
