"""A table of subjects beside a source: rows are matched to files by subject, or by session where the rows name one."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vqdist.config.attributes import AttributeValue
from vqdist.data.sources.oasis_demographics import read_oasis_files
from vqdist.data.sources.source import Source, SourceFile
from vqdist.data.sources.table_columns import Column, ColumnRequest, find_identifying_columns, read_columns
from vqdist.data.sources.table_files import Table, read_table
from vqdist.foundation.errors import DataError, Problem, list_examples
from vqdist.foundation.progress import count_noun, print_message

# Titles, in lower case, of the column that names the subject, and of one that names the session beside it.
KEY_TITLES = (
    *("id", "subject", "subject_id", "subject id", "participant_id", "participant id", "participant", "session id"),
    *("mri id", "mri_id", "oasisid", "case", "case_id", "patient", "patient_id", "patient id", "name"),
)
SESSION_TITLES = ("session", "session_id", "ses", "visit")
_SESSION = re.compile(r"(?P<subject>.*?)[_\-. ]*(?<![a-z])(?P<session>mr\d+|ses-?[a-z0-9]+)", re.IGNORECASE)
_FILE_SESSION = re.compile(r"(?<![a-z])(mr\d+|ses-[a-z0-9]+)(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class TableOptions:
    """A table and what the user says about it; a key of None is guessed, no columns are all."""

    path: Path
    key: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowKey:
    """Subject and session of a row or a file, normalised: lower case, without sub- and leading zeros of a number."""

    subject: str
    session: str | None = None

    @classmethod
    def parse(cls, text: str, session: str = "") -> "RowKey":
        """Return the key of a row: OAS1_0001_MR1, sub-12 with ses-1, or 12."""
        match = _SESSION.fullmatch(text.strip()) if not session else None
        if match:
            text, session = match["subject"], match["session"]
        return cls(normalise(text), _normalise_session(session) if session else None)

    @classmethod
    def of(cls, file: SourceFile) -> "RowKey":
        """Return the key of a file by its subject and the session in its path."""
        match = _FILE_SESSION.search(file.source)
        key = cls.parse(file.subject)
        return cls(key.subject, _normalise_session(match[1]) if match else key.session)


def normalise(text: str) -> str:
    """Return an id as it is compared: `sub-012`, `012` and `12.0` are equal, as are `OAS1_0001` and `oas1_0001`."""
    text = text.strip().lower().removeprefix("sub-").replace(" ", "")
    text = re.sub(r"(?<=\d)\.0+$", "", text)
    return text.lstrip("0") or "0" if text.isdecimal() else text


def _normalise_session(text: str) -> str:
    text = text.strip().lower()
    text = re.sub(r"^ses-?", "", text)
    return text.lstrip("0") or "0" if text.isdecimal() else text


def attach_table(source: Source, options: TableOptions) -> Source:
    """Return the source with the attributes of a table, and print what was matched and what was not.

    Raises:
        DataError: every problem of the table; see `match_rows`.
    """
    table = read_table(options.path)
    key = find_key(table, options.key, source.files)
    session = next((title for title in table.columns if title.lower() in SESSION_TITLES and title != key), None)
    without = [key, *([session] if session else [])]
    subjects = [RowKey.parse(name).subject for name in table.column(key)]
    identifying = {} if options.columns else find_identifying_columns(table, subjects, without=without)
    without += identifying
    columns = read_columns(table, [ColumnRequest.parse(text) for text in options.columns], without=without)
    others = [] if options.columns else [title for title in table.columns if title and title not in without]
    print_message(f"{table.name}: {count_noun(len(table.rows), 'row')} by {key}; {_describe_columns(columns, others)}")
    if identifying:
        found = list_examples([f"{title} ({count:,} different values)" for title, count in identifying.items()])
        reason = f"values that differ between most of the {count_noun(len(set(subjects)), 'subject')} identify people"
        print_message(f"{table.name}: not used as conditions: {found}; {reason} (--columns chooses)")
    return match_rows(source, table, columns, key=key, session=session)


def attach_oasis_files(source: Source, root: Path) -> Source:
    """Return the source with the attributes of the .txt files of the OASIS-1 discs, if there are any."""
    table = read_oasis_files(root, source.passed_over)
    if table is None:
        return source
    columns = read_columns(table, [], without=["ID"])
    print_message(f"{table.name}: {count_noun(len(table.rows), 'session')}; {_describe_columns(columns, [])}")
    return match_rows(source, table, columns, key="ID", session=None)


def find_key(table: Table, given: str | None, files: Sequence[SourceFile]) -> str:
    """Return the title of the column that identifies the rows; of several, the one that names most of the files."""
    titles = {title.lower(): title for title in table.columns if title}
    if given is not None:
        if given.lower() in titles:
            return titles[given.lower()]
        raise DataError.of(f"--table-key {given}", f"no such column in {table.name}", f"one of {', '.join(titles)}")
    candidates = [titles[name] for name in (*KEY_TITLES, *SESSION_TITLES) if name in titles]
    subjects = {RowKey.of(file).subject for file in files}
    matches = {
        title: len({RowKey.parse(cell).subject for cell in table.column(title)} & subjects) for title in candidates
    }
    found = max(candidates, key=matches.__getitem__, default=None)
    if found is None:
        expected = f"a column such as subject or participant_id, or --table-key with one of {', '.join(titles)}"
        raise DataError.of(f"--table {table.name}", "no column that names the subject", expected)
    return found


def _describe_columns(columns: Sequence[Column], others: Sequence[str]) -> str:
    """Return the attributes, and which other columns of the table are none."""
    used = {column.title for column in columns}
    listed = ", ".join(f"{column.name} ({column.kind})" for column in columns)
    left = [title for title in others if title not in used]
    found = f"attributes: {listed}" if listed else "no column of numbers or a few categories"
    return f"{found}; not used: {list_examples(left)} (--columns chooses)" if left else found


def match_rows(source: Source, table: Table, columns: Sequence[Column], *, key: str, session: str | None) -> Source:
    """Return the source with the values of the row of each file; a file without a row has no attributes.

    Raises:
        DataError: rows that contradict each other, sessions that the files do not name, or no match at all.
    """
    names = table.column(key)
    sessions = table.column(session) if session else [""] * len(names)
    keys = [RowKey.parse(name, visit) for name, visit in zip(names, sessions, strict=True)]
    values = [
        {column.name: value for column in columns if (value := column.values[row]) is not None}
        for row in range(len(keys))
    ]
    rows: dict[str, dict[str | None, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, row in enumerate(keys):
        if names[number]:
            rows[row.subject][row.session].append(number)
    problems = _find_contradictions(table, keys, values, rows)
    files, unmatched = [], []
    for file in source.files:
        chosen, problem = _choose_rows(file, rows, values)
        problems += [] if problem is None else [replace(problem, where=table.name)]
        unmatched += [] if chosen else [file.subject]
        files.append(replace(file, attributes=values[chosen[0]] if chosen else {}))
    subjects = list(dict.fromkeys(file.subject for file in source.files))
    missing = list(dict.fromkeys(unmatched))
    if len(missing) == len(subjects):
        found = f"no row of a subject of the source: rows {list_examples(names)}; subjects {list_examples(subjects)}"
        expected = f"the same names, or another --table-key{_propose_names(keys, subjects)}"
        problems.append(Problem(f"{table.name}, column {key}", found, expected))
    if problems:
        raise DataError(list(dict.fromkeys(problems)))
    _report(table, columns, missing, subjects, _list_surplus(names, keys, source.files), files)
    return replace(source, files=tuple(files), attribute_kinds={column.name: column.kind for column in columns})


def _propose_names(keys: Sequence[RowKey], subjects: Sequence[str]) -> str:
    """Return how to name the rows if all subjects, or all rows, have a counterpart of the same number; else nothing."""
    rows = _index_numbers(list(dict.fromkeys(row.subject for row in keys if row.subject)))
    people = _index_numbers(subjects)
    shared = [people[number] for number in rows if number in people]
    if not shared or len(shared) < min(len(rows), len(people)):
        return ""
    return f"; the numbers agree: name the rows {list_examples(shared)}, if they are the same people"


def _index_numbers(names: Sequence[str]) -> dict[int, str]:
    """Return the names by their last number; nothing if a name has none, or two names have the same."""
    numbers = [re.findall(r"[0-9]+", name) for name in names]
    found = {int(number[-1]): name for number, name in zip(numbers, names, strict=True) if number}
    return found if len(found) == len(names) else {}


def _find_contradictions(
    table: Table,
    keys: Sequence[RowKey],
    values: Sequence[dict[str, AttributeValue]],
    rows: dict[str, dict[str | None, list[int]]],
) -> list[Problem]:
    """Return a problem for rows of the same subject and session with different values; equal ones count once."""
    twice = [
        numbers
        for sessions in rows.values()
        for numbers in sessions.values()
        if any(values[number] != values[numbers[0]] for number in numbers)
    ]
    if not twice:
        return []
    lines = [f"lines {' and '.join(str(table.rows[number][0]) for number in numbers)}" for numbers in twice]
    found = f"{count_noun(len(twice), 'subject')} with several rows of different values: {list_examples(lines)}"
    return [Problem(table.name, found, "one row for each subject or session")]


def _choose_rows(
    file: SourceFile, rows: dict[str, dict[str | None, list[int]]], values: Sequence[dict[str, AttributeValue]]
) -> tuple[list[int], Problem | None]:
    """Return the rows of a file: those of its session, else those without one."""
    key = RowKey.of(file)
    sessions = rows.get(key.subject, {})
    if key.session in sessions:
        return sessions[key.session], None
    if None in sessions:
        return sessions[None], None
    if not sessions or key.session is not None:
        return [], None
    every = [number for numbers in sessions.values() for number in numbers]
    if all(values[number] == values[every[0]] for number in every):
        return every, None
    found = f"rows of sessions {', '.join(map(str, sessions))} of {file.subject}, and {file.source} names no session"
    return [], Problem("", found, "a session in the path of the file, or one row for the subject")


def _list_surplus(names: Sequence[str], keys: Sequence[RowKey], files: Sequence[SourceFile]) -> list[str]:
    there = {RowKey.of(file).subject for file in files}
    return [name for name, key in zip(names, keys, strict=True) if name and key.subject not in there]


def _report(
    table: Table,
    columns: Sequence[Column],
    missing: Sequence[str],
    subjects: Sequence[str],
    surplus: Sequence[str],
    files: Sequence[SourceFile],
) -> None:
    """Print one message with everything that was not matched."""
    parts = [f"rows for {len(subjects) - len(missing)} of {count_noun(len(subjects), 'subject')}"]
    if missing:
        parts.append(f"no row, so all unknown: {list_examples(missing)}")
    if surplus:
        parts.append(f"rows of other subjects: {list_examples(surplus)}")
    without = set(missing)
    for column in columns:
        unknown = [file.subject for file in files if column.name not in file.attributes and file.subject not in without]
        if unknown:
            parts.append(f"{column.name} unknown: {list_examples(list(dict.fromkeys(unknown)))}")
    print_message(f"{table.name}: {'; '.join(parts)}")
