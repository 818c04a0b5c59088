"""Identification of the subject of each file of a source, from its name, its folders or a pattern of the user.

Where neither name nor folder identifies a person, a volume is named by its file name and a picture is a subject of its
own. Where in doubt, files are grouped: a person in two splits would spoil every result.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

from vqdist.data.sources.body_sides import find_paired_names
from vqdist.data.sources.file_names import parse_local_subject, parse_subject
from vqdist.data.sources.folders import PlacedFile
from vqdist.data.sources.generic_names import (
    is_generic_name,
    reduce_name,
    strip_counter,
    strip_slice,
)
from vqdist.foundation.errors import DataError, list_examples
from vqdist.foundation.progress import count_noun

Origin = Literal["name", "folder"]
Rule = Literal["pattern", "json", "name", "folder", "file", "number"]
_RULES: dict[Rule, str] = {
    "pattern": "--subject-pattern",
    "json": "subject in its .json",
    "name": "file name",
    "folder": "folder",
    "number": "number of the synthetic brain",
}
_EXAMPLES = 3
_MIN_ID_LENGTH = 3


@dataclass(frozen=True)
class SubjectOptions:
    """How the user wants subjects to be identified.

    Attributes:
        pattern: regular expression that finds the subject in the path of each file; None for no pattern.
        origin: what identifies the subject; None: whichever of name and folder does.
    """

    pattern: str | None = None
    origin: Origin | None = None


BY_NAME_OR_FOLDER = SubjectOptions()


@dataclass(frozen=True)
class Subject:
    """The subject of one file.

    Attributes:
        name: of the subject.
        rule: what identified it; "file" if nothing did, so that the file is a subject of its own.
        certain: False for a name that is a subject only because nothing better was found.
    """

    name: str
    rule: Rule
    certain: bool = True


def identify_subjects(
    files: Sequence[PlacedFile], options: SubjectOptions, *, pictures: bool, root_name: str
) -> list[Subject]:
    """Return the subject of each file.

    Args:
        pictures: files are pictures, of which a subject may have many; otherwise volumes.
        root_name: name of the source's folder, the subject of volumes whose path identifies none.
    Raises:
        DataError: the user's pattern, or the folders, identify no subject of some files.
    """
    if options.pattern is not None:
        found = _find_by_pattern(files, options.pattern)
    elif options.origin == "name":
        persons = find_paired_names({file.path: file.stem for file in files})
        found = [_find_in_name(file, persons.get(file.path), pictures=pictures) for file in files]
    elif options.origin == "folder":
        found = _find_in_folders(files)
    else:
        found = _find_in_paths(files, pictures=pictures, root_name=root_name)
    return _ignore_case(found)


def describe_subjects(subjects: Sequence[Subject], class_names: Sequence[str | None] = ()) -> str:
    """Return one line: the number of subjects, what identified them, three examples, and how many have several classes.

    Args:
        class_names: class of the file of each subject; may be left out.
    """
    names = list(dict.fromkeys(subject.name for subject in subjects))
    counts = Counter(subject.rule for subject in subjects)
    rules = [
        _RULES[rule] + (f" ({count_noun(counts[rule], 'file')})" if len(counts) > 1 else "")
        for rule in _RULES
        if counts[rule]
    ]
    text = f"identified by {' and '.join(rules)}" if rules else "one for each file"
    if counts["file"]:
        text += f"; {count_noun(counts['file'], 'other file')} one by one" if rules else ""
        text += ", because no name or folder identifies a person"
    examples = ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
    classes: dict[str, set[str | None]] = defaultdict(set)
    for subject, class_name in zip(subjects, class_names, strict=False):
        classes[subject.name].add(class_name)
    several = sum(len(found) > 1 for found in classes.values())
    note = f"; {several:,} of them in several classes" if several else ""
    return f"subjects: {len(names):,} in {count_noun(len(subjects), 'file')}, {text}: {examples}{note}"


def _find_by_pattern(files: Sequence[PlacedFile], pattern: str) -> list[Subject]:
    matches = [re.search(pattern, file.path) for file in files]
    found = ["" if match is None else (match[1] if match.re.groups else match[0]) or "" for match in matches]
    missing = [file.path for file, name in zip(files, found, strict=True) if not name]
    if missing:
        some = f"no subject in {len(missing)} of {len(files)} paths: {list_examples(missing)}"
        raise DataError.of(
            f"--subject-pattern {pattern}", some, "a pattern that matches the path of each file in SOURCE"
        )
    return [Subject(name, "pattern") for name in found]


def _find_in_name(file: PlacedFile, person: str | None, *, pictures: bool) -> Subject:
    """Return the subject by the file's name alone; in a picture's name, the number at its end counts slices.

    Args:
        person: the part of the name that the files of a left and a right side share, or None.
    """
    name = parse_subject(file.name) or parse_local_subject(file.name) or person
    if name is None:
        reduced = reduce_name(file.stem, folder=file.parent.rpartition("/")[2])
        without_counter = strip_counter(reduced) if pictures else None
        if without_counter and not is_generic_name(without_counter, numbers=False):
            reduced = without_counter
        name = reduced or file.stem
    return Subject(name, "name")


def _find_in_folders(files: Sequence[PlacedFile]) -> list[Subject]:
    """Return the subject by the folders alone: the outermost folder in which the paths differ."""
    folders = [file.informative_folders for file in files]
    if not any(folders):
        folders = [file.folders for file in files]
    units = SubjectUnits.of([found for found in folders if found])
    names = [
        parse_subject("/".join(file.folders)) or units.find(found) or (found[-1] if found else None)
        for file, found in zip(files, folders, strict=True)
    ]
    missing = [file.path for file, name in zip(files, names, strict=True) if name is None]
    if missing:
        some = f"{len(missing)} of {len(files)} files outside the folders of subjects: {list_examples(missing)}"
        raise DataError.of("--subject-from folder", some, "each file in a folder of its subject, or --subject-pattern")
    return [Subject(str(name), "folder") for name in names]


def _find_in_paths(files: Sequence[PlacedFile], *, pictures: bool, root_name: str) -> list[Subject]:
    """Return the subject by name or folder, whichever identifies a person."""
    found = [_find_known(file) for file in files]
    left = [file for file, subject in zip(files, found, strict=True) if subject is None]
    reduced = [reduce_name(file.stem, folder=file.parent.rpartition("/")[2]) for file in left]
    places: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for file, name in zip(left, reduced, strict=True):
        places[name.lower()].add(file.informative_folders)
    units = SubjectUnits.of([
        file.informative_folders
        for file, name in zip(left, reduced, strict=True)
        if file.informative_folders and (len(places[name.lower()]) > 1 or is_generic_name(name, numbers=pictures))
    ])  # fmt: skip
    groups = _find_numbered_names(left) if pictures else {}
    groups |= find_paired_names({file.path: file.stem for file in left})
    others = iter(
        [
            _find_unknown(file, name, units, groups) if pictures else _name_volume(file, name, units, groups, root_name)
            for file, name in zip(left, reduced, strict=True)
        ]
    )
    return [next(others) if subject is None else subject for subject in found]


def _find_known(file: PlacedFile) -> Subject | None:
    """Return the subject by an id of a known form, or by a folder's id that the file's name repeats."""
    if name := parse_subject(file.name):
        return Subject(name, "name")
    if name := parse_subject(file.inside):
        return Subject(name, "folder")
    for folder in file.informative_folders:
        is_id = len(folder) >= _MIN_ID_LENGTH and any(map(str.isdigit, folder))
        if is_id and re.search(rf"(?<![^\W_]){re.escape(folder)}(?![^\W_])", file.stem, re.IGNORECASE):
            return Subject(folder, "folder")
    return None


def _find_in_group(file: PlacedFile, units: "SubjectUnits", groups: dict[str, str]) -> Subject | None:
    """Return the subject of a file by its folders, or by the names of several files."""
    if unit := units.find(file.informative_folders):
        return Subject(unit, "folder")
    if local := _find_local(file):
        return local
    if file.path in groups:
        return Subject(groups[file.path], "name")
    return None


def _find_unknown(file: PlacedFile, reduced: str, units: "SubjectUnits", groups: dict[str, str]) -> Subject:
    """Return the subject of a picture without an id of a known form."""
    if found := _find_in_group(file, units, groups):
        return found
    has_id = any(map(str.isdigit, reduced)) or not is_generic_name(reduced, numbers=True)
    if strip_slice(file.stem) is not None and has_id:  # 001_slice_3: what a slice is numbered in is a volume
        return Subject(reduced, "name")
    return Subject(file.path, "file", certain=False)


def _name_volume(
    file: PlacedFile, reduced: str, units: "SubjectUnits", groups: dict[str, str], root_name: str
) -> Subject:
    """Return the subject of a volume without an id of a known form."""
    if found := _find_in_group(file, units, groups):
        return found
    if reduced:
        return Subject(reduced, "name", certain=False)
    return Subject((*file.informative_folders, root_name)[0], "folder")


def _find_local(file: PlacedFile) -> Subject | None:
    """Return the subject by an id, in the file's name or as the name of a folder, that may occur in other folders."""
    if name := parse_local_subject(file.name):
        return Subject(name, "name")
    folders = [folder for folder in file.folders if (parse_local_subject(folder) or "").lower() == folder.lower()]
    return Subject(str(parse_local_subject(folders[-1])), "folder") if folders else None


