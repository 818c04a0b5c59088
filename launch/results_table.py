"""Print the reports of launch/results.sh as Markdown tables: python launch/results_table.py OUT."""

import json
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdist.evaluation.samples.realism_table import count_people, format_people
from vqdist.runs.metrics_file import read_metrics, training_seconds

CONDITIONS = (5, 25)
Reports = dict[str, Any]


def main(out: Path) -> None:
    """Print all tables."""
    reports = {path.stem: json.loads(path.read_text()) for path in sorted((out / "reports").glob("*.json"))}
    realism = {name: report["realism"] for name, report in reports.items() if "realism" in report}
    tables = (
        list_pairs(out, reports),
        list_samples(realism),
        list_areas(realism),
        list_calibration(realism),
        list_volumes(reports["volumes-prior"]),
        list_scores(reports.get("lesions")),
        list_completions(json.loads((out / "completion" / "completion.json").read_text())),
        list_changes(out, reports),
        list_peers(reports["peers"]),
    )
    sys.stdout.writelines(f"{line}\n" for table in tables for line in table)


def list_seeds(reports: Mapping[str, Any], kind: str) -> list[str]:
    """Return the names of the reports of one model, with a seed in each: for vqvae, vqvae-0, vqvae-1 and so on."""
    return [name for name in reports if name.startswith(f"{kind}-") and name.removeprefix(f"{kind}-").isdecimal()]


def list_pairs(out: Path, reports: Reports) -> Iterator[str]:
    """Yield the test metrics of the recommended VQ-VAE and prior: of each seed, and mean and deviation over seeds."""
    shown = {
        "vqvae": ("ssim", "ssim_brain", "psnr", "codes_used", "perplexity", "perplexity_brain", "bits_per_pixel"),
        "prior": (
            *("bits_per_code", "bits_below_mixture", "mixture_bits_per_code", "position_slice_bits_per_code"),
            *("position_bits_per_code", "unigram_bits_per_code", "uniform_bits_per_code", "bits_per_pixel"),
            "membership_auc",
        ),
    }
    for kind, figures in shown.items():
        names = list_seeds(reports, kind)
        report = reports[names[0]]
        measured = f"{report['samples']} slices of {report['subjects']} people"
        yield f"| `{kind}`, {measured} | {' | '.join(names)} | mean, sd |"
        yield f"|---{'|---' * len(names)}|---|"
        yield f"| training | {' | '.join(describe_run(out / name) for name in names)} | |"
        for figure in figures:
            found = [reports[name]["metrics"][figure] for name in names]
            cells = " | ".join(format_interval(value, 4) for value in found)
            yield f"| {figure} | {cells} | {describe_spread([value['mean'] for value in found])} |"
        yield ""


