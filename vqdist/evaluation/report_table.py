"""The report of `vqdist evaluate` as a table for the terminal."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.evaluation.samples.coverage import NEIGHBOURS
from vqdist.evaluation.samples.realism_table import describe_realism
from vqdist.foundation.figure_text import format_figure, format_summary
from vqdist.foundation.progress import count_noun
from vqdist.inference.reconstruction import PAIRS_FOLDER
from vqdist.metrics.confidence_intervals import FEW_SUBJECTS, MIN_SUBJECTS

MEANING = "meaning of the figures: launch/README.md#metrics"
NO_FIGURE = (
    "none: too few subjects or slices, or nothing to measure, as in black slices. A feature distance needs 2 subjects "
    f"in each set; coverage and density need {NEIGHBOURS} slices of other subjects for each slice of the split"
)


def describe_report(report: Mapping[str, Any], *, shows_brains: bool = True) -> str:
    """Return a table of the metrics, name, mean and 95 % interval, and of the samples; where the figures are explained,
    and the paths of the charts.

    Args:
        report: of a split, whose metrics have an interval, or of pictures, whose metrics are means.
        shows_brains: False to leave out the metrics inside the brain, which mean nothing for other pictures.
    """
    if "pictures" in report:
        lines = [count_noun(report["pictures"], "picture")]
    else:
        counts = f"{count_noun(report['samples'], 'sample')} of {count_noun(report['subjects'], 'subject')}"
        few = report["subjects"] < MIN_SUBJECTS
        lines = [f"{report['split']}: {counts}; mean{f' ({FEW_SUBJECTS})' if few else ', 95 % interval over subjects'}"]
    metrics = {name: value for name, value in report["metrics"].items() if shows_brains or not name.endswith("_brain")}
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        summary = value if isinstance(value, dict) else {"mean": value, "low": None, "high": None}
        lines.append(f"  {name:<{width}}  {format_summary(summary, width=7)}")
    for name, found in report.get("categories", {}).items():
        lines += describe_category(name, found)
    for name, differences in report.get("differences", {}).items():
        lines += describe_differences(name, differences, shows_brains=shows_brains)
    if "realism" in report:
        lines += describe_realism(report["realism"], report["split"])
    if any(line.startswith("  ") and re.search(r"(?<!\S)none\b", line) for line in lines):
        lines.append(NO_FIGURE)
    lines.append(MEANING)
    if "volume" in report:
        lines.append(f"look at {report['volume']}, and at some slices in {report['overview']}")
    elif "overview" in report:
        overview = Path(report["overview"])
        lines.append(f"look at {overview}, and at each picture beside its original in {overview.parent / PAIRS_FOLDER}")
    if report.get("figures"):
        lines.append(f"look at the figures in {Path(report['figures'][0]).parent}")
    return "\n".join(lines)


def describe_category(name: str, found: Mapping[str, Any] | None) -> list[str]:
    """Return a row about the recognition of a category from the codes, beside that by counts of codes."""
    if found is None:
        return [f"  {name}: the split has one category only"]
    ours, counts = (part["balanced_accuracy"] for part in (found, found["position_counts"]))
    interval = "" if ours["low"] is None else f" ({format_figure(ours['low'])} to {format_figure(ours['high'])})"
    beside = f"by counts at each position {format_figure(counts['mean'])}"
    return [f"  {name} from the codes: balanced accuracy {format_figure(ours['mean'])}{interval}, {beside}"]


def describe_differences(name: str, differences: Mapping[str, Any], *, shows_brains: bool) -> list[str]:
    """Return a heading and a row per metric: this run minus another one, paired by slice."""
    lines = [f"this run minus {name}, on the same slices; mean, 95 % interval over subjects"]
    shown = {key: value for key, value in differences.items() if shows_brains or not key.endswith("_brain")}
    width = max(map(len, shown), default=0)
    return lines + [f"  {key:<{width}}  {format_summary(value)}" for key, value in shown.items()]
