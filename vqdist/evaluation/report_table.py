"""The report of `vqdist evaluate` as a table for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.foundation.progress import count_noun
from vqdist.inference.reconstruction import PAIRS_FOLDER


def describe_report(report: Mapping[str, Any], *, shows_brains: bool = True) -> str:
    """Return a table of the metrics, name, mean and 95 % interval, of the samples, and the paths of the figures.

    Args:
        report: of a split, whose metrics have an interval, or of pictures, whose metrics are means.
        shows_brains: False to leave out the metrics inside the brain, which mean nothing for other pictures.
    """
    if "pictures" in report:
        lines = [count_noun(report["pictures"], "picture")]
    else:
        counts = f"{count_noun(report['samples'], 'sample')} of {count_noun(report['subjects'], 'subject')}"
        lines = [f"{report['split']}: {counts}; mean, 95 % interval over subjects"]
    metrics = {name: value for name, value in report["metrics"].items() if shows_brains or not name.endswith("_brain")}
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        summary = value if isinstance(value, dict) else {"mean": value, "low": None, "high": None}
        low, high = summary["low"], summary["high"]
        interval = "" if low is None else f"  {format_figure(low)} to {format_figure(high)}"
        lines.append(f"  {name:<{width}}  {format_figure(summary['mean']):>7}{interval}")
    for name, found in report.get("categories", {}).items():
        lines += describe_category(name, found)
    if "realism" in report:
        lines += describe_samples(report["realism"], report["split"])
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


def describe_samples(realism: Mapping[str, Any], split: str) -> list[str]:
    """Return a heading and five rows about samples, each beside the same figure of real slices.

    Args:
        realism: the comparison of the samples; its "test" stands for the real slices of the split.
    """
    features, copies, pairs, grey = (
        realism[name] for name in ("feature_distance", "copies", "diversity", "grey_values")
    )
    found, real = copies["samples"], copies["test"]
    rows = [
        ("feature distance", features["samples_test"], f"train {format_figure(features['train_test'])}"),
        ("near copies", found["near_copies"], f"{split} {real['near_copies']} of {real['slices']}"),
        ("nearest train slice", found["median_over_test"], f"distance, in multiples of that of {split}"),
        (
            "MS-SSIM of pairs",
            pairs["samples"],
            f"train {format_figure(pairs['train'])}, {split} {format_figure(pairs['test'])}",
        ),
        ("grey value distance", grey["samples_test"], f"train {format_figure(grey['train_test'])}"),
    ]
    rows += describe_volumes(realism["volumes"], split) if "volumes" in realism else []
    width = max(len(name) for name, _, _ in rows)
    heading = (
        f"{count_noun(realism['samples'], 'sample')} beside real slices; distances are to {split}, lower is closer"
    )
    return [heading, *(f"  {name:<{width}}  {format_figure(value):>7}  {beside}" for name, value, beside in rows)]


def describe_volumes(volumes: Mapping[str, Any], split: str) -> list[tuple[str, float | None, str]]:
    """Return rows about sampled volumes: name, figure, and the same figure of the real ones."""
    sampled, real = volumes["neighbours"]["samples"], volumes["neighbours"].get("test", {})
    titles = {
        "ssim": "SSIM of neighbours",
        "agreement": "equal codes of neighbours",
        "difference": "grey difference of neighbours",
        "flips": "ventricle flips",
    }
    rows: list[tuple[str, float | None, str]] = []
    for name, title in titles.items():
        mean, spread = read_spread(sampled[name])
        beside = ", spread ".join(format_figure(figure) for figure in read_spread(real.get(name)))
        rows.append((title, mean, f"spread {format_figure(spread)}; {split} {beside}"))
    drift, copies = volumes["drift"]["samples"], volumes["copies"]["samples"]
    rows.append(("drift", drift["ratio"], "feature distance of the last 8 slices over that of the first 8"))
    rows.append(("near copies of volumes", copies["near_copies"], f"of {copies['volumes']}"))
    return rows


def read_spread(figure: Mapping[str, float] | None) -> tuple[float | None, float | None]:
    """Return mean and spread of a figure."""
    return (None, None) if figure is None else (figure["mean"], figure["spread"])


def format_figure(value: float | None) -> str:
    """Return a number with four significant digits, and without decimals from 1000 on."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
