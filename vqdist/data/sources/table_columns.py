"""The columns of a table of subjects as attributes: which ones, of what kind, and their values."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vqdist.config.attributes import KINDS, MAX_CATEGORIES, RESERVED, AttributeValue, Kind
from vqdist.data.sources.table_files import Table
from vqdist.foundation.errors import DataError, Problem, list_examples
from vqdist.foundation.printable_text import printable

MAX_GUESSED_CATEGORIES = 20  # a column of text with more values is no attribute unless it is asked for
# A column of text is taken for a name or a note unless it is asked for if it has more different values than this, and
# more than half as many as there are subjects. A few values are usual in a table of a few subjects.
FEW_CATEGORIES = 5
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")
_SPLIT = "split"  # a column that says to which split a subject belongs
_CODES = {"0", "1", "2"}  # a column of no other numbers has codes of categories
_ID_TITLE = re.compile(r"(.*[_\-. ])?(id|name|participant|patient|case)", re.IGNORECASE)
# Titles, in lower case, that name an attribute by another word.
_SYNONYMS = {"m/f": "sex", "gender": "sex"}
_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}


@dataclass(frozen=True)
class Column:
    """One attribute of a table.

    Attributes:
        title: of the column.
        values: of each row; None where a value is missing.
    """

    name: str
    title: str
    kind: Kind
    values: tuple[AttributeValue | None, ...]

    @property
    def is_constant(self) -> bool:
        """Whether several rows have a value and all these values are equal."""
        known = [value for value in self.values if value is not None]
        return len(known) > 1 and len(set(known)) == 1


@dataclass(frozen=True)
class ColumnRequest:
    """A column that the user asks for, `age` or `cdr:category`; a kind of None is inferred."""

    name: str
    kind: Kind | None = None

    @classmethod
    def parse(cls, text: str) -> "ColumnRequest":
        name, colon, kind = text.rpartition(":")
        return cls(name, kind) if colon and kind in KINDS else cls(text)


def attribute_name(title: str) -> str:
    """Return the name of the attribute of a column: its title in lower case, or the usual word for it."""
    name = printable(title).lower()
    return _SYNONYMS.get(name, name)


def read_columns(table: Table, requests: Sequence[ColumnRequest], *, without: Sequence[str]) -> list[Column]:
    """Return the attributes of a table: the columns asked for, or all that have numbers or a few categories.

    Without requests, the split and columns whose known values are all the same are left out.

    Args:
        requests: empty for all columns.
        without: titles of the columns that identify the row.
    Raises:
        DataError: no such column, cells that do not fit the kind, or too many categories; every problem.
    """
    titles = {attribute_name(title): title for title in table.columns if title and title not in without}
    problems: list[Problem] = []
    columns: list[Column] = []
    for request in requests or [ColumnRequest(name) for name in titles if name not in (*RESERVED, _SPLIT)]:
        title = titles.get(attribute_name(request.name))
        name = attribute_name(request.name)
        if title is None or name in RESERVED or "=" in name or "," in name:
            allowed = ", ".join(found for found in titles if found not in RESERVED)
            expected = f"a column that can be an attribute: {allowed}"
            problems.append(Problem(f"--columns {request.name}", f"no such column in {table.name}", expected))
            continue
        try:
            column = _read_column(table, name, title, request.kind, asked=bool(requests))
        except DataError as error:
            problems += error.problems
        else:
            if column is not None and (requests or not column.is_constant):
                columns.append(column)
    if problems:
        raise DataError(problems)
    return columns


def find_identifying_columns(table: Table, subjects: Sequence[str], *, without: Sequence[str]) -> dict[str, int]:
    """Return the columns that identify people, such as names, dates and notes, as title -> number of different values.

    These are columns of text, and of numbers with the title of an identifier, that differ between most of the subjects.

    Args:
        subjects: of each row.
        without: titles of the columns that identify the row.
    """
    found = {}
    for title in table.columns:
        if not title or title in without or attribute_name(title) in (*RESERVED, _SPLIT):
            continue
        values = _unify(table.column(title))
        known = set(values) - {None}
        people = {subject for subject, value in zip(subjects, values, strict=True) if value is not None}
        is_text = any(_parse_number(value) is None for value in known if value) or _ID_TITLE.fullmatch(title.strip())
        if is_text and len(known) > FEW_CATEGORIES and len(people) < 2 * len(known):
            found[title] = len(known)
    return found


def _read_column(table: Table, name: str, title: str, kind: Kind | None, *, asked: bool) -> Column | None:
    """Return a column; None for one without values, or with text of too many kinds that nobody asked for."""
    where = f"{table.name}, column {title}"
    cells = table.column(title)
    known = [cell for cell in cells if cell]
    if not known:
        if asked:
            raise DataError.of(where, "only missing values", "a value of some subjects, or the column not in --columns")
        return None
    numbers = _parse_numbers(cells, where, strict=kind == "number")
    if kind is None:
        kind = "category" if numbers is None or set(known) <= _CODES else "number"
    if kind == "number":
        if numbers is None:
            wrong = [
                f"{cell!r} in line {line}"
                for (line, _), cell in zip(table.rows, cells, strict=True)
                if cell and _parse_number(cell) is None
            ]
            expected = "a number, or an empty cell for an unknown value; or --columns NAME:category"
            raise DataError.of(where, f"{len(wrong)} cells of text: {list_examples(wrong)}", expected)
        return Column(name, title, kind, tuple(numbers))
    values = _unify(cells)
    count = len(set(values) - {None})
    if count > (MAX_CATEGORIES if asked else MAX_GUESSED_CATEGORIES):
        if asked:
            raise DataError.of(where, f"{count} different categories", f"at most {MAX_CATEGORIES}, or a number")
        return None
    return Column(name, title, kind, tuple(values))


def _parse_numbers(cells: Sequence[str], where: str, *, strict: bool) -> list[float | None] | None:
    """Return the number of each cell; None if a cell is no number.

    Raises:
        DataError: commas that may be decimal or separate thousands.
    """
    numbers = [None if not cell else _parse_number(cell) for cell in cells]
    if any(cell and number is None for cell, number in zip(cells, numbers, strict=True)):
        return None
    commas = [cell for cell in cells if "," in cell]
    if commas and all(_THOUSANDS.fullmatch(cell) for cell in commas):
        expected = "a decimal point, or no commas: they may be decimal commas or separate thousands"
        raise DataError.of(where, f"numbers such as {commas[0]}", expected)
    return numbers


def _parse_number(cell: str) -> float | None:
    if _DECIMAL_COMMA.fullmatch(cell):
        cell = cell.replace(",", ".")
    return float(cell) if _NUMBER.fullmatch(cell) else None


def _unify(cells: Sequence[str]) -> list[str | None]:
    """Return categories of which those that differ only in case have one spelling, the most frequent one."""
    cells = [printable(" ".join(cell.split())) for cell in cells]
    known = {cell.lower() for cell in cells if cell}
    if known <= _SEXES.keys():
        return [_SEXES[cell.lower()] if cell else None for cell in cells]
    spellings: dict[str, str] = {}
    for cell, _ in sorted(Counter(cells).items(), key=lambda item: (item[1], item[0].swapcase())):
        spellings[cell.lower()] = cell
    return [_plain_number(spellings[cell.lower()]) if cell else None for cell in cells]


def _plain_number(cell: str) -> str:
    """Return a category that is a number, such as 0.50 or 1.0, in one spelling."""
    number = _parse_number(cell)
    return cell if number is None else f"{number:g}"