def list_samples(reports: Reports) -> Iterator[str]:
    """Yield the comparison of the samples of each seed with real slices."""
    names = list_seeds(reports, "prior")
    yield f"| of {reports[names[0]]['samples']} samples | {' | '.join(names)} | real slices |"
    yield f"|---{'|---' * len(names)}|---|"

    def row(label: str, *path: str, real: str = "") -> str:
        return f"| {label} | {' | '.join(format_interval(find(reports[name], path), 3) for name in names)} | {real} |"

    one = reports[names[0]]
    floor = format_interval(one["feature_distance"]["train_test"], 3)
    yield row("feature distance to test", "feature_distance", "samples_test", real=f"train {floor}")
    yield row("feature distance to train", "feature_distance", "samples_train")
    for figure in ("coverage", "density"):
        real = f"train {format_interval(one['coverage']['train'][figure], 3)}"
        yield row(f"{figure} of test", "coverage", "samples", figure, real=real)
    real = f"train, without their own, {one['coverage']['train']['subjects']:.1f}"
    yield row("train people resembled", "coverage", "samples", "subjects", real=real)
    people = [format_people(reports[name]["same_person_pairs"]["samples"]) for name in names]
    train = one["same_person_pairs"]["train"]
    yield f"| people among the samples | {' | '.join(people)} | train {count_people(train)} |"
    yield row("near copies", "copies", "samples", "near_copies", real=f"test {one['copies']['test']['near_copies']}")
    real = f"test {one['copies']['test']['largest']:.3f}, limit {one['copies']['limits']['whole']:.3f}"
    yield row("most similar to train", "copies", "samples", "largest", real=real)
    alike = "; ".join(f"{name} {format_number(one['diversity'][name], 3)}" for name in ("train", "test"))
    yield row("MS-SSIM between pairs", "diversity", "samples", real=alike)
    for figure in one["slice_figures"]["meanings"]:
        people = {name: one["slice_figures"][figure][name] for name in ("train", "test")}
        real = "; ".join(f"{name} {format_interval(found, 3)}" for name, found in people.items())
        yield row(figure, "slice_figures", figure, "samples", real=real)
        yield row(f"{figure}, samples minus people", "slice_figures", figure, "difference")
    for area in ("brain_area", "ventricle_area"):
        real = f"test {format_number(one['anatomy_by_slice'][area]['test']['correlation'], 3)}"
        yield row(f"{area}, fit to the slice number", "anatomy_by_slice", area, "samples", "correlation", real=real)
    for figure in (name for name in ("fid", "kid") if name in one):
        yield row(f"{figure} to test", figure, "samples_test", real=f"train {one[figure]['train_test']:.4g}")
    yield ""


def list_areas(reports: Reports) -> Iterator[str]:
    """Yield the mean areas of samples that are conditioned on one slice number, beside those of real slices."""
    yield "| area | slice | samples | train | test |\n|---|---|---|---|---|"
    for area in ("brain_area", "ventricle_area"):
        for number in CONDITIONS:
            means = reports[f"samples-slice-{number}"]["anatomy_by_slice"]["means"]
            at = {found["group"]: found[area] for found in means if found["slice"] == number}
            cells = " | ".join(format_number(at.get(name), 3) for name in ("samples", "train", "test"))
            yield f"| {area} | {number} | {cells} |"
    yield ""


def list_calibration(reports: Reports) -> Iterator[str]:
    """Yield the share of each kind of altered copies that the limit of near copies finds."""
    copies = reports[list_seeds(reports, "prior")[0]]["copies"]
    yield f"| altered copies of {copies['calibration']['train_slices']} train slices | found |\n|---|---|"
    for name, kind in copies["calibration"]["kinds"].items():
        yield f"| {name} | {kind['found']} of {kind['copies']} |"
    yield ""


def list_volumes(report: Reports) -> Iterator[str]:
    """Yield the bits of the prior that reads the previous slice, and the comparison of its volumes with real ones."""
    volumes = report["realism"]["volumes"]
    yield f"| prior that reads the previous slice, {volumes['copies']['samples']['volumes']} volumes | sampled | real |"
    yield "|---|---|---|"
    for figure in ("bits_per_code", "neighbour_bits_per_code", "bits_per_pixel", "membership_auc"):
        yield f"| {figure} | {format_interval(report['metrics'][figure], 4)} | |"
    sampled, real = (volumes["neighbours"].get(name, {}) for name in ("samples", "test"))
    for figure, found in ((name, value) for name, value in sampled.items() if isinstance(value, dict)):
        cells = (found, real.get(figure) or {"mean": None, "spread": None})
        shown = (f"{format_number(cell['mean'], 3)}, spread {format_number(cell['spread'], 3)}" for cell in cells)
        yield f"| {figure} of neighbouring slices | {' | '.join(shown)} |"
    yield f"| drift | {format_number(volumes['drift']['samples']['ratio'], 2)} | |"
    copies = (format_interval(volumes["copies"][name]["near_copies"], 0) for name in ("samples", "test"))
    yield f"| near copies | {' | '.join(copies)} |"
    yield ""


