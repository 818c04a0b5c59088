"""Class labels given by number or by name, for every command that takes one."""

from collections.abc import Sequence
from dataclasses import replace

from vqdist.foundation.errors import Problem, UserError

LISTED_CLASSES = 5


def find_label(label: int | str | None, names: Sequence[str], *, where: str = "--label") -> int | None:
    """Return the number of a class that is given by its number or its name.

    Args:
        names: name of each class; empty for classes without names.
        where: the option that names the class, for messages.
    Raises:
        UserError: no class has the name.
    """
    if not isinstance(label, str):
        return label
    if label in names:
        return names.index(label)
    expected = f"a class: {describe_classes(names)}" if names else "the number of a class: the classes have no names"
    raise UserError.of(where, repr(label), expected)


def describe_classes(names: Sequence[str]) -> str:
    """Return numbers and names of the first classes, and how many there are."""
    listed = ", ".join(f"{label} {name}" for label, name in enumerate(names[:LISTED_CLASSES]))
    return listed if len(names) <= LISTED_CLASSES else f"{listed}, ... ({len(names)} classes)"


def list_classes(problem: Problem, names: Sequence[str]) -> Problem:
    """Return a problem of the label with the names of the classes added, if there are any."""
    if problem.where != "label" or not names:
        return problem
    return replace(problem, expected=f"{problem.expected}: {describe_classes(names)}")
