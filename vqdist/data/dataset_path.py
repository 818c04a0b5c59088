"""Why there is no dataset at a path: a file or a pattern in place of a folder, compressed shards, a folder too far."""

import errno
import os
import re
from pathlib import Path

from vqdist.data.remote.download import is_url
from vqdist.data.shards.index import index_path
from vqdist.data.shards.manifest import MANIFEST
from vqdist.data.shards.shard_files import ShardFiles, is_compressed
from vqdist.data.shards.tar_lists import names_tars
from vqdist.data.shards.third_party import find_split
from vqdist.foundation.errors import Problem, list_examples

_BRACES = re.compile(r"\{[^{}]*(\.\.|,)[^{}]*\}|\*|::|^pipe:")
_PATTERN = re.compile(_BRACES.pattern + r"|\?|\[")
LAYOUT = "with the split in the names of the shards or of their folders, such as train-000.tar and validate-000.tar"


def find_path_problem(path: str | Path) -> Problem | None:
    """Return why a path or URL is neither that of a folder nor one that may name tars, or None."""
    text = str(path)
    if names_tars(text) and not text.startswith("pipe:") and "::pipe:" not in text:
        if not is_url(text) and os.path.islink(path) and not os.path.exists(path):
            return _describe_file(Path(path))
        return _find_single_shard_problem(text)
    if is_url(text) or text.startswith("pipe:"):
        return _find_url_problem(text)
    try:
        is_folder = Path(os.path.realpath(path)).is_dir()
        is_file = not is_folder and os.path.lexists(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        is_missing = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR)
        return None if is_missing else Problem(text[:200], str(reason), "a folder that can be read")
    if is_file:
        return _describe_file(Path(path))
    if not is_folder and (match := _PATTERN.search(text)):
        folder = text[: match.start()].rpartition("/")[0] or "."
        expected = f"the folder of the shards, such as {folder}: all shards below it are read, {LAYOUT}"
        return Problem(text[:200], "a pattern of file names", expected)
    return None


def _find_single_shard_problem(text: str) -> Problem | None:
    """Return a problem for one numbered shard of one split, which is hardly all that was meant; None for others."""
    head, _, name = text.rpartition("/")
    if is_url(text) or _PATTERN.search(name) or not (split := find_split(Path(name))) or not re.search(r"\d", name):
        return None
    pattern = re.sub(r"\d+(?=\D*$)", lambda digits: f"{{{digits[0]}..{'9' * len(digits[0])}}}", name)
    expected = f"its folder, {head or '.'}, with the shards of all splits, or a pattern, such as {pattern}"
    return Problem(text[:200], f"a file, one shard of {split}", expected)


def _find_url_problem(url: str) -> Problem | None:
    expected = f"the URL of a folder with {MANIFEST}, or of tars, such as https://host/train-{{000..009}}.tar"
    if _BRACES.search(url):
        return Problem(url[:200], "a pattern of shards", expected)
    if url.lower().endswith(".tar") or is_compressed(url):
        return Problem(url[:200], "a single shard", expected)
    return None


def _describe_file(path: Path) -> Problem:
    if path.is_symlink() and not path.exists():
        return Problem(str(path), f"a link to {os.readlink(path)}, which does not exist", "a folder")
    if is_compressed(path.name):
        return Problem(
            str(path), "a file, which is compressed", f"a folder of shards that are not compressed, {LAYOUT}"
        )
    if path.name == MANIFEST:
        return Problem(str(path), "a file", f"its folder, {path.parent}")
    return Problem(str(path), "a file", "a folder: a dataset of `vqdist shard`, or third-party shards")


def is_remote_dataset(path: str | Path) -> bool:
    """Return whether a path is the URL of a dataset, whose shards are downloaded while they are read."""
    return is_url(path) and not names_tars(path)


def find_folder_problem(folder: Path, shards: ShardFiles) -> Problem | None:
    """Return why a folder without a manifest is no dataset and no folder of third-party shards, or None."""
    if shards.compressed:
        names = list_examples([path.relative_to(folder).as_posix() for path in shards.compressed])
        expected = "shards that are not compressed, from which samples are read by their offsets: decompress them"
        return Problem(str(folder), f"compressed shards: {names}", expected)
    if (folder.parent / MANIFEST).exists() and any(index_path(tar).exists() for tar in shards.tars):
        return Problem(str(folder), f"a split of the dataset in {folder.parent}", f"the dataset, {folder.parent}")
    if not shards.tars:
        inside = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
        if inside:
            return Problem(str(folder), f"a folder of datasets: {list_examples(inside)}", "one of these folders")
    return None
