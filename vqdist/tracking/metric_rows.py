"""Lay out a line of metrics.jsonl as a W&B row: charts in sections, over the training step."""

from collections.abc import Mapping
from typing import Any

GLOBAL_STEP = "global_step"


def to_event(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event that logs a line of metrics.jsonl; its `row` is chart -> number, with `global_step`.

    Metrics are in the section of their split. Those of the codebook and the prior have a section of their own, with
    train and validate side by side. `perf` becomes `speed` or, for memory, `system`.
    """
    split = record["split"]
    row = {_name_chart(split, key): value for key, value in record.items() if key not in {"step", "split"}}
    for key, value in (record.get("perf") or {}).items():
        chart = f"system/{key}" if "memory" in key else f"speed/{key}"
        row[chart if split == "train" else f"{chart}_{split}"] = value
    row = {GLOBAL_STEP: record["step"]} | {key: value for key, value in row.items() if isinstance(value, int | float)}
    return {"do": "row", "stream": split, "step": record["step"], "row": row}


def _name_chart(split: str, key: str) -> str:
    if key in {"perplexity", "codes_used", "restarts"}:
        return f"codebook/{key}_{split}"
    if key.endswith(("bits_per_code", "bits_per_pixel")):
        return f"prior/{key}_{split}"
    return key if key == "samples" else f"{split}/{key}"
