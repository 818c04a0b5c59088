"""The key `model.condition`: names of what a prior is conditioned on, or one of the words of earlier versions."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator

from vqdist.config.attributes import RESERVED

ConditionWord = Literal["none", "label", "slice", "label+slice"]
CONDITION_WORDS: tuple[str, ...] = get_args(ConditionWord)
NUMBERS = ("label", "slice")  # the conditions that every dataset may have


def list_names(condition: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a validated value, label and slice first."""
    if isinstance(condition, str):
        return () if condition == "none" else tuple(condition.split("+"))
    return condition


def _parse(value: object) -> object:
    """Return the word of earlier versions where there is one, else the names, label and slice first."""
    names = value.split("+") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError("none, or a list of names such as [slice, age, sex]")
    names = [name.strip() for name in names]
    if names == ["none"]:
        names = []
    wrong = [name for name in names if (name in RESERVED and name not in NUMBERS) or name == "none"]
    if wrong or len(set(names)) < len(names):
        raise ValueError("a list of different names, such as [slice, age, sex]")
    ordered = tuple(sorted(names, key=lambda name: NUMBERS.index(name) if name in NUMBERS else len(NUMBERS)))
    word = "+".join(ordered) or "none"
    return word if word in CONDITION_WORDS else ordered


ConditionKey = Annotated[ConditionWord | tuple[str, ...], BeforeValidator(_parse)]
