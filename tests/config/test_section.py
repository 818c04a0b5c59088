"""Sections: typed and frozen keys, with every problem reported at once."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from vqdist.config.section import Bool, Int, Real, Section, build_section, key, list_fields, validate
from vqdist.config.shard_options import ShardOptions
from vqdist.foundation.errors import ConfigError


class Net(Section):
    width: Int = key(8, "channels", unit="channels", ge=1, le=64)
    rate: Real = key(0.5, "how fast", gt=0)
    deep: Bool = key(False, "more layers")
    kind: Literal["a", "b"] | None = key(None, "which")


def test_keys_are_listed_with_type_unit_and_default() -> None:
    assert [(found.name, found.type, found.unit, found.default) for found in list_fields(Net)] == [
        ("width", "int", "channels", 8),
        ("rate", "float", "", 0.5),
        ("deep", "true|false", "", False),
        ("kind", "a|b|null", "", None),
    ]


def test_a_section_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Net().width = 3


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(ConfigError) as found:
        build_section(Net, {"width": 65, "rate": True, "deep": 1, "kind": "c", "widht": 3}, prefix="model.")
    reported = "\n".join(map(str, found.value.problems))
    assert len(found.value.problems) == 5
    assert "model.width: found 65; expected at most 64" in reported
    assert all(f"model.{name}: " in reported for name in ("rate", "deep", "kind", "widht"))
    assert "did you mean" in reported
    assert "model.kind: found 'c'; expected a, b or null" in reported


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ConfigError, match="finite"):
        build_section(Net, {"rate": value}, prefix="model.")


def test_paths_of_options_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv("DATA", "/data")
    options, problems = validate(ShardOptions, {"source": "${DATA}/in", "out": "~/out"}, lambda location: "x")
    assert problems == []
    assert (options.source, options.out) == ("/data/in", Path("/home/anna/out"))
