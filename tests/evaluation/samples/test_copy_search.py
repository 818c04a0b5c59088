"""The most similar training slice against a plain correlation, and copies that are altered in many ways."""

import numpy as np
import pytest

from vqdist.data.sources.phantom import phantom_slice
from vqdist.evaluation.samples.copy_search import BAND, CopySearch, NearestSlices, compare_pairs, to_spectra

NUMBERS = (4, 12, 20, 28)


def draw(subjects: range) -> np.ndarray:
    """Return synthetic slices, (N, 128, 128) uint8."""
    slices = [phantom_slice(subject, number, image_size=128) for subject in subjects for number in NUMBERS]
    return np.stack(slices)


@pytest.fixture(scope="module")
def train() -> np.ndarray:
    return draw(range(8))


def filter_band(image: np.ndarray) -> np.ndarray:
    """Filter in the full Fourier transform, in float64."""
    f = np.fft.fftfreq(128) * 128
    radius = np.hypot(f[:, None], f[None])
    gain = np.exp(-((radius / BAND[1]) ** 2) / 2) * (1 - np.exp(-((radius / BAND[0]) ** 2) / 2))
    return np.fft.ifft2(np.fft.fft2(image / 255) * gain).real


def test_similarity_is_the_greatest_correlation_over_all_moves(train: np.ndarray) -> None:
    moved = np.roll(train[9], (23, -40), axis=(0, 1))
    noisy = np.clip(moved + np.random.default_rng(0).normal(0, 20, moved.shape), 0, 255).astype(np.uint8)
    found = CopySearch(train).find(noisy[None])
    one, other = filter_band(np.roll(noisy, (-23, 40), axis=(0, 1))), filter_band(train[9])
    assert found.index.tolist() == [9]
    assert found.whole[0] == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1], abs=1e-4)


def test_altered_copies_are_more_similar_than_new_slices(train: np.ndarray) -> None:
    search = CopySearch(train)
    copies = [train[5], train[17, ::-1], train[20, :, ::-1], np.roll(train[30], (1, -9), axis=(0, 1)), train[7] * 0.85]
    copies.append(255 * (train[11] / 255) ** 0.7)
    found = search.find(np.stack([np.round(image).astype(np.uint8) for image in copies]))
    assert found.index.tolist() == [5, 17, 20, 30, 7, 11]
    assert found.mirror.tolist() == ["none", "up-down", "left-right", "none", "none", "none"]
    new = search.find(draw(range(20, 22)))
    assert found.whole.min() > 0.95 > new.whole.max()


def test_a_slice_of_two_halves_is_similar_in_a_half(train: np.ndarray) -> None:
    joined = np.concatenate([train[1, :64], train[13, 64:]])
    found = CopySearch(train).find(joined[None])
    new = CopySearch(train).find(draw(range(20, 21)))
    assert found.half[0] > 0.98 > new.half.max()
    assert found.whole[0] < found.half[0]


def test_slices_without_contrast_are_similar_to_nothing(train: np.ndarray) -> None:
    flat = CopySearch(train).find(np.zeros((1, 128, 128), np.uint8))
    assert (flat.whole.tolist(), flat.half.tolist()) == ([0], [0])
    assert CopySearch(np.zeros((2, 128, 128), np.uint8)).find(train[:1]).whole.tolist() == [0]


def test_results_are_joined_in_order(train: np.ndarray) -> None:
    search = CopySearch(train)
    parts = [search.find(train[[3]]), search.find(train[[1]])]
    assert NearestSlices.concatenate(parts).index.tolist() == [3, 1]


def test_pairs_are_compared_over_moves_and_mirrorings(train: np.ndarray) -> None:
    spectra = to_spectra(train)
    views = [np.roll(train, (4, -6), axis=(1, 2)), np.flip(train, axis=1), np.flip(train, axis=2)]
    for view in views:
        assert compare_pairs(spectra, to_spectra(view)).min() > 0.97
    others = compare_pairs(spectra, np.roll(spectra, len(NUMBERS), axis=0))
    assert others.max() < 0.9
    search = CopySearch(train)
    np.testing.assert_allclose(search.spectra, spectra)
