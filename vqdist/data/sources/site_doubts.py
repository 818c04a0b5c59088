"""Signs that folders of volumes are sites with subject numbers of their own, such as London/1 and Paris/1."""

import re
from collections import defaultdict
from collections.abc import Sequence

from vqdist.data.sources.folders import PlacedFile
from vqdist.data.sources.subjects import Subject
from vqdist.foundation.errors import Problem, list_examples
from vqdist.foundation.progress import count_noun

_PATTERN = "--subject-pattern '^[^/]+/[^/_.]+'"


def find_site_doubts(files: Sequence[PlacedFile], subjects: Sequence[Subject]) -> list[Problem]:
    """Return a problem if a subject is in several folders of people, or is itself a folder of numbered people.

    Args:
        files: volumes.
        subjects: of each file.
    """
    inside: dict[str, set[str]] = defaultdict(set)  # folder -> subjects in it
    folders: dict[str, set[str]] = defaultdict(set)  # subject -> folders that are not its own
    numbers: dict[str, set[str]] = defaultdict(set)  # subject that is a folder -> numbers below it
    for file, subject in zip(files, subjects, strict=True):
        if subject.rule == "pattern" or not file.informative_folders:
            continue
        top = file.informative_folders[0]
        if subject.name.lower() != top.lower():
            inside[top].add(subject.name)
            folders[subject.name].add(top)
        elif not re.search(r"\d", top):
            below = file.path.partition(f"{top}/")[2].partition("/")[0].partition(".")[0]
            numbers[subject.name] |= {below} if below.isdecimal() else set()
    return [*_describe_shared(inside, folders), *_describe_numbered(numbers, len(set(subjects)))]


def _describe_shared(inside: dict[str, set[str]], folders: dict[str, set[str]]) -> list[Problem]:
    """Return a problem if several subjects occur in several folders that each hold several subjects."""
    groups = {folder for folder, found in inside.items() if len(found) > 1}
    shared = {name: sorted(found & groups) for name, found in folders.items() if len(found & groups) > 1}
    if len(shared) < 2:
        return []
    name, places = next(iter(shared.items()))
    many = count_noun(len(shared), "subject")
    found = f"{many} in several folders each, such as {name} in {list_examples(places)}, which may be sites"
    expected = f"the same person in all these folders; if they are sites with numbers of their own, pass {_PATTERN}"
    return [Problem("subjects", found, expected)]


def _describe_numbered(numbers: dict[str, set[str]], total: int) -> list[Problem]:
    """Return a problem if all subjects are folders without a number in their name that hold several numbers."""
    full = [name for name, found in numbers.items() if len(found) > 1]
    if len(full) < 2 or len(full) < total:
        return []
    listed = list_examples(sorted(numbers[full[0]]))
    found = f"{count_noun(len(full), 'folder')} taken for one person each, such as {full[0]} with {listed} inside"
    return [Problem("subjects", found, f"one person per folder; if the folders are sites, pass {_PATTERN}")]
