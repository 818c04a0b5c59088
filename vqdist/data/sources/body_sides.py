"""Recognition of files of the left and the right side of one person, such as 100_left.png and 100_right.png."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from vqdist.data.sources.generic_names import is_generic_name

# Oculus dexter and sinister are the right and the left eye.
_PAIRS = (("left", "right"), ("lt", "rt"), ("lh", "rh"), ("l", "r"), ("os", "od"))
_SIDES = {side: pair for pair in _PAIRS for side in pair}
_SIDE = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(_SIDES)})(?![A-Za-z0-9])", re.IGNORECASE)
_SEPARATORS = "-_. +"


class _SidedName(NamedTuple):
    """The parts of a name around the word for the side: 100_left_2 is 100, left and 2."""

    before: str
    side: str
    after: str


def find_paired_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return path -> subject for files whose names have a side, if both sides of any name occur.

    Args:
        names: path -> name of the file without its extension.
    """
    found = {path: sided for path, name in names.items() if (sided := _split_at_side(name))}
    counts = Counter(found.values())
    sides: dict[tuple[str, str, tuple[str, str]], set[str]] = defaultdict(set)
    for before, side, after in found.values():
        sides[before.lower(), after.lower(), _SIDES[side]].add(side)
    paired = {pair for (_, _, pair), both in sides.items() if len(both) > 1}
    subjects = {
        path: _name_person(sided, repeats=counts[sided] > 1)
        for path, sided in found.items()
        if _SIDES[sided.side] in paired
    }
    return {path: name for path, name in subjects.items() if name}


def _split_at_side(name: str) -> _SidedName | None:
    found = list(_SIDE.finditer(name))
    if not found:
        return None
    before, after = name[: found[-1].start()], name[found[-1].end() :]
    return _SidedName(before.rstrip(_SEPARATORS), found[-1][0].lower(), after.lstrip(_SEPARATORS))


def _name_person(sided: _SidedName, *, repeats: bool) -> str | None:
    """Return the part of the name that identifies a person: a number, or a word before the side.

    Args:
        repeats: the name occurs in several folders, so that a word alone is no person.
    """
    if re.search(r"\d", sided.before):
        return sided.before
    if not sided.before:
        return sided.after if re.search(r"\d", sided.after) else None
    is_person = not (sided.after or repeats or is_generic_name(sided.before, numbers=True))
    return sided.before if is_person else None
