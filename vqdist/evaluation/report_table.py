"""The report of `vqdist evaluate` as a table for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.foundation.progress import count_noun
from vqdist.inference.reconstruction import PAIRS_FOLDER


def describe_report(report: Mapping[str, Any]) -> str:
    """Return a table of the metrics, name, mean and 95 % interval, and the paths of the figures.

    Args:
        report: of a split, whose metrics have an interval, or of pictures, whose metrics are means.
    """
    if "pictures" in report:
        lines = [count_noun(report["pictures"], "picture")]
    else:
        counts = f"{count_noun(report['samples'], 'sample')} of {count_noun(report['subjects'], 'subject')}"
        lines = [f"{report['split']}: {counts}; mean, 95 % interval over subjects"]
    width = max(map(len, report["metrics"]), default=0)
    for name, value in report["metrics"].items():
        summary = value if isinstance(value, dict) else {"mean": value, "low": None, "high": None}
        low, high = summary["low"], summary["high"]
        interval = "" if low is None else f"  {format_figure(low)} to {format_figure(high)}"
        lines.append(f"  {name:<{width}}  {format_figure(summary['mean']):>7}{interval}")
    if "overview" in report:
        overview = Path(report["overview"])
        lines.append(f"look at {overview}, and at each picture beside its original in {overview.parent / PAIRS_FOLDER}")
    if report.get("figures"):
        lines.append(f"look at the figures in {Path(report['figures'][0]).parent}")
    return "\n".join(lines)


def format_figure(value: float | None) -> str:
    """Return a number with four significant digits, and without decimals from 1000 on."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
