"""Lists of shards: a single tar, a pattern with braces or wildcards, or several with ::, as paths or URLs."""

import glob
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from vqdist.foundation.errors import DataError, list_examples
from vqdist.foundation.progress import count_noun

_MAX_SHARDS = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_WILDCARD = re.compile(r"[*?\[]")


def names_tars(path: str | Path) -> bool:
    """Return whether a path or URL is that of tars, and not that of a folder."""
    parts = str(path).split("::")
    return all((urlsplit(part).path if "://" in part else part).lower().endswith(".tar") for part in parts)


def expand_braces(text: str) -> list[str]:
    """Return the names that a pattern stands for: train-{08..10}.tar, {train,validate}-0.tar, or several with ::.

    Raises:
        DataError: more than 100,000 names.
    """
    names = list(itertools.islice(_expand(text), _MAX_SHARDS + 1))
    if len(names) > _MAX_SHARDS:
        raise DataError.of(text[:200], f"more than {_MAX_SHARDS:,} shards", "fewer, larger shards")
    return names


def _expand(text: str) -> Iterator[str]:
    for part in text.split("::"):
        match = _BRACES.search(part)
        if match is None:
            yield part
            continue
        for choice in _list_choices(match[1]):
            yield from _expand(part[: match.start()] + choice + part[match.end() :])


def _list_choices(text: str) -> Iterator[str]:
    bounds = _RANGE.fullmatch(text)
    if bounds is None:
        yield from text.split(",")
        return
    first, last, digits = int(bounds[1]), int(bounds[2]), len(bounds[1])
    step = 1 if last >= first else -1
    yield from (f"{number:0{digits}d}" for number in range(first, last + step, step))


def list_local_tars(path: str | Path) -> tuple[Path, tuple[Path, ...]]:
    """Return the common folder of the tars that a path names, and their paths, without repetitions.

    Raises:
        DataError: tars that do not exist, or no tar that a wildcard matches.
    """
    found, missing = list[Path](), list[str]()
    for name in expand_braces(str(path)):
        matches = sorted(glob.glob(name)) if _WILDCARD.search(name) and not os.path.exists(name) else [name]
        files = [Path(match) for match in matches if Path(match).is_file()]
        found += files
        missing += [] if files else [name]
    if missing:
        many = f"no file {missing[0]}" if len(missing) == 1 else f"no {count_noun(len(missing), 'file')}"
        listed = "" if len(missing) == 1 else f": {list_examples(missing)}"
        expected = (
            "tars that exist, for each name of the pattern" if len(found) + len(missing) > 1 else "a tar that exists"
        )
        raise DataError.of(str(path)[:200], many + listed, expected)
    tars = tuple(dict.fromkeys(Path(os.path.abspath(file)) for file in found))
    return Path(os.path.commonpath([tar.parent for tar in tars])), tars


def list_remote_tars(url: str) -> list[str]:
    """Return the URLs of the tars that a URL names; wildcards are looked up with fsspec.

    Raises:
        DataError: a wildcard in http(s), which has no listings, or one that matches nothing.
    """
    urls: list[str] = []
    for name in expand_braces(url):
        scheme, _, rest = name.partition("://")
        if scheme.lower() in ("http", "https"):
            if "*" in urlsplit(name).path:
                raise DataError.of(name[:200], "a wildcard", "braces, as in train-{000..009}.tar: http has no listings")
            urls.append(name)
        elif _WILDCARD.search(rest):
            urls += _list_matches(name, scheme)
        else:
            urls.append(name)
    return list(dict.fromkeys(urls))


def _list_matches(url: str, scheme: str) -> list[str]:
    import fsspec

    try:
        files, _ = fsspec.core.url_to_fs(url)
        found = sorted(f"{scheme}://{str(path).lstrip('/')}" for path in files.glob(url))
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise DataError.of(url[:200], str(error)[:200], "shards that can be listed") from error
    if not found:
        raise DataError.of(url[:200], "no match", "tars that exist")
    return found


def name_downloads(urls: list[str]) -> list[str]:
    """Return a path for each URL: its path below the folders that all of them share, which may state the split."""
    paths = [PurePosixPath("/" + urlsplit(url).netloc + urlsplit(url).path) for url in urls]
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(shared).as_posix() for path in paths]
