"""FID and KID against the formulas of clean-fid on the same features, and the two kinds of files."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import linalg
from torch import nn

from vqdist.evaluation.samples.network_features import (
    frechet_distance,
    kernel_distance,
    load_network,
    measure_features,
)
from vqdist.foundation.errors import UserError

CPU = torch.device("cpu")


def draw(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Return features whose dimensions are correlated, (count, 12)."""
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, size=(count, 12)) @ np.random.default_rng(7).normal(size=(12, 12))


def clean_fid(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """cleanfid.fid.frechet_distance, whose square root is that of SciPy."""
    root = np.real(linalg.sqrtm(sigma1.dot(sigma2)))
    diff = mu1 - mu2
    return float(diff.dot(diff) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root))


def clean_kid(feats1: np.ndarray, feats2: np.ndarray, num_subsets: int, rng: np.random.Generator) -> float:
    """cleanfid.fid.kernel_distance."""
    n, m, t = feats1.shape[1], min(feats1.shape[0], feats2.shape[0], 1000), 0.0
    for _ in range(num_subsets):
        y = feats1[rng.choice(feats1.shape[0], m, replace=False)]
        x = feats2[rng.choice(feats2.shape[0], m, replace=False)]
        a = (x @ x.T / n + 1) ** 3 + (y @ y.T / n + 1) ** 3
        b = (x @ y.T / n + 1) ** 3
        t += (a.sum() - np.diag(a).sum()) / (m - 1) - b.sum() * 2 / m
    return t / num_subsets / m


@pytest.mark.parametrize(("counts", "shift"), [((60, 80), 0.0), ((60, 80), 0.5)])
def test_fid_is_that_of_clean_fid(counts: tuple[int, int], shift: float) -> None:
    first, second = draw(counts[0], 0), draw(counts[1], 1, shift)
    moments = [moment for x in (first, second) for moment in (x.mean(axis=0), np.cov(x, rowvar=False))]
    expected = clean_fid(*moments)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kid_is_that_of_clean_fid(shift: float) -> None:
    first, second = draw(40, 0), draw(50, 1, shift)
    assert kernel_distance(first, second) == pytest.approx(clean_kid(first, second, 100, np.random.default_rng(0)))


class Statistics(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images.mean(dim=(1, 2, 3)), images.amax(dim=(1, 2, 3))], dim=1)


def test_a_torchscript_file_gets_colour_images_from_0_to_255(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.trace(Statistics(), torch.rand(2, 3, 8, 8)).save(str(tmp_path / "network.pt"))
    network = load_network(tmp_path / "network.pt", CPU)
    assert "is a program (TorchScript) and is executed" in capsys.readouterr().err
    images = torch.full((3, 1, 64, 64), 0.5)
    np.testing.assert_allclose(measure_features(network, images), [[127.5, 127.5]] * 3, rtol=1e-5)


def test_safetensors_are_the_weights_of_inception(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.inception_v3(weights=None, init_weights=False, transform_input=False).eval()
    save_file(model.state_dict(), tmp_path / "inception.safetensors")
    network = load_network(tmp_path / "inception.safetensors", CPU)
    images = torch.rand(1, 1, 299, 299, generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    model.fc = nn.Identity()
    with torch.inference_mode():
        colour = (images.expand(-1, 3, -1, -1) - mean[:, None, None]) / deviation[:, None, None]
        expected = model(colour)
        found = measure_features(network, images)
    assert found.shape == (1, 2048)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_file_that_is_no_network_is_named(tmp_path: Path, name: str) -> None:
    if name.endswith("pt"):
        (tmp_path / name).write_bytes(b"no program")
    else:
        save_file({"weight": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(UserError, match=rf"--features .*{name}: found"):
        load_network(tmp_path / name, CPU)
