"""Shards below a folder: links are followed once, hidden files are passed over, compressed shards are recognised."""

from pathlib import Path

from vqdist.data.shards.shard_files import find_shards, is_compressed


def find(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_shards(folder).tars]


def test_shards_are_found_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    names = ("b/train-10.tar", "b/train-9.tar", "a/x.TAR", "._a.tar", ".cache/y.tar", "__MACOSX/z.tar", "note.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.tar").mkdir()
    assert find(tmp_path) == ["a/x.TAR", "b/train-9.tar", "b/train-10.tar"]


def test_links_are_followed_but_no_folder_is_read_twice(tmp_path: Path) -> None:
    scratch, data = tmp_path / "scratch" / "set", tmp_path / "home" / "data"
    scratch.mkdir(parents=True)
    (data / "own").mkdir(parents=True)
    for tar in (scratch / "train-1.tar", data / "own" / "train-0.tar", tmp_path / "home" / "other.tar"):
        tar.touch()
    (data / "a-link").symlink_to(data / "own")  # found by its own path, as before links were followed
    (data / "shards").symlink_to(scratch)
    (data / "again").symlink_to(scratch.parent)
    (scratch / "circle").symlink_to(data)
    (data / "up").symlink_to(data.parent)
    (data / "broken").symlink_to(tmp_path / "nowhere")
    found = find(data)
    assert "own/train-0.tar" in found
    assert [name.rpartition("/")[2] for name in found].count("train-1.tar") == 1
    assert len(found) == 2


def test_compressed_shards_are_recognised_by_their_names(tmp_path: Path) -> None:
    for name in ("a.tar.gz", "b.TGZ", "c.tar.zst", "d.tar.md5", "e.gz"):
        (tmp_path / name).touch()
    assert [path.name for path in find_shards(tmp_path).compressed] == ["a.tar.gz", "b.TGZ", "c.tar.zst"]
    assert is_compressed("x.tar.xz")
    assert not is_compressed("x.tar")
