"""The members of a tar: listed while every block between them is checked, with the keys that WebDataset gives them."""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from vqdist.foundation.errors import DamagedDataError

BLOCK = 512
MAX_MEMBER_BYTES = 2**28
MAX_NAME_LENGTH = 1024
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_KINDS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.DIRTYPE: "a folder"}
# WebDataset passes over members with such a name, and those in a folder with such a name.
_META = re.compile(r"__[^/]*__(\.(json|jsonl|txt|yaml|yml|csv|tsv))?", re.IGNORECASE)
_FILES_OF_DESKTOPS = {"__macosx", "thumbs.db", "desktop.ini"}


def scan_tar(file: BinaryIO, shard: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a whole tar, of every type.

    A tar that is truncated, has a damaged header or has data after its end mark is refused, where `tarfile` and
    WebDataset stop early without an error. The caller may move the position of the file.

    Raises:
        DamagedDataError: names the shard and the offset of the damage.
    """
    _refuse_compressed(file, shard)
    size = file.seek(0, 2)
    file.seek(0)
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                has_data = member.isreg() or member.type not in tarfile.SUPPORTED_TYPES
                stored = member.size if has_data else 0  # the size of a link is that of its target
                if member.size < 0 or member.offset_data + stored > size:
                    refuse(shard, member.offset, f"{member.name[:200]!r} of {member.size} bytes in a tar of {size}")
                yield member
                end = member.offset_data + -(-stored // BLOCK) * BLOCK
    except (tarfile.TarError, OSError, ValueError, EOFError, UnicodeError) as error:
        raise DamagedDataError.of(f"{shard}, offset {end}", str(error), "a whole tar") from error
    _check_end(file, end, size, shard)


def _refuse_compressed(file: BinaryIO, shard: Path) -> None:
    file.seek(0)
    start = file.read(8)
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            expected = "a tar that is not compressed, from which samples are read by their offsets: decompress it"
            raise DamagedDataError.of(str(shard), f"a file compressed with {name}", expected)


def _check_end(file: BinaryIO, end: int, size: int, shard: Path) -> None:
    """Check that the rest of the file is a tar's end mark: at least two blocks, all of zeros."""
    file.seek(end)
    rest = 0
    while chunk := file.read(2**20):
        if chunk.count(0) != len(chunk):
            refuse(shard, end + rest, "bytes that are not a tar header")
        rest += len(chunk)
    if rest < 2 * BLOCK:
        refuse(shard, size, "the end of the file")


def refuse(shard: Path, offset: int, found: str) -> NoReturn:
    """Raise the error for a part of a tar that cannot be used."""
    raise DamagedDataError.of(f"{shard}, offset {offset}", found, "a whole tar of plain KEY.EXTENSION files")


def find_member_fault(member: tarfile.TarInfo) -> str | None:
    """Return why a member cannot be a file of a sample, or None."""
    name = member.name
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in name or len(name) > MAX_NAME_LENGTH:
        return f"a member named {name[:200]!r}"
    if not member.isreg() or member.issparse():
        kind = "a sparse file" if member.isreg() else _KINDS.get(member.type, "a special file")
        return f"{name[:200]!r}, {kind}, which is not a plain file"
    if member.size > MAX_MEMBER_BYTES:
        return f"{name[:200]!r} of {member.size} bytes, more than {MAX_MEMBER_BYTES}"
    return None


def clean_name(name: str) -> str:
    """Return the name of a member as a relative path with slashes; a name that is not UTF-8 is read as Latin-1.

    A `..` stays, and `find_member_fault` refuses it.
    """
    try:
        name.encode()
    except UnicodeEncodeError:  # tarfile decodes other bytes as surrogates
        name = name.encode("utf-8", "surrogateescape").decode("latin-1")
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def is_passed_over(member: tarfile.TarInfo) -> bool:
    """Whether a member is no part of a sample: a folder, a hidden file, metadata, or a file that a desktop adds."""
    parts = clean_name(member.name).split("/")
    return member.isdir() or is_hidden(*parts) or bool(_META.fullmatch(parts[0])) or bool(_META.fullmatch(parts[-1]))


def is_hidden(*parts: str) -> bool:
    """Whether a part of a path is hidden, or a file that macOS or Windows adds by itself."""
    return any((part.startswith(".") and part != "..") or part.casefold() in _FILES_OF_DESKTOPS for part in parts)


def split_name(name: str) -> tuple[str, str]:
    """Return key and extension of a member's name: the key ends at the first dot after its folders.

    Returns:
        For `a/b.seg.PNG`, `("a/b", "seg.png")`: as in WebDataset, the extension is in lower case.
    """
    folder, slash, file = name.rpartition("/")
    key, _, extension = file.partition(".")
    return folder + slash + key, extension.lower()
