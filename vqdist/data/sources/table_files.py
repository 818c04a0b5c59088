"""Tables of subjects as text: CSV, TSV and XLSX files, with the faults of hand-made ones."""

import csv
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from vqdist.foundation.errors import DataError
from vqdist.foundation.progress import count_noun

MAX_BYTES = 2**28
_TEXT, _WORKBOOKS = (".csv", ".tsv", ".txt"), (".xlsx", ".xlsm")
DELIMITERS = ",;\t|"
# Cells, in lower case, that mean that a value is missing.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "missing", "unknown", ".", "-", "--", "?", "#n/a"})


@dataclass(frozen=True)
class Table:
    """A table without blank rows; cells without spaces around them.

    Attributes:
        name: of the file, for messages.
        columns: their titles.
        rows: (number of the line, cells).
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def column(self, title: str) -> list[str]:
        """Return the cells of a column; "" where a value is missing."""
        place = self.columns.index(title)
        return ["" if is_missing(cells[place]) else cells[place] for _, cells in self.rows]


def is_missing(cell: str) -> bool:
    """Whether a cell means that the value is not known."""
    return cell.strip().lower() in MISSING


def read_table(path: Path) -> Table:
    """Read a .csv, .tsv, .txt or .xlsx file; of a workbook the first sheet.

    Raises:
        DataError: the file cannot be read, is no table by its name, has no rows, or has a title twice.
    """
    if path.suffix.lower() not in (*_TEXT, *_WORKBOOKS):
        found = "a folder" if path.is_dir() else f"a name that ends in {path.suffix!r}"
        raise DataError.of(f"--table {path}", found, "a file that ends in .csv, .tsv, .txt or .xlsx")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError.of(str(path), f"more than {MAX_BYTES} bytes", "a table of subjects")
        lines = _read_workbook(path) if path.suffix.lower() in _WORKBOOKS else _read_text(path)
    except OSError as error:
        raise DataError.of(f"--table {path}", error.strerror or str(error), "a readable .csv, .tsv or .xlsx") from error
    rows = [(number, cells) for number, cells in lines if any(cell.strip() for cell in cells)]
    if len(rows) < 2:
        raise DataError.of(str(path), count_noun(len(rows), "row"), "a row of titles, and a row for each subject")
    titles = tuple(" ".join(cell.split()) for cell in rows[0][1])
    while titles and not titles[-1]:
        titles = titles[:-1]
    twice = sorted({title for title in titles if title and [name.lower() for name in titles].count(title.lower()) > 1})
    if twice:
        raise DataError.of(f"{path}: titles", f"{', '.join(twice)} twice", "each title once")
    wide = [number for number, cells in rows[1:] if any(cell.strip() for cell in cells[len(titles) :])]
    if wide:
        found = f"{count_noun(len(wide), 'row')} with more cells than the {len(titles)} titles, such as line {wide[0]}"
        raise DataError.of(str(path), found, "one cell for each title; quote cells that contain the delimiter")
    padded = ((number, (*cells, *[""] * len(titles))[: len(titles)]) for number, cells in rows[1:])
    return Table(path.name, titles, tuple((number, tuple(cell.strip() for cell in cells)) for number, cells in padded))


def _read_text(path: Path) -> list[tuple[int, list[str]]]:
    text = _decode(path.read_bytes())
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        return [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise DataError.of(f"{path}, line {reader.line_num}", str(error), "text with one row in each line") from error


def _decode(data: bytes) -> str:
    """Decode UTF-8 or UTF-16 with or without a byte order mark, or else Latin-1, the usual one of old spreadsheets."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _read_workbook(path: Path) -> list[tuple[int, list[str]]]:
    try:
        import openpyxl
    except ImportError as error:
        expected = "the package openpyxl: pip install 'vqdist[xlsx]', or the table saved as .csv"
        raise DataError.of(f"--table {path}", "a workbook", expected) from error
    faults: tuple[type[Exception], ...] = (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        rows = [[_show_cell(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except faults as error:
        raise DataError.of(f"--table {path}", f"no workbook ({str(error)[:100]})", "an .xlsx file") from error
    return list(enumerate(rows, start=1))


def _show_cell(cell: object) -> str:
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
