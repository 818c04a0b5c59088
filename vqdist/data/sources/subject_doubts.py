"""Signs that files of one person are taken for several subjects, and folders of splits for classes."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

from vqdist.data.sources.file_names import parse_split, parse_subject
from vqdist.data.sources.folders import PlacedFile
from vqdist.data.sources.generic_names import is_generic_name, reduce_name, strip_counter, strip_last_word
from vqdist.data.sources.subjects import Subject, SubjectUnits
from vqdist.foundation.errors import Problem, list_examples
from vqdist.foundation.progress import count_noun

_MIN_STEM_LENGTH = 3
_MIN_BEGIN_LENGTH = 2
_MOST = 2 / 3  # of the names
_YEAR = re.compile(r"(?:19|20)\d\d")
_NUMBERED = re.compile(r"[^\W\d_]{2,}(?:[-_. ]?[mv])?\d{1,3}", re.IGNORECASE)  # anna0, anna_m12
_WORD = re.compile(r"[^\W\d_]+|\d+")
_PROCESSING = re.compile(r"[smwrau]*(?:c[1-6])?")  # SPM: smoothed, modulated, warped, resliced; tissue 1
_MAX_PROCESSING = 6
_ONE_PER_PERSON = (
    "one subject per person; if a person has several files, pass --subject-pattern REGEX or --subject-from folder|name;"
    " if each file is another person, pass --subject-pattern '.+'"
)


def find_subject_doubts(files: Sequence[PlacedFile], subjects: Sequence[Subject]) -> list[Problem]:
    """Return why files that are each a subject of their own may be of fewer people."""
    counts = Counter(subject.name for subject in subjects)
    alone = [
        file for file, subject in zip(files, subjects, strict=True) if not subject.certain and counts[subject.name] == 1
    ]
    signs = [*_find_repeated_names(alone), *_find_full_folders(alone), *_find_repeated_stems(alone)]
    if signs:
        found = f"{count_noun(len(alone), 'file')}, each a subject of its own, although {' and '.join(signs)}"
        return [Problem("subjects", found, _ONE_PER_PERSON)]
    uncertain = {subject.name for subject in subjects if not subject.certain and subject.rule == "name"}
    named = {subject.name for subject in subjects if subject.rule in ("name", "folder")}
    unknown = {name for name in named if parse_subject(name) is None}
    shared = _find_shared_stems(uncertain or {file.stem for file in alone})
    groups = shared or _find_small_groups(unknown) or _find_prefixed_names(unknown) or _find_groups_in_folders(alone)
    return _describe_shared_stems(groups)


def find_class_doubts(class_names: Sequence[str]) -> list[Problem]:
    """Return problems if classes have the names of splits, such as train_faces and test_faces, or of people."""
    splits = {name: parse_split(name) or parse_split(name.replace("-", "_").partition("_")[0]) for name in class_names}
    alike = [name for name, split in splits.items() if split]
    people = [name for name in class_names if parse_subject(name) and any(map(str.isdigit, name))]
    problems = []
    if len({splits[name] for name in alike}) > 1:
        found = f"the classes {list_examples(alike)}, which look like splits"
        problems.append(Problem("classes", found, "classes; rename folders of splits to train, validate and test"))
    if people:
        found = f"the classes {list_examples(people)}, which look like subjects, beside others, which do not"
        problems.append(Problem("classes", found, "classes, or --subject-pattern if these folders are people"))
    return problems


def _find_repeated_names(files: Sequence[PlacedFile]) -> Iterable[str]:
    """Yield a sign if file names occur in several folders of a split; those of given splits have their own numbers."""
    places: dict[tuple[str, str | None], set[str]] = defaultdict(set)
    for file in files:
        places[file.stem.lower(), file.split].add(file.parent)
    repeated = list(dict.fromkeys(name for (name, _), folders in places.items() if len(folders) > 1))
    if repeated:
        verb = "occurs" if len(repeated) == 1 else "occur"
        yield f"{count_noun(len(repeated), 'file name')} {verb} in several folders ({list_examples(repeated)})"


def _find_full_folders(files: Sequence[PlacedFile]) -> Iterable[str]:
    """Yield a sign if there are several folders below those of split and class, and some hold several files."""
    units = SubjectUnits.of([file.informative_folders for file in files if file.informative_folders])
    counts: dict[str, int] = defaultdict(int)
    for file in files:
        if unit := units.find(file.informative_folders):
            counts[unit] += 1
    full = [folder for folder, count in counts.items() if count > 1]
    if len(counts) > 1 and full:
        verb = "holds" if len(full) == 1 else "hold"
        yield f"{count_noun(len(full), 'folder')} {verb} several files ({list_examples(full)})"


def _find_repeated_stems(files: Sequence[PlacedFile]) -> Iterable[str]:
    """Yield a sign if files of one folder differ only in the number at the end of their names, in several groups."""
    groups: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for file in files:
        if (shorter := strip_counter(file.stem)) and not is_generic_name(shorter, numbers=True):
            groups[file.parent][shorter] += 1
    repeated = {
        name
        for counts in groups.values()
        if sum(count > 1 for count in counts.values()) > 1
        for name, count in counts.items()
        if count > 1
    }
    if repeated:
        yield f"{count_noun(len(repeated), 'name')} occur with several numbers ({list_examples(sorted(repeated))})"


def _find_shared_stems(names: Iterable[str]) -> list[list[str]]:
    """Return groups of subjects whose names have the same stem, such as colin27_head and colin27.

    The stem is the name without its last word and without a visit: anna1_baseline and anna1_followup are a group too.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    whole: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        reduced = reduce_name(name.rpartition("/")[2])
        whole[reduced.lower()].append(name)
        shorter, word = strip_last_word(reduced)
        if len(shorter) >= _MIN_STEM_LENGTH and _may_vary(word) and not is_generic_name(shorter, numbers=True):
            groups[shorter.lower()].append(name)
    for stem, group in groups.items():
        group[:0] = whole.pop(stem, [])
    named = [found for stem, found in whole.items() if len(stem) >= _MIN_STEM_LENGTH]
    return [group for group in (*groups.values(), *named) if len(group) > 1]


