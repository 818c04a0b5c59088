"""The report of `vqdist.evaluate` as a person reads it, beside the JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.foundation.progress import count_noun
from vqdist.inference.reconstruction import EACH


def describe_report(report: Mapping[str, Any]) -> str:
    """Return a table of a report's metrics, name, mean and 95 % interval, and where its pictures are.

    Args:
        report: of a split, whose metrics have a mean and an interval, or of a user's own pictures, plain means.
    """
    if "pictures" in report:
        lines = [count_noun(report["pictures"], "picture")]
    else:
        counts = f"{count_noun(report['samples'], 'sample')} of {count_noun(report['subjects'], 'subject')}"
        lines = [f"{report['split']}: {counts}; mean, 95 % interval over subjects"]
    width = max(map(len, report["metrics"]), default=0)
    for name, value in report["metrics"].items():
        mean, low, high = (
            (value["mean"], value["low"], value["high"]) if isinstance(value, dict) else (value, None, None)
        )
        interval = "" if low is None else f"  {format_figure(low)} to {format_figure(high)}"
        lines.append(f"  {name:<{width}}  {format_figure(mean):>7}{interval}")
    if "overview" in report:
        overview = Path(report["overview"])
        lines.append(f"look at {overview}, and at each picture beside its original in {overview.parent / EACH}")
    if report.get("figures"):
        lines.append(f"look at the figures in {Path(report['figures'][0]).parent}")
    return "\n".join(lines)


def format_figure(value: float | None) -> str:
    """Return a number with four figures, and no decimals from 1000 on."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
