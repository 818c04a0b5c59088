"""The .txt files of the OASIS-1 discs, with age, sex and test results of each session, as a table."""

import re
from collections.abc import Sequence
from pathlib import Path

from vqdist.data.sources.table_files import Table, is_missing

_FILE = re.compile(r"(^|/)(OAS1_\d{4}_MR\d+)\.txt$", re.IGNORECASE)
_LINE = re.compile(r"(AGE|M/F|HAND|EDUC|SES|CDR|MMSE|eTIV|ASF|nWBV):\s*(\S*)\s*", re.IGNORECASE)
TITLES = ("AGE", "M/F", "HAND", "EDUC", "SES", "MMSE", "CDR", "eTIV", "nWBV", "ASF")
MAX_BYTES = 2**16


def read_oasis_files(root: Path, names: Sequence[str]) -> Table | None:
    """Return the demographics of the sessions of a folder; None without such files.

    Args:
        root: folder of the source.
        names: paths in it.
    """
    rows: list[tuple[int, tuple[str, ...]]] = []
    for name in names:
        if match := _FILE.search(name):
            found = read_session(root / name)
            if any(found.values()):
                rows.append((len(rows) + 1, (match[2], *(found.get(title.lower(), "") for title in TITLES))))
    return Table("OASIS-1 .txt files", ("ID", *TITLES), tuple(rows)) if rows else None


def read_session(path: Path) -> dict[str, str]:
    """Return title in lower case -> value of the lines of a session, such as `AGE: 74`."""
    text = path.read_bytes()[:MAX_BYTES].decode("latin-1")
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match and not is_missing(match[2]):
            found.setdefault(match[1].lower(), match[2])
    return found