def _find_numbered_names(files: Sequence[PlacedFile]) -> dict[str, str]:
    """Return path -> subject for pictures such as A023_4.png beside A024_1.png: an id, then the number of the slice."""
    folders: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        name = strip_counter(file.stem)
        if name and re.fullmatch(r".*[A-Za-z][-_]?\d+", name):
            folders[file.parent][name].append(file.path)
    return {
        path: name
        for names in folders.values()
        if len(names) > 1 and any(len(paths) > 1 for paths in names.values())
        for name, paths in names.items()
        for path in paths
    }


def _ignore_case(subjects: Sequence[Subject]) -> list[Subject]:
    """Return subjects of which those that differ only in case have one name, the last in the order of ASCII."""
    spellings: dict[str, str] = {}
    for subject in subjects:
        if subject.rule != "file":
            key = subject.name.lower()
            spellings[key] = max(spellings.get(key, ""), subject.name)
    return [
        subject if subject.rule == "file" else replace(subject, name=spellings[subject.name.lower()])
        for subject in subjects
    ]


def _is_constant(level: Sequence[str]) -> bool:
    return len(set(level)) == 1


@dataclass(frozen=True)
class SubjectUnits:
    """The folders that stand for one person each: those at the outermost level at which paths differ.

    Attributes:
        shared: the folders that all paths begin with.
        folders: the paths of the units.
    """

    shared: tuple[str, ...]
    folders: frozenset[tuple[str, ...]]

    @classmethod
    def of(cls, paths: Sequence[tuple[str, ...]]) -> "SubjectUnits":
        """Find the units of files whose names do not identify a person."""
        shared = tuple(level[0] for level in takewhile(_is_constant, zip(*paths, strict=False)))
        depth = len(shared) + 1
        return cls(shared, frozenset(path[:depth] for path in paths if len(path) >= depth))

    def find(self, folders: tuple[str, ...]) -> str | None:
        """Return the unit in which a file is, None for a file outside of them."""
        depth = len(self.shared) + 1
        return folders[depth - 1] if folders[:depth] in self.folders else None
