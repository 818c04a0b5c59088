"""How a line of metrics.jsonl is laid out in W&B: sections of charts over our own step."""

from collections.abc import Mapping
from typing import Any

GLOBAL_STEP = "global_step"
SECTIONS = ("train", "validate", "codebook", "prior", "speed", "system", "pictures", "evaluate")

_CODEBOOK = frozenset({"perplexity", "codes_used", "dead_codes", "restarts", "restarted"})
_PRIOR_ENDINGS = ("bits_per_code", "bits_per_pixel")
_NOT_METRICS = frozenset({"step", "split"})


def to_row(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the W&B row of one line of metrics.jsonl: `section/name` -> number, and `global_step`.

    Losses stay in the section of their split. What describes the codebook or the prior stands in a
    section of its own, train and validate side by side; `perf` becomes `speed` and, for memory, `system`.
    """
    split = str(record.get("split", "train"))
    row: dict[str, float] = {GLOBAL_STEP: int(record["step"])}
    for key, value in record.items():
        if key in _NOT_METRICS:
            continue
        if key == "perf" and isinstance(value, Mapping):
            row.update({name_perf(split, n): v for n, v in value.items() if is_number(v)})
        elif isinstance(value, Mapping):
            row.update({name_metric(split, f"{key}_{n}"): v for n, v in value.items() if is_number(v)})
        elif is_number(value):
            row["samples" if key == "samples" else name_metric(split, key)] = value
    return row


def is_number(value: Any) -> bool:
    """Tell whether W&B can draw the value as a point of a chart."""
    return isinstance(value, int | float)


def name_metric(split: str, key: str) -> str:
    """Return the chart of a metric: `ssim` of validate is `validate/ssim`, its perplexity a codebook matter."""
    if "/" in key:
        return key
    if key in _CODEBOOK:
        return f"codebook/{key}_{split}"
    if key.endswith(_PRIOR_ENDINGS):
        return f"prior/{key}_{split}"
    return f"{split}/{key}"


def name_perf(split: str, key: str) -> str:
    """Return the chart of a time, a rate or an amount of memory; those of train bear no split."""
    section = "system" if "memory" in key else "speed"
    return f"{section}/{key}" if split == "train" else f"{section}/{key}_{split}"
