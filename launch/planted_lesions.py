"""Plant lesions in healthy slices, to choose the parameters of `vqdist score` without real lesions.

A lesion is a bumpy disc with a soft edge and texture inside the brain. Grey values are relative to white matter, the
75th percentile of the brain.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from vqdist.metrics.smoothing import smooth

KINDS = ("dark", "bright", "ring", "grey", "swelling")
RADII = (4 / 256, 13 / 256)  # shares of the side of the slice
BUMPS = range(2, 6)  # waves around the disc
TISSUE = 0.45  # grey value above which a pixel is no fluid

Floats = npt.NDArray[np.float32]


class Lesion(NamedTuple):
    """A slice (S, S) uint8 with a lesion, and its mask (S, S) bool."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


class Disc(NamedTuple):
    """A bumpy disc: for each pixel the offset from the centre, and the distance from it in radii; (S, S) each."""

    centre: npt.NDArray[np.float64]
    rows: Floats
    columns: Floats
    distance: Floats
    radius: float

    def share(self, size: float, softness: float) -> Floats:
        """Return the share of the disc of `size` radii in each pixel, with an edge of some pixels."""
        return 1 / (1 + np.exp(((self.distance - size) * self.radius / softness).clip(-50, 50)))


def plant_lesion(image: npt.NDArray[np.uint8], kind: str, rng: np.random.Generator) -> Lesion:
    """Plant a lesion of one of KINDS in a slice (S, S) with a brain."""
    slice_, brain = image.astype(np.float32), image > 0
    white = float(np.percentile(slice_[brain], 75))
    disc = place_disc(slice_ / white, kind, rng)
    share = disc.share(1, rng.uniform(0.35, 0.8))
    if kind == "swelling":
        planted = deform(slice_, disc, rng.uniform(0.5, 0.8))
    else:
        content = draw_content(kind, disc, white, rng)
        if kind == "grey":
            content = np.minimum(slice_, content)
        planted = slice_ * (1 - share) + content * share
    planted = np.where(brain, planted.round().clip(1, 255), 0).astype(np.uint8)
    return Lesion(planted, (share > 0.5) & brain)


def draw_content(kind: str, disc: Disc, white: float, rng: np.random.Generator) -> Floats:
    """Return the grey values of a lesion."""
    texture = smooth(torch.from_numpy(rng.normal(size=disc.rows.shape)), rng.uniform(0.7, 1.5)).numpy()
    texture = texture / texture.std() * rng.uniform(3, 8)
    bright = min(rng.uniform(1.1, 1.35) * white, 250)
    if kind == "ring":
        core = disc.share(rng.uniform(0.5, 0.65), 0.6)
        return core * rng.uniform(0.2, 0.5) * white + (1 - core) * bright + texture
    grey = {"dark": rng.uniform(0.15, 0.42) * white, "bright": bright, "grey": rng.uniform(0.62, 0.76) * white}[kind]
    return grey + texture


def place_disc(relative: Floats, kind: str, rng: np.random.Generator) -> Disc:
    """Return a disc inside the brain and not mainly in fluid; that of a grey lesion is where much is white matter.

    Args:
        relative: (S, S) grey values divided by that of white matter.
    """
    side = len(relative)
    radius = side * rng.uniform(*RADII)
    reach = round(1.2 * radius)
    outside = torch.from_numpy((relative == 0).astype(np.float32))[None, None]
    allowed = F.max_pool2d(F.pad(outside, (reach,) * 4, value=1.0), 2 * reach + 1, stride=1)[0, 0].numpy() == 0
    tissue = torch.from_numpy((relative > (0.88 if kind == "grey" else TISSUE)).astype(np.float32))
    amount = np.where(allowed, smooth(tissue, 0.6 * radius).numpy(), -1)
    least = np.quantile(amount[allowed], 0.7) if kind == "grey" and allowed.any() else 0.6
    candidates = np.argwhere(amount >= min(least, amount.max()))
    centre = candidates[rng.integers(len(candidates))] + rng.uniform(-0.5, 0.5, 2)
    rows, columns = np.mgrid[:side, :side].astype(np.float32) - centre[:, None, None].astype(np.float32)
    angle, edge = np.arctan2(rows, columns), np.ones_like(rows)
    for waves in BUMPS:
        edge = edge + rng.uniform(0, 0.25 / waves) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return Disc(centre, rows, columns, np.hypot(rows, columns) / (radius * edge), radius)


def deform(image: Floats, disc: Disc, strength: float) -> Floats:
    """Magnify what is in a disc by shifting it away from the centre, and compress what is around it."""
    scale = 1 - strength * (1 - disc.distance / 2).clip(0, 1)
    half = (len(image) - 1) / 2
    places = [(disc.centre[axis] + offset * scale) / half - 1 for axis, offset in ((1, disc.columns), (0, disc.rows))]
    grid = torch.from_numpy(np.stack(places, axis=-1).astype(np.float32))[None]
    return F.grid_sample(torch.from_numpy(image)[None, None], grid, align_corners=True)[0, 0].numpy()
