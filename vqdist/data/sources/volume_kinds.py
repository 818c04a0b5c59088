"""Recognition of subjects with several kinds of volumes, such as T1 and T2, which would be mixed in one dataset."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from vqdist.data.sources.file_selection import matches_glob
from vqdist.data.sources.folders import PlacedFile
from vqdist.data.sources.generic_names import find_channel, find_modality, strip_visits
from vqdist.data.sources.subjects import Subject
from vqdist.foundation.errors import Problem, list_examples
from vqdist.foundation.progress import count_noun

_TISSUE = re.compile(r"pve|prob|[smwr]+c[1-6]|(?:^|_)c[1-6]", re.IGNORECASE)  # of FSL, fMRIPrep and SPM


def find_kind_doubts(
    files: Sequence[PlacedFile], subjects: Sequence[Subject], patterns: Sequence[str]
) -> list[Problem]:
    """Return a problem if subjects have volumes of several kinds; several sessions of the same kind are none.

    Args:
        files: volumes.
        subjects: of each file.
        patterns: of --include; patterns that each match one kind take several kinds on purpose.
    """
    of_subjects: dict[str, list[PlacedFile]] = defaultdict(list)
    for file, subject in zip(files, subjects, strict=True):
        of_subjects[subject.name].append(file)
    groups = list(of_subjects.values())
    for describe in (_find_modality, _content_finder(groups)):
        mixed = [kinds for group in groups if len(kinds := {describe(file) for file in group} - {""}) > 1]
        if mixed and not _are_chosen(groups, patterns, describe):
            all_kinds = sorted(set().union(*mixed), key=str.lower)
            found = f"several kinds of volumes ({list_examples(all_kinds)}) in {len(mixed):,} of "
            take = next((f"'{pattern}'" for pattern in _list_patterns(all_kinds, groups, describe)), "with a pattern")
            expected = f"one kind per subject; pass --include {take} to take one, or a pattern for each to take several"
            return [Problem("volumes", found + count_noun(len(groups), "subject"), expected)]
    return []


def _find_modality(file: PlacedFile) -> str:
    """Return the modality in the name of a file, else of its folders; empty for none."""
    places = (file.stem, *reversed(file.folders))
    return find_channel(file.stem, file.parent) or next(filter(None, map(find_modality, places)), "")


def _content_finder(groups: Sequence[Sequence[PlacedFile]]) -> Callable[[PlacedFile], str]:
    """Return a function that joins the words of a file's name that occur for several subjects, without numbers.

    Words that all files of the subject have are left out, if any other is left.
    """
    words = {file.path: _split_words(file.stem) for group in groups for file in group}
    counts = Counter(word for group in groups for word in set().union(*(words[file.path] for file in group)))
    contents: dict[str, str] = {}
    for group in groups:
        shared = set.intersection(*(set(words[file.path]) for file in group))
        for file in group:
            known = [word for word in words[file.path] if counts[word] > 1]
            contents[file.path] = "_".join([word for word in known if word not in shared] or known)
    return lambda file: contents[file.path]


def _split_words(name: str) -> list[str]:
    """Return the words of a name without visits, and without numbers except in modalities such as T1."""
    words = re.split(r"[-_. +()]+", strip_visits(name))
    return [kept for word in words if (kept := find_modality(word) or word.strip("0123456789"))]


def _are_chosen(
    groups: Sequence[Sequence[PlacedFile]], patterns: Sequence[str], describe: Callable[[PlacedFile], str]
) -> bool:
    return bool(patterns) and all(_takes_one_kind(groups, pattern, describe) for pattern in patterns)


def _takes_one_kind(
    groups: Sequence[Sequence[PlacedFile]], pattern: str, describe: Callable[[PlacedFile], str]
) -> bool:
    taken = [[describe(file) for file in group if matches_glob(file.path, pattern)] for group in groups]
    return any(taken) and all(len(set(kinds)) <= 1 for kinds in taken)


def _list_patterns(
    kinds: Sequence[str], groups: Sequence[Sequence[PlacedFile]], describe: Callable[[PlacedFile], str]
) -> Iterator[str]:
    """Yield patterns of --include that take one kind per subject, of T1 first and of tissue maps last.

    File names may have other words between those of a kind, so that the last patterns match any characters there. One
    of them ends with the modality, because other files may contain the same words.
    """
    modalities = {describe(file): _find_modality(file) for group in groups for file in group}

    def rank(kind: str) -> tuple[bool, bool, bool]:
        is_t1 = modalities[kind].lower().startswith("t1")
        return bool(_TISSUE.search(kind)), not kind.lower().startswith("t1"), not is_t1

    for kind in sorted(kinds, key=rank):
        apart, modality = f"*{kind.replace('_', '*')}*", modalities[kind]
        with_modality = f"{apart}{modality}*" if modality else apart
        for pattern in (f"*{kind}*", f"*{kind}.*", f"**/{kind}/*", with_modality, apart):
            if _takes_one_kind(groups, pattern, describe):
                yield pattern
