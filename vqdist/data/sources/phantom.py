"""Synthetic brains: skull-stripped axial slices that resemble T1 scans.

A slice is computed from distances in millimetres. The distance to the nearest fluid (outer surface, sulci, fissure
between the hemispheres) determines fluid, cortex and white matter. Ventricles and deep grey matter are capsules and
ellipsoids cut by the plane of the slice, so neighbouring slices are consistent. As in the OASIS slices, rows go from
the subject's left to right and columns from back to front.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from vqdist.foundation.seeds import derive_seed

Field = npt.NDArray[np.floating]

FIELD_OF_VIEW_MM = 208.0
YOUNGEST, OLDEST = 20, 90  # years
_SEX_SIZE = {"F": 0.97, "M": 1.03}  # of the head, against the mean
_MIDDLE_Z_MM = 15.5
_SULCI = 18  # per hemisphere
_CORTEX_MM = 3.6
_NOISE, _TEXTURE = 0.014, 0.0045  # standard deviations at 256 pixels; averages over larger pixels have less

# The left lateral ventricle as capsules: end points (x to the front, y to the side, z up) and radii, in mm.
_VENTRICLE = (
    ((35, 14, 12), (16, 4, 15), 4.4, 3.4),
    ((26, 9, 15), (8, 7, 25), 4.6, 4.8),
    ((14, 7, 24), (-22, 14, 25), 4.8, 5.4),
    ((-22, 14, 25), (-35, 22, 14), 5.4, 5.2),
    ((-35, 22, 14), (-24, 29, 2), 5.2, 3.4),
)
_THIRD_VENTRICLE = ((10, 0, 2), (-10, 0, 8), 1.6, 2.0)
_CISTERN = ((-34, 0, 0), (-30, 0, 8), 4.5, 1.5)
# Deep grey matter: centre and half axes in mm; thalamus, head of the caudate, putamen.
_DEEP_GREY = (
    ((-8, 11, 11), (15, 9, 12)),
    ((18, 14, 15), (11, 5, 13)),
    ((8, 27, 8), (20, 6, 14)),
)


@dataclass(frozen=True)
class PhantomPerson:
    """Age in years and sex, F or M, of a synthetic brain."""

    age: float
    sex: str


def describe_phantom(subject: int, seed: int = 0) -> PhantomPerson:
    """Return age and sex of a synthetic brain, which decide on the width of its fluid spaces and on its size."""
    share = np.random.default_rng(derive_seed(seed, "phantom", subject)).uniform()  # the first draw of its anatomy
    sex = "FM"[derive_seed(seed, "phantom sex", subject) % 2]
    return PhantomPerson(round(YOUNGEST + share * (OLDEST - YOUNGEST), 1), sex)


@dataclass(frozen=True)
class _Anatomy:
    """Parameters of one subject: sizes in mm, grey values, and the random waves of its folds."""

    half_length: float
    half_width: float
    taper: float
    ventricle_scale: float
    sulcus_width: float
    grey: float
    fluid: float
    bias: npt.NDArray[np.float64]  # (5,) of the second order polynomial
    waves: npt.NDArray[np.float64]  # (2, 10, 5) per axis: frequencies in x, y, z, phase, amplitude in mm
    depths: npt.NDArray[np.float64]  # (2, _SULCI + 2, 3) per hemisphere: depth in mm, its wave in z, a shift
    medial: npt.NDArray[np.float64]  # (2, 16) depth in mm of the folds along the fissure
    shift: tuple[float, float]
    angle: float


def phantom_slice(
    subject: int, slice_number: int, *, num_slices: int = 32, image_size: int = 256, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Draw one axial slice of a synthetic brain, deterministically.

    Slices are 1 mm apart; the middle one goes through the bodies of the ventricles.

    Args:
        subject: any whole number; determines size, folds, ventricles, contrast and bias field.
        slice_number: from 0, the lowest, to num_slices - 1.
        image_size: rows and columns, for a field of view of 208 mm as in the OASIS volumes. Noise is inversely
            proportional to the side of a pixel: slices with half as many rows have half the noise.
    Returns:
        (image_size, image_size) uint8, 0 outside the brain.
    """
    body = _build_anatomy(subject, seed)
    z = slice_number - (num_slices - 1) / 2 + _MIDDLE_Z_MM
    x, y = _coordinates(body, image_size)
    softness = max(0.55, 0.45 * FIELD_OF_VIEW_MM / image_size)
    warped_x, warped_y = _warp(body, x, y, z)
    surface, fluid_distance = _fold(body, (x + warped_x) / 2, (y + warped_y) / 2, warped_x, warped_y, z)
    image = _paint_tissue(body, fluid_distance, softness)
    image = _paint_deep(body, image, x + (warped_x - x) / 3, y + (warped_y - y) / 3, z, softness)
    image *= _bias(body, x / 90, y / 90, z / 60)
    image = _add_noise(image, np.random.default_rng(derive_seed(seed, "phantom", subject, slice_number)))
    mask = _step(surface - 0.5, 0.5 * softness)
    return np.where(surface > 0, np.clip(image * mask * 228, 0, 255), 0).round().astype(np.uint8)


