"""Charts show the values they are given: pixels of the PNG files are inspected."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import binary_opening, label

from vqdist.plotting import vqvae_charts as charts


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_codebook_bars_are_sorted_by_usage(tmp_path: Path) -> None:
    usage = torch.tensor([1, 0, 8, 3])
    figure = read(charts.draw_codebook_usage(usage, perplexity=2.3, split="test", path=tmp_path / "codebook.png"))
    blue = (abs(figure - np.array([0x1F, 0x5F, 0xA8])).sum(axis=2) < 30).sum(axis=0)
    heights = blue[np.flatnonzero(blue)]
    assert heights[5] == heights.max()
    assert len(np.unique(heights.round(-1))) >= 3
    shuffled = charts.draw_codebook_usage(
        usage[[2, 0, 3, 1]], perplexity=2.3, split="test", path=tmp_path / "other.png"
    )
    np.testing.assert_array_equal(figure, read(shuffled))


def test_rare_codes_are_visible_beside_the_background(tmp_path: Path) -> None:
    usage = torch.tensor([1, 100_000, 0, 1])
    figure = read(charts.draw_codebook_usage(usage, perplexity=1.0, split="test", path=tmp_path / "codebook.png"))
    blue = (abs(figure - np.array([0x1F, 0x5F, 0xA8])).sum(axis=2) < 30).any(axis=0)
    assert 0.6 < blue.sum() / (figure.shape[1] * 0.88) < 0.85  # three bars of four


def test_the_background_code_is_marked_among_hundreds(tmp_path: Path) -> None:
    usage = torch.full((512,), 100)
    usage[7] = 60_000
    figure = read(charts.draw_codebook_usage(usage, perplexity=25.0, split="test", path=tmp_path / "codebook.png"))
    discs, found = label(binary_opening(figure.sum(axis=2) < 100, np.ones((5, 5))))
    assert found == 2  # the marker at the axis and the one in the legend
    places = [np.argwhere(discs == number).mean(axis=0).tolist() for number in (1, 2)]
    mark, legend = sorted(places, key=lambda place: place[1])
    blue = (abs(figure - np.array([0x1F, 0x5F, 0xA8])).sum(axis=2) < 30).sum(axis=1)
    assert mark[1] < 100 < legend[1]
    assert mark[0] < np.flatnonzero(blue > 100)[0]  # far above the other bars


@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructions_with_their_differences(tmp_path: Path, channels: int) -> None:
    images = torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    same, red = (
        read(charts.draw_reconstructions(
            images, recon, ssim=[0.9, 0.8], names=["best: a", "worst: b"], path=tmp_path / "figure.png"
        ))
        for recon in (images, images + 0.4)
    )  # fmt: skip
    redness = [(figure[..., 0] - figure[..., 2])[-280:, 50:400].mean() for figure in (same, red)]
    assert redness[1] > redness[0] + 20


def test_long_names_are_wrapped_inside_their_columns(tmp_path: Path) -> None:
    dark = torch.zeros(2, 1, 16, 16)
    names = ["median: sub-0023_ses-01_slice_017_of_a_long_name", "worst: phantom_0023_slice_017"]
    figure = read(
        charts.draw_reconstructions(dark, dark, ssim=[0.9, 0.8], names=names, path=tmp_path / "figure.png")
    ).sum(axis=2)
    top = np.flatnonzero((figure < 30).mean(axis=1) > 0.5)[0]  # the first row of the slices
    black = np.flatnonzero(figure[top + 20] < 30)
    (end,) = np.flatnonzero(np.diff(black) > 1)
    titles = figure[40 : top - 1, black[end] + 1 : black[end + 1]]  # below the title of the figure
    assert (titles > 700).all()


def test_rate_distortion_omits_models_without_a_brain_value(tmp_path: Path) -> None:
    points = [
        {"name": "32 x 32", "bits_per_pixel": 0.14, "ssim": 0.96, "ssim_brain": 0.9},
        {"name": "64 x 64", "bits_per_pixel": 0.56, "ssim": 0.98, "ssim_brain": None},
    ]
    figure = read(charts.draw_rate_distortion(points, split="test", path=tmp_path / "rates.png"))
    blue = abs(figure - np.array([0x1F, 0x5F, 0xA8])).sum(axis=2) < 30
    left, right = label(blue[:, : blue.shape[1] // 2])[1], label(blue[:, blue.shape[1] // 2 :])[1]
    assert (left, right) == (2, 1)


def test_rate_distortion_of_pictures_has_no_panel_of_the_brain(tmp_path: Path) -> None:
    points = [{"name": "a", "bits_per_pixel": 0.14, "ssim": 0.96}]
    path = charts.draw_rate_distortion(points, split="test", path=tmp_path / "rates.png")
    other = charts.draw_rate_distortion([points[0] | {"ssim_brain": 0.9}], split="test", path=tmp_path / "both.png")
    assert 2 * read(path).shape[1] == read(other).shape[1]


def test_shares_of_codes_end_at_100_percent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(charts, "save_figure", lambda figure, path: drawn.append(figure) or path)
    charts.draw_codebook_usage(torch.tensor([0, 500, 0]), perplexity=1.0, split="test", path=tmp_path / "a.png")
    assert drawn[0].axes[0].get_ylim()[1] == 100