def list_scores(report: Reports | None) -> Iterator[str]:
    """Yield the figures of the maps of slices with lesions and of the baselines; nothing without such slices."""
    if report is None:
        return
    metrics = report["metrics"]
    figures, kinds = ("pixel_ap", "pixel_auroc", "best_dice", "image_auroc"), list(metrics["per_kind"])
    yield f"| {metrics['lesion_slices']} slices with a lesion | {' | '.join((*figures, *kinds))} |"
    yield f"|---{'|---' * (len(figures) + len(kinds))}|"
    per_kind = metrics["per_kind"]
    methods = {"map": (metrics, per_kind)} | {
        name: (found, {kind: per_kind[kind]["baselines"][name] for kind in kinds})
        for name, found in metrics["baselines"].items()
    }
    for name, (found, by_kind) in methods.items():
        cells = [*(found[figure] for figure in figures), *(by_kind[kind]["pixel_ap"] for kind in kinds)]
        yield f"| {name} | {' | '.join(format_number(value, 3) for value in cells)} |"
    ends = [metrics["intervals"][figure] for figure in figures]
    cells = ["–" if found is None else f"{found['low']:.2f} to {found['high']:.2f}" for found in ends]
    yield f"| interval of map | {' | '.join((*cells, *('' for _ in kinds)))} |"
    yield f"\n{report['flagged']} of {report['samples']} slices are flagged.\n"


def list_completions(report: Reports) -> Iterator[str]:
    """Yield the SSIM of completions in squares that were cut out of slices."""
    yield f"| SSIM in the square, {report['slices']} slices | median | standard error | best |\n|---|---|---|---|"
    for name, found in report["ssim"].items():
        cells = (format_number(found[figure], 3) for figure in ("median", "error", "best"))
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def list_changes(out: Path, reports: Reports) -> Iterator[str]:
    """Yield each changed VQ-VAE, with the difference in SSIM from `unchanged` on the same slices."""
    report = reports["changes"]
    yield "| run | SSIM | brain | minus unchanged, brain | bits per pixel | codes used | training |"
    yield "|---|---|---|---|---|---|---|"
    for name in ("unchanged", *report["beside"]):
        metrics = reports[name]["metrics"]
        cells = [format_number(metrics[key]["mean"], 3) for key in ("ssim", "ssim_brain")]
        difference = report["differences"].get(name, {}).get("ssim_brain")
        cells.append("" if difference is None else format_interval(negate(difference), 3))
        cells += [format_number(metrics["bits_per_pixel"]["mean"], 3), format_number(metrics["codes_used"]["mean"], 0)]
        yield f"| `{name}` | {' | '.join(cells)} | {describe_run(out / name)} |"
    yield ""


def negate(value: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the interval of the negative of a figure."""
    mean, low, high = (None if value[key] is None else -value[key] for key in ("mean", "high", "low"))
    return {"mean": mean, "low": low, "high": high}


def list_peers(report: Reports) -> Iterator[str]:
    """Yield the metrics of peer implementations after the same training time."""
    yield "| figure | ours | peer | theirs |\n|---|---|---|---|"
    for result in report["results"]:
        ours, theirs = (format_number(result[key], 3) for key in ("ours", "theirs"))
        yield f"| {result['case']} | {ours} | {result['peer']} | {theirs} |"


def find(values: Any, path: tuple[str, ...]) -> Any:
    """Return the value at a path in nested mappings."""
    for name in path:
        values = values[name]
    return values


def describe_run(run: Path) -> str:
    """Return a run's steps and wall time."""
    lines = read_metrics(run / "metrics.jsonl")
    return f"{lines[-1]['step']:,} steps, {training_seconds(lines) / 60:.1f} min"


def describe_spread(values: list[float | None]) -> str:
    """Return mean and standard deviation over seeds; a dash with one seed or without a figure."""
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.4f}, {statistics.stdev(known):.4f}" if len(known) > 1 else "–"


def format_interval(value: Any, digits: int) -> str:
    """Return a number, or a mean with its interval if it has one."""
    if not isinstance(value, dict):
        return format_number(value, 0 if isinstance(value, int) else digits)
    text = format_number(value["mean"], digits)
    return text if value["low"] is None else f"{text} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def format_number(value: float | None, digits: int) -> str:
    """Return a number, or a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