@lru_cache(maxsize=64)
def _build_anatomy(subject: int, seed: int) -> _Anatomy:
    rng = np.random.default_rng(derive_seed(seed, "phantom", subject))
    age = rng.uniform()  # from YOUNGEST to OLDEST; old brains: wide ventricles and sulci
    size = _SEX_SIZE[describe_phantom(subject, seed).sex]
    waves = rng.uniform(-1, 1, (2, 10, 5))
    waves[:, :, :3] *= np.linspace(0.05, 0.3, 10)[None, :, None] * (1, 1, 0.45)
    waves[:, :, 3] *= np.pi
    waves[:, :, 4] = np.linspace(2.6, 0.7, 10) * rng.choice((-1, 1), (2, 10))
    depths = rng.uniform(size=(2, _SULCI + 2, 3))
    depths[..., 0] = np.where(np.arange(_SULCI + 2) % 2, 20, 7) + 12 * depths[..., 0]
    depths[..., 1] *= 2 * np.pi
    depths[..., 2] = 0.6 * (depths[..., 2] - 0.5)
    return _Anatomy(
        half_length=size * rng.normal(89, 2.2),
        half_width=size * rng.normal(71, 2.2),
        taper=rng.normal(0.09, 0.025),
        ventricle_scale=0.72 + 0.85 * age**1.5 + rng.uniform(-0.08, 0.08),
        sulcus_width=0.45 + 0.7 * age + rng.uniform(-0.1, 0.1),
        grey=rng.normal(0.64, 0.025),
        fluid=rng.normal(0.2, 0.025),
        bias=rng.normal(0, 0.03, 5),
        waves=waves,
        depths=depths,
        medial=rng.uniform(4, 17, (2, 16)),
        shift=(rng.normal(0, 1.2), rng.normal(0, 0.8)),
        angle=rng.normal(0, 0.015),
    )


def _coordinates(body: _Anatomy, image_size: int) -> tuple[Field, Field]:
    """Return x (to the front) and y (to the right) of each pixel, in mm from the centre of the brain."""
    line = (np.arange(image_size, dtype=np.float32) + 0.5) / image_size - 0.5
    x, y = np.meshgrid(line * FIELD_OF_VIEW_MM - body.shift[0], line * FIELD_OF_VIEW_MM - body.shift[1])
    cos, sin = np.float32(np.cos(body.angle)), np.float32(np.sin(body.angle))
    return (cos * x + sin * y).astype(np.float32), (cos * y - sin * x).astype(np.float32)


def _warp(body: _Anatomy, x: Field, y: Field, z: float) -> tuple[Field, Field]:
    """Displace the coordinates by a few smooth random waves."""
    moved = []
    for start, waves in zip((x, y), body.waves.astype(np.float32), strict=True):
        shift = np.zeros_like(x)
        for fx, fy, fz, phase, amplitude in waves:
            shift += amplitude * np.sin(fx * x + fy * y + np.float32(fz * z + phase))
        moved.append(start + shift)
    return moved[0], moved[1]


def _fold(body: _Anatomy, x: Field, y: Field, warped_x: Field, warped_y: Field, z: float) -> tuple[Field, Field]:
    """Return the depth below the outer surface and the distance to the nearest fluid, both in mm."""
    height = 1 - ((z + 6) / 95) ** 2
    length, width = body.half_length * math.sqrt(height), body.half_width * math.sqrt(height)
    across = y / (1 - body.taper * x / length - 0.06 * (x / length) ** 2)
    angle = np.arctan2(np.abs(warped_y) / width, warped_x / length)
    radius = np.hypot(length * np.cos(angle), width * np.sin(angle)).astype(np.float32)
    depth = (1 - np.hypot(x / length, across / width)) * radius
    sulcus, offset = _sulcus_distance(body, depth, angle, radius, warped_y > 0, z)
    distance = np.minimum(depth - 0.6, sulcus - body.sulcus_width)
    distance = np.minimum(distance, _fissure_distance(body, warped_x, warped_y, z) - body.sulcus_width)
    notch = (1.8 + 2 * body.sulcus_width) * np.exp(-((offset / 2.2) ** 2))
    return (depth - notch).astype(np.float32), distance.astype(np.float32)


