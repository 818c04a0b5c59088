"""Compare variants of the anomaly map on lesions planted in healthy slices.

python launch/choose_anomaly_method.py PRIOR DATA OUT [--split validate] [--every 1] [--seed 0]

The keys of the samples must name subject and slice number, as case_012_slice_3 does: a slice with a lesion is compared
with the healthy slices of the other subjects of the split. Prints a table, and writes
the metrics of all variants to OUT/variants.json.
"""

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from planted_lesions import KINDS, plant_lesion

from vqdist.config.slice_options import ScoreOptions
from vqdist.distributed.process_group import init_process_group
from vqdist.evaluation.anomaly.detection import DetectionRecord
from vqdist.evaluation.anomaly.score_report import fit_deviation
from vqdist.foundation.progress import print_message
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.anomaly.maps import compute_excess, score_comparison
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import HealthyReference, HealthySlice
from vqdist.inference.anomaly.signals import Signals
from vqdist.inference.scoring import Scorer, prepare_scoring
from vqdist.inference.slice_source import SliceSource, open_split

VARIANTS: dict[str, dict[str, float]] = {
    "as shipped": {},
    "distance alone": {"residual_weight": 0.0, "deviation_weight": 0.0, "outside_weight": 0.0, "bits_weight": 0.0},
    "without range": {"outside_weight": 0.0},
    "without residual": {"residual_weight": 0.0},
    "without deviation": {"deviation_weight": 0.0},
    "without bits": {"bits_weight": 0.0},
    "twice the residual": {"residual_weight": 1.0},
    "twice the deviation": {"deviation_weight": 0.5},
    "twice the range": {"outside_weight": 2.0},
    "twice the bits": {"bits_weight": 0.5},
    "without asymmetry": {"asymmetry_weight": 0.0},
    "not in proportion": {"relative_floor": 1e6},
    "not smoothed": {"map_blur": 0.0},
    "smoothed twice as far": {"map_blur": 4 / 256},
}


def write_lesions(source: SliceSource, folder: Path, *, every: int, seed: int) -> None:
    """Write every n-th slice with a lesion to pictures, and the masks with a table of the kinds to masks."""
    for name in ("pictures", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, index in enumerate(range(0, len(source), every)):
        info, image = source.infos[index], source.read(index)[0]
        rng = np.random.default_rng(derive_seed(seed, "lesion", info.key))
        kind = KINDS[number % len(KINDS)]
        lesion = plant_lesion(image, kind, rng)
        Image.fromarray(lesion.image).save(folder / "pictures" / f"{info.key}.png")
        Image.fromarray(lesion.mask).save(folder / "masks" / f"{info.key}_mask.png")
        rows.append((f"{info.key}_mask.png", kind))
    with (folder / "masks" / "lesions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("mask", "kind"), *rows])


def measure_variants(scorer: Scorer) -> dict[str, Any]:
    """Compute the parts of all slices once, and the metrics of every variant from them."""
    ranks = init_process_group(scorer.options.device)
    assert scorer.healthy is not None, "prepared with healthy slices"
    masks = scorer.masks
    assert masks is not None, "prepared with masks"
    draws = scorer.draw(ranks)
    limits = scorer.compute_limits(draws, ranks)
    healthy, lesions = (
        list(scorer.compute_parts(slices, limits, draws, ranks, label=label))
        for slices, label in ((scorer.healthy, "healthy slices"), (scorer.slices, "lesions"))
    )
    deviation = fit_deviation(scorer)
    kept = [
        HealthySlice(
            info.subject,
            scorer.healthy.number(index),
            Signals(*(values.half() for values in parts.signals)),
            parts.brain,
        )
        for index, ((_, parts), info) in enumerate(zip(healthy, scorer.healthy.source.infos, strict=True))
    ]
    found = {}
    for name, changes in VARIANTS.items():
        method = replace(scorer.method, **changes)  # type: ignore[arg-type]
        found[name] = measure(scorer, method, DetectionRecord(method, deviation), kept, healthy, lesions, masks)
    return found


def measure(
    scorer: Scorer, method: ScoringMethod, record: DetectionRecord, kept: Any, healthy: Any, lesions: Any, masks: Any
) -> dict[str, Any]:
    """Return the metrics of one variant."""
    reference = HealthyReference(kept, method)
    for (_, parts), found in zip(healthy, kept, strict=True):
        usual = reference.statistics(found.number, without=found.subject)
        excess = compute_excess(found.signals, found.brain, usual, method)
        score = score_comparison(found.signals.comparison, found.brain, usual, method)
        record.add_healthy(parts, excess, score=score, subject=found.subject, number=found.number)
    for index, (shape, parts) in enumerate(lesions):
        subject, number = scorer.slices.source.infos[index].subject, scorer.slices.number(index)
        usual = reference.statistics(number, without=subject)
        excess = compute_excess(parts.signals, parts.brain, usual, method)
        score = score_comparison(parts.signals.comparison, parts.brain, usual, method)
        truth, kind = masks.read(index, shape, scorer.models.image_size), masks.kind(index)
        record.add(parts, excess, truth, score=score, subject=subject, number=number, kind=kind)
    return record.report()


def list_variants(found: dict[str, Any]) -> str:
    """Return a table: figures of every variant and of the baselines, and their AP per kind of lesion."""
    figures = ("pixel_ap", "pixel_auroc", "best_dice", "image_auroc")
    first = next(iter(found.values()))
    rows = {**found, **first["baselines"]}
    per_kind = {
        name: {kind: of["pixel_ap"] for kind, of in report["per_kind"].items()} for name, report in found.items()
    }
    for name in first["baselines"]:
        per_kind[name] = {kind: of["baselines"][name]["pixel_ap"] for kind, of in first["per_kind"].items()}
    lines = ["".join([f"{'':<30}", *(f"{name:>13}" for name in (*figures, *first["per_kind"]))])]
    for name, report in rows.items():
        values = [*(report[figure] for figure in figures), *per_kind[name].values()]
        lines.append("".join([f"{name:<30}", *(f"{value:>13.3f}" for value in values)]))
    return "\n".join(lines)


def main(prior: Path, data: Path, out: Path, *, split: str = "validate", every: int = 1, seed: int = 0) -> None:
    """Plant lesions, measure all variants, and write and print the results."""
    source = open_split(data, split, channels=1)
    write_lesions(source, out, every=every, seed=seed)
    options = ScoreOptions(
        prior=prior, pictures=out / "pictures", masks=out / "masks", healthy=f"{data}:{split}", out=out / "scores"
    )
    found = measure_variants(prepare_scoring(options, init_process_group(options.device)))
    (out / "variants.json").write_text(json.dumps(found, indent=1) + "\n")
    print_message(list_variants(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("prior", "data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--split", default="validate")
    parser.add_argument("--every", type=int, default=1, help="plant a lesion in every n-th slice")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
