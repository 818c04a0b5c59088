"""Metrics of maps against masks, inside the brain, and of the baselines."""

import numpy as np
import pytest
import torch

from vqdist.evaluation.anomaly.detection import DetectionRecord, name_size
from vqdist.evaluation.anomaly.figures import MapExample, draw_examples, draw_precision_recall
from vqdist.evaluation.anomaly.training_deviation import TrainingDeviation
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.restoration import SliceParts
from vqdist.inference.anomaly.signals import Signals

METHOD = ScoringMethod(top_share=0.1)
S = 16


def build_parts(seed: int, truth: torch.Tensor | None = None) -> SliceParts:
    """Return a slice whose lesion is bright and not reconstructed."""
    generator = torch.Generator().manual_seed(seed)
    image = 0.4 + 0.05 * torch.randn(1, S, S, generator=generator)
    recon = image.clone()
    image[:, 0] = recon[:, 0] = 0
    if truth is not None:
        image = torch.where(truth, 0.9, image)
    bits = torch.rand(4, 4, generator=generator)
    return SliceParts(image, recon, recon, image[0] > 0, bits, Signals(*torch.zeros(6, S, S)))


def build_truth(row: int) -> torch.Tensor:
    truth = torch.zeros(S, S, dtype=torch.bool)
    truth[row : row + 3, 5:8] = True
    return truth


def build_record(*, perfect: bool, healthy: int = 3) -> DetectionRecord:
    deviation = TrainingDeviation(S, 1)
    for seed in range(20):
        deviation.add(build_parts(100 + seed).image.double(), 3)
    record = DetectionRecord(METHOD, deviation)
    for seed in range(healthy):
        parts = build_parts(50 + seed)
        record.add_healthy(parts, torch.rand(S, S) * 0.1 * parts.brain, score=0.1, subject=f"h{seed}", number=3)
    for seed in range(4):
        truth = build_truth(seed + 1)
        parts = build_parts(seed, truth)
        excess = truth.float() if perfect else torch.rand(S, S, generator=torch.Generator().manual_seed(seed))
        kind = "bright" if seed < 3 else "dark"
        record.add(parts, excess * parts.brain, truth, score=1.0, subject=f"s{seed}", number=3, kind=kind)
    return record


def test_a_perfect_map() -> None:
    report = build_record(perfect=True).report()
    for name in ("pixel_ap", "pixel_auroc", "best_dice", "dice_at_healthy_limit", "image_auroc"):
        assert report[name] == pytest.approx(1), name
    assert report["per_kind"]["bright"]["slices"] == 3
    assert report["per_kind"]["dark"]["pixel_ap"] == 1
    assert report["intervals"]["pixel_ap"] is None  # no subject changes it
    assert report["baselines"]["reconstruction_error"]["pixel_ap"] == pytest.approx(1)
    assert report["baselines"]["deviation"]["pixel_ap"] == pytest.approx(1)
    assert report["baselines"]["bits"]["pixel_ap"] < 0.3
    assert report["prevalence"] == pytest.approx(9 / (15 * 16))
    assert report["per_size"]["medium" if 9 / 256 < 400 / 256**2 else "large"]["slices"] == 4


def test_a_random_map() -> None:
    report = build_record(perfect=False).report()
    assert abs(report["pixel_auroc"] - 0.5) < 0.2
    assert report["pixel_ap"] < 0.3


def test_negatives_are_scored_slices_without_a_lesion_or_else_the_healthy_ones() -> None:
    assert build_record(perfect=True, healthy=0).report()["image_negatives"] is None
    assert build_record(perfect=True, healthy=0).report()["image_auroc"] is None
    record = build_record(perfect=True, healthy=2)
    assert record.report()["image_negatives"] == "healthy"
    parts = build_parts(9)
    none = torch.zeros(S, S, dtype=torch.bool)
    record.add(parts, parts.brain.float(), none, score=2.0, subject="n", number=3)
    report = record.report()
    assert report["image_negatives"] == "scored"
    assert report["image_auroc"] == 0  # the only negative has the highest score
    assert report["lesion_slices"] == 4


def test_without_training_images_the_deviation_is_missing() -> None:
    record = DetectionRecord(METHOD, None)
    truth = build_truth(2)
    record.add(build_parts(0, truth), truth.float(), truth, score=1.0, subject="a", number=None)
    report = record.report()
    assert set(report["baselines"]) == {"reconstruction_error", "reconstruction_error_blurred", "bits"}
    assert report["per_kind"] == {}
    assert set(report["intervals"].values()) == {None}


def test_the_deviation_is_that_of_the_slice_number() -> None:
    deviation = TrainingDeviation(2, 1)
    for number, value in ((0, 0.2), (0, 0.4), (1, 0.9), (1, 0.9)):
        deviation.add(torch.full((1, 2, 2), value, dtype=torch.float64), number)
    image = torch.full((1, 2, 2), 0.5)
    torch.testing.assert_close(deviation.measure(image, 0), torch.full((2, 2), 2.0))
    torch.testing.assert_close(deviation.measure(image, 1), torch.full((2, 2), 0.4 / 0.02))
    pooled = np.array([0.2, 0.4, 0.9, 0.9])
    expected = abs(0.5 - pooled.mean()) / pooled.std()
    torch.testing.assert_close(deviation.measure(image, None), torch.full((2, 2), expected).float())


def test_sizes() -> None:
    assert [name_size(pixels / 256**2) for pixels in (1, 99, 100, 399, 400)] == ["small"] * 2 + ["medium"] * 2 + [
        "large"
    ]


def test_figures(tmp_path: object) -> None:
    parts, truth = build_parts(0), build_truth(1)
    examples = [MapExample("a", parts.image, truth.float(), parts.restored, truth)]
    assert draw_examples(examples, tmp_path / "slices.png").stat().st_size > 1000
    assert draw_precision_recall(build_record(perfect=False).curves(), tmp_path / "pr.png").stat().st_size > 1000
