"""Print the reports of launch/results.sh as Markdown tables: python launch/results_table.py OUT."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vqdist.runs.metrics_file import read_metrics, training_seconds

CONDITIONS = (5, 25)


def main(out: Path) -> None:
    """Print all tables."""
    reports = {path.stem: json.loads(path.read_text()) for path in sorted((out / "reports").glob("*.json"))}
    tables = (
        list_models(out, reports),
        list_samples({name: report["realism"] for name, report in reports.items() if "realism" in report}),
        list_variants(out, reports),
        list_priors(out, reports),
        list_seeds(out, reports),
        list_peers(reports["peers"]),
    )
    sys.stdout.writelines(f"{line}\n" for table in tables for line in table)


def list_models(out: Path, reports: dict[str, Any]) -> Iterator[str]:
    """Yield the test metrics, with intervals, of the recommended VQ-VAE and prior and of the finer VQ-VAE."""
    yield "| model | figure | test |\n|---|---|---|"
    for run in ("vqvae_oasis", "fine"):
        metrics, first = reports[run]["metrics"], f"`{run}`, {describe_run(out / run)}"
        for name, digits in (("ssim", 3), ("ssim_brain", 3), ("psnr", 1)):
            yield f"| {first} | {name} | {format_interval(metrics[name], digits)} |"
            first = ""
        used, rate = (metrics[name]["mean"] for name in ("codes_used", "bits_per_pixel"))
        yield f"| | codes used; perplexity | {used:.0f}; {metrics['perplexity']['mean']:.0f} |"
        yield f"| | bits per pixel | {rate:.3f} |"
    metrics, first = reports["pixelcnn_oasis"]["metrics"], f"`pixelcnn_oasis`, {describe_run(out / 'pixelcnn_oasis')}"
    for name in ("", "position_", "unigram_", "uniform_"):
        yield f"| {first} | {name}bits_per_code | {format_interval(metrics[f'{name}bits_per_code'], 3)} |"
        first = ""
    less = 1 - metrics["bits_per_code"]["mean"] / metrics["position_bits_per_code"]["mean"]
    yield f"| | fewer than per position | {less:.1%} |"
    yield f"| | bits per pixel | {format_interval(metrics['bits_per_pixel'], 4)} |\n"


def list_samples(reports: dict[str, Any]) -> Iterator[str]:
    """Yield the comparison of samples with real slices; areas are of samples conditioned on one slice number."""
    realism = reports["samples"]
    features, copies, alike = realism["feature_distance"], realism["copies"], realism["diversity"]
    yield f"| of {realism['samples']} samples | figure |\n|---|---|"
    yield f"| feature distance samples to test, over train to test | {format_number(features['ratio'], 2)} |"
    yield f"| near copies; among test slices | {copies['samples']['near_copies']}; {copies['test']['near_copies']} |"
    yield f"| nearest training slice, over that of test | {format_number(copies['samples']['median_over_test'], 2)} |"
    shown = "; ".join(f"{name} {format_number(alike[name], 3)}" for name in ("samples", "train", "test"))
    yield f"| MS-SSIM between pairs | {shown} |"
    for area in ("brain_area", "ventricle_area"):
        for number in CONDITIONS:
            means = reports[f"samples-slice-{number}"]["anatomy_by_slice"]["means"]
            at = {found["group"]: found[area] for found in means if found["slice"] == number}
            shown = "; ".join(f"{name} {at[name]:.3f}" for name in ("samples", "train", "test") if name in at)
            yield f"| {area} at slice {number} | {shown} |"
    yield ""


def list_variants(out: Path, reports: dict[str, Any]) -> Iterator[str]:
    """Yield quality and rate of each VQ-VAE configuration, with the bits per code of a prior over its codes."""
    yield "| run | SSIM | brain | bits per pixel | codes used | bits per code, of position | wall time |"
    yield "|---|---|---|---|---|---|---|"
    for name in list_vqvaes(out, reports, "test"):
        metrics, prior = reports[name]["metrics"], reports.get(f"{name}-prior", {}).get("metrics")
        keys = ("bits_per_code", "position_bits_per_code")
        learned = ", ".join(format_number(prior[key]["mean"], 2) for key in keys) if prior else ""
        figures = " | ".join(format_number(metrics[key]["mean"], 3) for key in ("ssim", "ssim_brain", "bits_per_pixel"))
        used = format_number(metrics["codes_used"]["mean"], 0)
        yield f"| `{name}` | {figures} | {used} | {learned} | {describe_run(out / name)} |"
    yield ""


def list_priors(out: Path, reports: dict[str, Any]) -> Iterator[str]:
    """Yield the bits per code of each configuration of the prior over the same codes."""
    yield "| run | bits per code | wall time |\n|---|---|---|"
    for name in (name for name in reports if name.startswith("prior-")):
        bits = format_interval(reports[name]["metrics"]["bits_per_code"], 3)
        yield f"| `{name}` | {bits} | {describe_run(out / name)} |"
    yield ""


def list_seeds(out: Path, reports: dict[str, Any]) -> Iterator[str]:
    """Yield the use of the codebook for each seed."""
    yield "| run | codes used on validate | perplexity | SSIM | wall time |\n|---|---|---|---|---|"
    for name in list_vqvaes(out, reports, "validate"):
        metrics = reports[name]["metrics"]
        shown = (("codes_used", 0), ("perplexity", 1), ("ssim", 3))
        figures = " | ".join(format_number(metrics[key]["mean"], digits) for key, digits in shown)
        yield f"| `{name}` | {figures} | {describe_run(out / name)} |"
    yield ""


def list_vqvaes(out: Path, reports: dict[str, Any], split: str) -> list[str]:
    """Return the names of the VQ-VAE runs that were evaluated on a split."""
    of_split = {name: report.get("metrics", {}) for name, report in reports.items() if report.get("split") == split}
    return [name for name, metrics in of_split.items() if "ssim" in metrics and (out / name).is_dir()]


def list_peers(report: dict[str, Any]) -> Iterator[str]:
    """Yield the metrics of peer implementations after the same training time."""
    yield "| figure | ours | peer | theirs | ratio |\n|---|---|---|---|---|"
    for result in report["results"]:
        ours, theirs = (format_number(result[key], 3) for key in ("ours", "theirs"))
        yield f"| {result['case']} | {ours} | {result['peer']} | {theirs} | {format_number(result['ratio'], 2)} |"


def describe_run(run: Path) -> str:
    """Return a run's steps and wall time."""
    lines = read_metrics(run / "metrics.jsonl")
    return f"{lines[-1]['step']:,} steps, {training_seconds(lines) / 60:.1f} min"


def format_interval(value: dict[str, float | None], digits: int) -> str:
    """Return a mean, with its interval if it has one."""
    text = f"{value['mean']:.{digits}f}"
    if value["low"] is None:
        return text
    return f"{text} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def format_number(value: float | None, digits: int) -> str:
    """Return a number, or a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
