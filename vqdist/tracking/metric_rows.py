"""Lay out a line of metrics.jsonl as a W&B row: charts in sections, over the training step."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

GLOBAL_STEP = "global_step"
# Charts whose best value the summary shows, and which one is best.
BEST = {
    "validate/loss": "min",
    "validate/ssim": "max",
    "validate/psnr": "max",
    "prior/bits_per_code_validate": "min",
}
_JOINED = {"row", "histogram", "picture"}


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


def join_reports(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events with the rows, histograms and pictures of each step as one event, `report`, with its parts."""
    joined: list[dict[str, Any]] = []
    reports: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["do"] not in _JOINED or "step" not in event:
            joined.append(event)
        elif event["step"] in reports:
            reports[event["step"]]["parts"].append(event)
        else:
            reports[event["step"]] = {"do": "report", "step": event["step"], "parts": [event]}
            joined.append(reports[event["step"]])
    return joined


def find_best(rows: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return the best value of each chart of BEST in rows, as the summary of a run has it: {chart: {"min": value}}."""
    choose: dict[str, Callable[[float, float], float]] = {"min": min, "max": max}
    best: dict[str, dict[str, float]] = {}
    for row in rows:
        for chart in BEST.keys() & row.keys():
            kind, value = BEST[chart], row[chart]
            best[chart] = {kind: choose[kind](best[chart][kind], value) if chart in best else value}
    return best


def _name_chart(split: str, key: str) -> str:
    if key in {"perplexity", "codes_used", "restarts"}:
        return f"codebook/{key}_{split}"
    if key.endswith(("bits_per_code", "bits_per_pixel")):
        return f"prior/{key}_{split}"
    return key if key == "samples" else f"{split}/{key}"
