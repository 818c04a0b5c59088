"""The run of `vqdist score`: score all slices, write their files, measure them against masks, and draw figures."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.anomaly.detection import DetectionRecord
from vqdist.evaluation.anomaly.figures import MAX_ROWS, MapExample, draw_examples, draw_precision_recall
from vqdist.evaluation.anomaly.training_deviation import TrainingDeviation
from vqdist.foundation.atomic_files import output_folder, reporting_storage_errors
from vqdist.foundation.progress import print_message
from vqdist.inference.anomaly.calibration import Calibration
from vqdist.inference.anomaly.maps import compute_excess, score_comparison, to_map
from vqdist.inference.anomaly.prior_draws import Condition, PriorDraws
from vqdist.inference.anomaly.reference import BitLimits, HealthyReference, HealthySlice
from vqdist.inference.anomaly.signals import Signals
from vqdist.inference.anomaly.training_slices import report_changed_slices
from vqdist.inference.score_files import VolumeResults, append_line, write_slice
from vqdist.inference.score_masks import Masks
from vqdist.inference.scoring import ScoredSlice, Scorer, score_slice
from vqdist.inference.slice_warnings import report_limits

Report = dict[str, Any]  # JSON values
Draws = Mapping[Condition, PriorDraws]


def run_scoring(scorer: Scorer, ranks: Ranks) -> Report:
    """Score all slices, write the results and return the report. Must be called by all ranks."""
    masks = scorer.masks
    if scorer.options.data is not None and ranks.is_main:
        report_changed_slices(scorer.options.prior, scorer.options.data, scorer.options.split)
    record = DetectionRecord(scorer.method, fit_deviation(scorer)) if masks is not None and ranks.is_main else None
    draws = scorer.draw(ranks)
    limits = scorer.compute_limits(draws, ranks)
    calibration = calibrate(scorer, limits, draws, record, ranks)
    out = scorer.options.out
    output = output_folder(out, overwrite=scorer.options.overwrite) if ranks.is_main else nullcontext(out)
    with reporting_storage_errors(out), output as folder:
        scored = score_all(scorer, limits, draws, calibration, masks, record, ranks, out=folder)
        report: Report = {"out": str(out), "samples": len(scorer.slices.source)}
        if ranks.is_main:
            report |= describe(scored, calibration, record, folder)
            report["figures"] = [str(out / path.relative_to(folder)) for path in report["figures"]]
    return report


@dataclass(frozen=True)
class Scored:
    """What is kept of all scored slices: how many are flagged, and the rows of the figure."""

    flagged: int
    examples: list[MapExample]


def calibrate(
    scorer: Scorer, limits: BitLimits, draws: Draws, record: DetectionRecord | None, ranks: Ranks
) -> Calibration | None:
    """Compute the reference and the scores of the healthy slices; None without. Must be called by all ranks."""
    if scorer.healthy is None:
        return None
    slices: list[HealthySlice] = []
    kept = []  # the parts that the baselines need, only with masks
    computed = scorer.compute_parts(scorer.healthy, limits, draws, ranks, label="healthy slices")
    for index, (_, parts) in enumerate(computed):
        info, number = scorer.healthy.source.infos[index], scorer.healthy.number(index)
        signals = Signals(*(values.half() for values in parts.signals))
        slices.append(HealthySlice(info.subject, number, signals, parts.brain))
        if record is not None:
            kept.append(parts)
    reference, scores = HealthyReference(slices, scorer.method), []
    for index, found in enumerate(slices):
        usual = reference.statistics(found.number, without=found.subject)
        score = score_comparison(found.signals.comparison, found.brain, usual, scorer.method)
        scores.append(score)
        if record is not None:
            excess = compute_excess(found.signals, found.brain, usual, scorer.method)
            record.add_healthy(kept[index], excess, score=score, subject=found.subject, number=found.number)
    trained, subjects = scorer.score_training(reference, ranks)
    report_limits(scorer.healthy.source, len(trained), false_positive_rate=scorer.method.false_positive_rate)
    subjects = [*(found.subject for found in slices), *subjects]
    return Calibration.build(reference, [*scores, *trained], subjects, scorer.method)


def score_all(
    scorer: Scorer,
    limits: BitLimits,
    draws: Draws,
    calibration: Calibration | None,
    masks: Masks | None,
    record: DetectionRecord | None,
    ranks: Ranks,
    *,
    out: Path,
) -> Scored:
    """Score every slice; rank 0 writes its files to OUT and adds it to the record. Must be called by all ranks."""
    flagged, examples, volume = 0, list[MapExample](), scorer.slices.source.volume
    of_volume = VolumeResults.create(volume) if volume is not None and ranks.is_main else None
    every = max(1, -(-len(scorer.slices.source) // MAX_ROWS))
    for index, (shape, parts) in enumerate(scorer.compute_parts(scorer.slices, limits, draws, ranks, label="score")):
        if not ranks.is_main:
            continue
        found = score_slice(scorer, index, shape, parts, calibration)
        append_line(write_slice(found, out, scorer.method), out)
        flagged += bool(found.flagged)
        if of_volume is not None:
            of_volume.add(index, found, scorer.method)
        truth = None if masks is None else masks.read(index, shape, scorer.models.image_size)
        if record is not None and masks is not None and truth is not None:
            subject, kind = found.info.subject, masks.kind(index)
            record.add(parts, found.excess, truth, score=found.score, subject=subject, number=found.number, kind=kind)
        if index % every == 0:
            examples.append(make_example(found, truth, scorer))
    if of_volume is not None:
        of_volume.write(out)
    return Scored(flagged, examples)


def make_example(found: ScoredSlice, truth: Tensor | None, scorer: Scorer) -> MapExample:
    """Return the row of the figure for a slice."""
    anomaly = to_map(found.excess, found.parts.brain, scorer.method)
    title = f"{found.info.key}\nscore {found.score:.2f}{', flagged' * bool(found.flagged)}"
    return MapExample(title, found.parts.image, anomaly, found.parts.restored, truth)


def describe(scored: Scored, calibration: Calibration | None, record: DetectionRecord | None, out: Path) -> Report:
    """Draw the figures and return the results over all slices."""
    figures = [draw_examples(scored.examples, out / "figures" / "slices.png")]
    report: Report = {}
    if calibration is not None:
        healthy = len(calibration.reference)
        report |= {"healthy": healthy, "training": len(calibration.scores) - healthy}
        report |= {"flagged": scored.flagged, "threshold": calibration.threshold}
    if record is not None:
        report["metrics"] = record.report()
        figures.append(draw_precision_recall(record.curves(), out / "figures" / "precision-recall.png"))
    return report | {"figures": figures}


def fit_deviation(scorer: Scorer) -> TrainingDeviation | None:
    """Return the statistics of the training slices; None, with a message, if they are not found."""
    if scorer.training is None:
        print_message("no training images found: the metrics lack the deviation from the training mean as a baseline")
        return None
    return TrainingDeviation.fit(scorer.training)


def list_metrics(report: Report) -> str:
    """Return the main metrics as lines of text: the maps first, then the baselines."""
    metrics = report["metrics"]
    names = ("pixel_ap", "pixel_auroc", "best_dice", "image_auroc")
    rows: Sequence[tuple[str, Report]] = [("map", metrics), *metrics["baselines"].items()]
    lines = ["".join([f"{'':<30}", *(f"{name:>13}" for name in names)])]
    for method, figures in rows:
        values = ("-" if figures[name] is None else f"{figures[name]:.3f}" for name in names)
        lines.append("".join([f"{method.replace('_', ' '):<30}", *(f"{value:>13}" for value in values)]))
    return "\n".join(lines)
