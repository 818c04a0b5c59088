"""Search for the training slice that a slice is most similar to, over moves, mirrorings, turns, sizes and halves.

The similarity of two slices is the normalised correlation of their band-passed thumbnails, the largest over all
circular moves, which a Fourier transform gives at once. The band leaves out brightness and noise, and normalisation the
contrast, so a copy with other grey values remains a copy. Halves of the slices are compared as well: a slice that joins
the halves of two training slices is a copy of neither.

A search has three stages: all training slices on a coarse grid; the CANDIDATES best, turned and resized, on a middle
grid; the FINALISTS best of these with all pixels of the thumbnails.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from vqdist.config.augmentation import Mirror
from vqdist.data.augmentation import AXES
from vqdist.evaluation.samples.slice_statistics import THUMBNAIL

BAND = (4.0, 16.0)  # cycles per slice
_COARSE_BAND = (3.0, 8.0)
_COARSE, _MIDDLE = 32, 64  # rows and columns of the grids
CANDIDATES, FINALISTS = 32, 3
_TURNS = (-4, -2, 0, 2, 4)  # degrees
_SIZES = (0.95, 1.0, 1.05)
_HALF_GAP, _HALF_EDGE = 2 / 64, 0.75 / 64  # of the slice: from the middle to the half, and width of its soft edge
_BLOCK = 512
_SMALLEST_NORM = 1e-6
_MIRRORS: tuple[Mirror, ...] = ("none", *AXES)

Thumbnails = npt.NDArray[np.uint8]  # (N, THUMBNAIL, THUMBNAIL)
Floats = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class NearestSlices:
    """The most similar training slice of each slice of a set.

    Attributes:
        index: (N,) number of the training slice.
        mirror: (N,) how the slice is mirrored to be most similar: "none", "up-down" or "left-right".
        whole: (N,) similarity of the whole slices, at most 1.
        half: (N,) greatest similarity of a half of the slice (upper, lower, left, right) to that of a training slice.
    """

    index: npt.NDArray[np.int64]
    mirror: npt.NDArray[np.str_]
    whole: npt.NDArray[np.float64]
    half: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the results of all parts, in order."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class CopySearch:
    """Finds the most similar training slices.

    Args:
        train: thumbnails of the training slices, (N, THUMBNAIL, THUMBNAIL) uint8.

    Attributes:
        spectra: of the training slices; see `to_spectra`.
    """

    def __init__(self, train: Thumbnails) -> None:
        self._train = train
        self._coarse = np.concatenate([_to_spectra(_filter(block, _COARSE_BAND), _COARSE) for block in _split(train)])
        self.spectra = to_spectra(train)

    def find(self, thumbnails: Thumbnails) -> NearestSlices:
        """Return the most similar training slice of each slice."""
        return NearestSlices.concatenate([self._find_one(thumbnail) for thumbnail in thumbnails])

    def _find_one(self, thumbnail: Thumbnails) -> NearestSlices:
        views = np.stack([thumbnail if mirror == "none" else np.flip(thumbnail, AXES[mirror]) for mirror in _MIRRORS])
        spectra = _to_spectra(_filter(views, _COARSE_BAND), _COARSE)
        coarse = np.stack([_correlate(view[None], self._coarse) for view in spectra])  # (mirrors, N)
        best = np.argsort(-coarse, axis=None)[:CANDIDATES]
        mirrors, numbers = np.unravel_index(best, coarse.shape)
        variants = {mirror: _vary(views[mirror]) for mirror in np.unique(mirrors)}
        filtered = {mirror: _filter(found, BAND) for mirror, found in variants.items()}
        middle = np.concatenate([self._compare(filtered[mirror], numbers[mirrors == mirror]) for mirror in variants])
        owners = np.concatenate([np.flatnonzero(mirrors == mirror) for mirror in variants])  # candidate of each row
        whole, nearest = -1.0, 0
        for place in np.argsort(-middle, axis=None)[:FINALISTS]:
            row, variant = np.unravel_index(place, middle.shape)
            candidate = int(owners[row])
            pair = filtered[mirrors[candidate]][variant], _filter(self._train[[numbers[candidate]]], BAND)[0]
            similarity = float(_correlate(*(_to_spectra(image[None], THUMBNAIL) for image in pair))[0])
            whole, nearest = max((whole, nearest), (similarity, candidate))
        unturned = len(_SIZES) * len(_TURNS) // 2
        half = max(self._compare_halves(filtered[mirror][unturned], numbers[mirrors == mirror]) for mirror in variants)
        return NearestSlices(
            np.array([numbers[nearest]], np.int64),
            np.array([_MIRRORS[mirrors[nearest]]]),
            np.array([min(whole, 1.0)]),
            np.array([min(half, 1.0)]),
        )

    def _compare(self, variants: Floats, numbers: npt.NDArray[np.int64]) -> Floats:
        """Return the similarities of the variants of a slice to training slices on the middle grid, (N, variants)."""
        return _correlate(_to_spectra(variants, _MIDDLE)[None], self.spectra[numbers][:, None])

    def _compare_halves(self, filtered: Floats, numbers: npt.NDArray[np.int64]) -> float:
        """Return the greatest similarity of a half of a slice to the same half of a training slice."""
        windows = _half_windows()
        shape = (_MIDDLE, _MIDDLE)
        own = np.fft.irfft2(_to_spectra(filtered[None], _MIDDLE), s=shape) * windows
        train = np.fft.irfft2(self.spectra[numbers], s=shape)[:, None] * windows
        return float(_correlate(_normalise(own)[None], _normalise(train)).max())


def to_spectra(thumbnails: Thumbnails) -> Spectra:
    """Return the spectra of slices on the middle grid, band-passed and normalised, for `compare_pairs`."""
    return np.concatenate([_to_spectra(_filter(block, BAND), _MIDDLE) for block in _split(thumbnails)])


def compare_pairs(first: Spectra, second: Spectra) -> Floats:
    """Return the similarity of each pair of slices, (N,): the largest over all moves and mirrorings, without turns."""
    # The spectrum at -ky is that of a slice with its rows reversed, and its conjugate that of one with its columns
    # reversed. Both are moved by half a pixel, because the middle grid has every second pixel of a thumbnail.
    reversed_rows = np.roll(np.flip(second, axis=-2), 1, axis=-2)
    down, right = (
        np.exp(1j * np.pi * k).astype(np.complex64) for k in (np.fft.fftfreq(_MIDDLE), np.fft.rfftfreq(_MIDDLE))
    )
    views = (second, reversed_rows * down[:, None], reversed_rows.conj() * right)
    return np.max([_correlate(first, view) for view in views], axis=0)


def _split(thumbnails: Thumbnails) -> Iterator[Thumbnails]:
    return (thumbnails[start : start + _BLOCK] for start in range(0, len(thumbnails), _BLOCK))


def _filter(thumbnails: npt.NDArray[np.generic], band: tuple[float, float]) -> Floats:
    """Return images (N, S, S) without frequencies outside a band, given in cycles per image; Gaussian edges."""
    size = thumbnails.shape[-1]
    frequency = np.hypot(np.fft.fftfreq(size)[:, None] * size, np.fft.rfftfreq(size)[None] * size)
    low, high = band
    gain = np.exp(-((frequency / high) ** 2) / 2) * (1 - np.exp(-((frequency / low) ** 2) / 2))
    spectra = np.fft.rfft2(thumbnails.astype(np.float32) / 255) * gain.astype(np.float32)
    return np.fft.irfft2(spectra, s=(size, size)).astype(np.float32)


def _to_spectra(images: Floats, size: int) -> Spectra:
    """Resample images (..., S, S) to size x size by cutting their spectrum, normalise them, and transform them."""
    spectra = np.fft.rfft2(images)
    if size < images.shape[-1]:
        half = size // 2
        spectra = np.concatenate([spectra[..., :half, :], spectra[..., -half:, :]], axis=-2)[..., : half + 1]
    return _normalise(np.fft.irfft2(spectra, s=(size, size)))


def _normalise(images: npt.NDArray[np.floating]) -> Spectra:
    """Return the spectra of images (..., S, S) with mean 0 and norm 1; an image without contrast becomes 0."""
    centred = images - images.mean(axis=(-2, -1), keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=(-2, -1), keepdims=True))
    return np.fft.rfft2(np.where(norm > _SMALLEST_NORM, centred / np.maximum(norm, _SMALLEST_NORM), 0)).astype(
        np.complex64
    )


def _correlate(first: Spectra, second: Spectra) -> Floats:
    """Return the greatest correlation over all circular moves of normalised images, given by their spectra."""
    size = first.shape[-2]
    correlation = np.fft.irfft2(first * second.conj(), s=(size, size))
    return correlation.max(axis=(-2, -1))


def _vary(thumbnail: Thumbnails) -> Thumbnails:
    """Return a slice turned and resized in all ways, (turns * sizes, S, S); the unchanged one is in the middle."""
    angles = [(math.radians(turn), size) for turn in _TURNS for size in _SIZES]
    matrices = [
        [[math.cos(angle) / size, -math.sin(angle) / size, 0], [math.sin(angle) / size, math.cos(angle) / size, 0]]
        for angle, size in angles
    ]
    image = torch.from_numpy(np.ascontiguousarray(thumbnail)).float().expand(len(angles), 1, -1, -1)
    grid = F.affine_grid(torch.tensor(matrices), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)[:, 0].numpy()


@cache
def _half_windows() -> Floats:
    """Return windows of the upper, lower, left and right half of the middle grid, (4, S, S)."""
    centred = (np.arange(_MIDDLE) + 0.5) / _MIDDLE - 0.5
    upper = 1 / (1 + np.exp((centred + _HALF_GAP) / _HALF_EDGE))
    columns = np.ones(_MIDDLE)
    rows = [np.outer(upper, columns), np.outer(upper[::-1], columns)]
    return np.stack([*rows, *(window.T for window in rows)]).astype(np.float32)
