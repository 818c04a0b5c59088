"""Signs that different people have equal numbers, because folders are sites or groups: London/1 and Paris/1."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from vqdist.data.sources.file_names import is_unique_subject
from vqdist.data.sources.folders import PlacedFile
from vqdist.data.sources.generic_names import (
    is_cohort_folder,
    is_generic_folder,
    is_generic_name,
    is_site_folder,
)
from vqdist.data.sources.subjects import Subject
from vqdist.foundation.errors import Problem, list_examples
from vqdist.foundation.progress import count_noun

_ID = r"[^/_.]+"
_PATTERN = f"^[^/]+/{_ID}"
_NUMBER = re.compile(r"[PS]?\d+", re.IGNORECASE)
_MAX_OUTER_FOLDERS = 2


def find_site_doubts(files: Sequence[PlacedFile], subjects: Sequence[Subject], *, pictures: bool) -> list[Problem]:
    """Return a problem if a subject is in several folders of people, or is itself a folder of numbered people.

    Classes of pictures are no folders of people, except for those with the name of a site, such as siteA, and for those
    in which subjects with a bare number have pictures of equal names, as AD/001_slice_3.png and CN/001_slice_3.png.

    Args:
        files: volumes, or pictures.
        subjects: of each file.
        pictures: files are pictures in class folders, whose other folders often have other meanings: of their folders
            only those with the name of a site or a diagnosis hold people.
    """
    pairs = [
        (file, subject)
        for file, subject in zip(files, subjects, strict=True)
        if subject.rule not in ("pattern", "file") and not is_unique_subject(subject.name)
    ]
    return [*_find_shared(pairs, pictures=pictures), *([] if pictures else _find_numbered(pairs, subjects))]


def _find_shared(pairs: Sequence[tuple[PlacedFile, Subject]], *, pictures: bool) -> Iterator[Problem]:
    """Yield a problem if subjects occur in several folders, of which one holds several subjects or is a site."""
    placed: list[tuple[PlacedFile, str, str]] = []  # file, subject, place
    sites: set[str] = set()
    repeated = _find_repeated(pairs)
    for file, subject in pairs:
        folders = [folder for folder in _list_sites(file, repeated) if folder.lower() != subject.name.lower()]
        if place := "/".join(folders or ([] if pictures else _list_top(file, subject))):
            placed.append((file, subject.name, place))
            sites |= {place} if folders else set()
    inside: dict[str, set[str]] = defaultdict(set)  # place -> subjects in it
    places: dict[str, set[str]] = defaultdict(set)  # subject -> places
    for _, name, place in placed:
        inside[place].add(name)
        places[name].add(place)
    groups = sites | {place for place, found in inside.items() if len(found) > 1}
    shared = {name: sorted(found) for name, found in places.items() if len(found) > 1 and found & groups}
    if shared:
        name, listed = next(iter(shared.items()))
        begin = (
            count_noun(len(shared), "subject")
            + " in several folders"
            + (", " if len(shared) == 1 else " each, such as ")
        )
        found = f"{begin}{name} in {list_examples(listed)}, which may be sites or groups"
        pattern = _find_pattern([row for row in placed if row[1] in shared])
        expected = f"the same person in all these folders; if they are people with equal numbers, pass {pattern}"
        yield Problem("subjects", found, expected)


def _list_sites(file: PlacedFile, repeated: Collection[str]) -> list[str]:
    """Return the folders of a file with the names of sites or diagnoses, and its class if that may be a group.

    Args:
        repeated: paths of files with equal names in several classes.
    """
    name = file.class_name
    of_class = [name] if name is not None and (is_site_folder(name) or file.path in repeated) else []
    return of_class + [folder for folder in file.folders if is_site_folder(folder) or is_cohort_folder(folder)]


def _find_repeated(pairs: Sequence[tuple[PlacedFile, Subject]]) -> set[str]:
    """Return the paths of files of subjects with a bare number whose names occur in several classes, visits aside."""
    paths: dict[str, dict[str, str]] = defaultdict(dict)  # path below the class -> class -> whole path
    for file, subject in pairs:
        name = file.class_name
        is_group = name is not None and (is_cohort_folder(name) or not is_generic_folder(name))
        is_bare = bool(_NUMBER.fullmatch(subject.name)) or is_generic_name(subject.name, numbers=True)
        if name is not None and is_group and is_bare:
            paths[file.inside.lower()][name] = file.path
    return {path for found in paths.values() if len(found) > 1 for path in found.values()}


def _list_top(file: PlacedFile, subject: Subject) -> list[str]:
    """Return the outermost folder that may hold people, unless it is the subject."""
    return [folder for folder in file.informative_folders[:1] if folder.lower() != subject.name.lower()]


def _find_numbered(pairs: Sequence[tuple[PlacedFile, Subject]], subjects: Sequence[Subject]) -> Iterator[Problem]:
    """Yield a problem if all subjects are folders without a number in their name that hold several numbers."""
    numbers: dict[str, set[str]] = defaultdict(set)
    for file, subject in pairs:
        top = next(iter(file.informative_folders), "")
        if subject.name.lower() == top.lower() and not re.search(r"\d", top):
            below = file.path.partition(f"{top}/")[2].partition("/")[0].partition(".")[0]
            numbers[subject.name] |= {below} if _NUMBER.fullmatch(below) else set()
    full = [name for name, found in numbers.items() if len(found) > 1]
    if len(full) > 1 and len(full) == len({subject.name for subject in subjects}):
        listed = list_examples(sorted(numbers[full[0]]))
        found = f"{count_noun(len(full), 'folder')} taken for one person each, such as {full[0]} with {listed} inside"
        expected = f"one person per folder; if the folders are sites, pass --subject-pattern '{_PATTERN}'"
        yield Problem("subjects", found, expected)


def _find_pattern(placed: Sequence[tuple[PlacedFile, str, str]]) -> str:
    """Return --subject-pattern with one that finds SITE/ID in the path of each file; with REGEX if none does.

    Args:
        placed: file, subject and place of the files of the subjects in several places.
    """
    shape = re.sub(r"\d+", r"\\d+", placed[0][1])
    people = [(place, name.lower()) for _, name, place in placed]
    for outer in range(_MAX_OUTER_FOLDERS + 1):
        for text in (_ID, shape):
            pattern = f"^{'[^/]+/' * outer}([^/]+/{text})" if outer else f"^[^/]+/{text}"
            matches = [re.search(pattern, file.path) for file, _, _ in placed]
            found = [match[match.re.groups].lower() if match else "" for match in matches]
            is_id = all(text.rpartition("/")[2] == name for text, (_, name) in zip(found, people, strict=True))
            if is_id and len(set(found)) == len(set(people)) == len(set(zip(found, people, strict=True))):
                return f"--subject-pattern '{pattern}'"
    return "--subject-pattern REGEX"