def _sulcus_distance(
    body: _Anatomy, depth: Field, angle: Field, radius: Field, right: npt.NDArray[np.bool_], z: float
) -> tuple[Field, Field]:
    """Return the distance to the nearest sulcus, and to its line along the surface, in mm."""
    side = right.astype(np.intp)
    phase = angle * np.float32(_SULCI / np.pi)
    phase += 0.3 * np.sin(depth / 6 + side * 2 + np.float32(z / 9) + 1.7 * phase)
    nearest = np.clip(np.rint(phase), 0, _SULCI + 1).astype(np.intp)
    floor, wave, shift = (body.depths[..., i].astype(np.float32)[side, nearest] for i in range(3))
    spacing = np.maximum(radius - 0.6 * depth, 15) * np.float32(np.pi / _SULCI)
    offset = (phase - nearest - shift) * spacing
    floor = floor * (0.7 + 0.3 * np.sin(np.float32(z / 11) + wave))
    return np.hypot(offset, np.maximum(depth - floor, 0)), offset


def _fissure_distance(body: _Anatomy, x: Field, y: Field, z: float) -> Field:
    """Return the distance to the fissure between the hemispheres and to the folds along it, in mm."""
    half_gap = max(43 - max(z - 22, 0) * 1.2, 8)
    inside = np.maximum(half_gap - np.abs(x - 4), 0)
    place = (x + 96) / 12
    nearest = np.clip(np.rint(place), 0, 15).astype(np.intp)
    reach = body.medial.astype(np.float32)[(y > 0).astype(np.intp), nearest]
    fold = np.hypot((place - nearest) * 12, np.maximum(np.abs(y) - reach, 0))
    return np.minimum(np.hypot(y, inside), np.hypot(fold, inside))


def _step(distance: Field, softness: float) -> Field:
    """Smooth step from 0 to 1 at distance 0: the fraction of a voxel beyond a border."""
    return (0.5 + 0.5 * np.tanh(distance / np.float32(softness))).astype(np.float32)


def _paint_tissue(body: _Anatomy, fluid_distance: Field, softness: float) -> Field:
    image = body.fluid + (body.grey - body.fluid) * _step(fluid_distance, softness)
    return image + (1 - body.grey) * _step(fluid_distance - _CORTEX_MM, 2 * softness)


def _paint_deep(body: _Anatomy, image: Field, x: Field, y: Field, z: float, softness: float) -> Field:
    side = np.abs(y)
    for centre, axes in _DEEP_GREY:
        share = _step(_ellipsoid(x, side, z, centre, axes), 1.5 * softness)
        image = image + share * np.maximum(0.45 * body.grey + 0.55 - image, -0.3)
    scale = body.ventricle_scale
    depth = [_capsule(x, side, z, *capsule, scale) for capsule in _VENTRICLE]
    depth += [_capsule(x, side, z, *capsule, 0.6 + 0.4 * scale) for capsule in (_THIRD_VENTRICLE, _CISTERN)]
    share = _step(np.maximum.reduce(depth), softness)
    return image + share * (body.fluid - image)


def _ellipsoid(x: Field, y: Field, z: float, centre: tuple[float, ...], axes: tuple[float, ...]) -> Field:
    """Return the approximate depth inside an ellipsoid, in mm; negative outside."""
    a, b, c = axes
    squares = ((x - centre[0]) / a) ** 2 + ((y - centre[1]) / b) ** 2 + ((z - centre[2]) / c) ** 2
    return ((1 - np.sqrt(squares)) * min(axes)).astype(np.float32)


def _capsule(
    x: Field,
    y: Field,
    z: float,
    start: tuple[float, ...],
    end: tuple[float, ...],
    start_radius: float,
    end_radius: float,
    scale: float,
) -> Field:
    """Return the depth inside a capsule whose radius changes linearly from start to end, in mm; negative outside."""
    axis = np.subtract(end, start, dtype=np.float32)
    from_start = (x - start[0], y - start[1], np.float32(z - start[2]))
    along = sum(step * part for step, part in zip(axis, from_start, strict=True)) / float(axis @ axis)
    along = np.clip(along, 0, 1)
    squares = sum((part - along * step) ** 2 for step, part in zip(axis, from_start, strict=True))
    return scale * (start_radius + along * (end_radius - start_radius)) - np.sqrt(squares)


def _bias(body: _Anatomy, x: Field, y: Field, z: float) -> Field:
    """Return the smooth gain of the receiver coil, near 1."""
    a, b, c, d, e = body.bias
    return np.exp(a * x + b * y + c * x * y + d * (x**2 - 0.3) + e * (y**2 - 0.3) + 0.02 * z).astype(np.float32)


def _add_noise(image: Field, rng: np.random.Generator) -> Field:
    """Add tissue texture and the Rician noise of magnitude images; both fall with the side of a pixel."""
    share = len(image) / 256
    noise, texture = np.float32(share * _NOISE), np.float32(share * _TEXTURE)
    grain = rng.standard_normal((3, *image.shape), dtype=np.float32)
    smooth = sum(np.roll(grain[2], shift, axis) for axis in (0, 1) for shift in (-1, 0, 1))
    image = image * (1 + texture * smooth)
    return np.hypot(image + noise * grain[0], noise * grain[1])