def _find_small_groups(names: Collection[str]) -> list[list[str]]:
    """Return groups of subjects whose names begin alike, if most names are in small groups, as of visits of a person.

    A few large groups, such as AD_001 to AD_090 and CN_001 to CN_080, are sites or diagnoses.
    """
    words = {name: tuple(_WORD.findall(name.rpartition("/")[2].lower())) for name in sorted(names)}
    for depth in range(1, max(map(len, words.values()), default=0)):
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name, parts in words.items():
            groups[parts[:depth]].append(name)
        several = [
            group for begin, group in groups.items() if len(group) > 1 and len("".join(begin)) >= _MIN_BEGIN_LENGTH
        ]
        is_small = len(several) >= max(2, *map(len, several), 0)
        if is_small and sum(map(len, several)) >= _MOST * len(names):
            return several
    return []


def _find_groups_in_folders(files: Sequence[PlacedFile]) -> list[list[str]]:
    """Return the small groups of names such as anna0 and anna_m12 in each folder where most names are like these."""
    stems: dict[str, set[str]] = defaultdict(set)
    for file in files:
        stems[file.parent].add(file.stem)
    groups = []
    for names in stems.values():
        numbered = [name for name in names if _NUMBERED.fullmatch(name)]
        if len(numbered) >= _MOST * len(names):
            groups += _find_small_groups(numbered)
    return groups


def _find_prefixed_names(names: Collection[str]) -> list[list[str]]:
    """Return pairs of names of which one is the other after letters of processing, as S01 and wmS01 of SPM."""
    found = {name.lower(): name for name in sorted(names)}
    return [
        [found[lower[end:]], name]
        for lower, name in found.items()
        for end in range(1, _MAX_PROCESSING)
        if lower[end:] in found and lower[end].isalpha() and _PROCESSING.fullmatch(lower[:end])
    ]


def _describe_shared_stems(groups: Sequence[Sequence[str]]) -> list[Problem]:
    """Return a problem for groups of subjects that may be one person each, none without groups."""
    if not groups:
        return []
    listed = list_examples([" and ".join(group[:3]) for group in groups], separator="; ")
    found = f"different subjects whose names share a stem, which may be one person: {listed}"
    return [Problem("subjects", found, "one subject per person; if they are one person, pass --subject-pattern REGEX")]


def _may_vary(word: str) -> bool:
    """Return whether files of one person may differ in this last word of their names: only letters, or a year."""
    return word.isalpha() or _YEAR.fullmatch(word) is not None
