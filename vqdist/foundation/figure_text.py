"""Figures and their intervals as text for the terminal."""

from collections.abc import Mapping


def format_figure(value: float | None) -> str:
    """Return a number with four significant digits, and without decimals from 1000 on."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def format_summary(summary: Mapping[str, float | None], width: int = 0) -> str:
    """Return a mean, and its interval if it has one."""
    low, high = summary["low"], summary["high"]
    interval = "" if low is None else f"  {format_figure(low)} to {format_figure(high)}"
    return f"{format_figure(summary['mean']):>{width}}{interval}"
