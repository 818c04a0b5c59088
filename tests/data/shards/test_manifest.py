"""The manifest: what it describes, and that every invalid value is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.noise_images import make_noise, write_noise_set

from vqdist.data.shards.manifest import MANIFEST, Manifest, is_safe_name, load_manifest, write_manifest
from vqdist.foundation.errors import DataError


def test_the_manifest_describes_the_shards(noise_set: Path) -> None:
    manifest = load_manifest(noise_set)
    train = manifest.splits["train"]
    pixels = np.stack([make_noise(i) for i in range(10)]).astype(np.float64) / 255
    assert (train.samples, train.subjects, manifest.num_slices, manifest.num_labels) == (10, 4, 3, 2)
    assert train.mean == pytest.approx((pixels.mean(),), rel=1e-12)
    assert train.variance == pytest.approx((pixels.var(),), rel=1e-12)
    assert sum(count for _, _, count in manifest.conditions) == 10
    assert manifest.conditions == tuple(sorted(manifest.conditions))


def test_json_round_trip(noise_set: Path, tmp_path: Path) -> None:
    manifest = load_manifest(noise_set)
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    write_manifest(tmp_path, manifest)
    assert load_manifest(tmp_path) == manifest


@pytest.mark.parametrize(
    ("kind", "shape", "dtype", "extension"), [("images", (1, 6, 8), "uint8", "png"), ("codes", (3, 5), "int32", "npy")]
)
def test_the_values_of_a_sample(kind: str, shape: tuple[int, ...], dtype: str, extension: str) -> None:
    grid = (3, 5) if kind == "codes" else None
    manifest = Manifest(kind=kind, image_size=(6, 8), channels=1, splits={}, grid=grid)
    assert (manifest.values_shape, manifest.values_dtype, manifest.extension) == (shape, dtype, extension)


def test_the_fingerprint_depends_on_the_content_only(noise_set: Path, tmp_path: Path) -> None:
    manifest = load_manifest(noise_set)
    other_source = load_manifest(write_noise_set(tmp_path / "again", source={"path": "elsewhere"}))
    assert manifest.fingerprint == other_source.fingerprint
    assert manifest.fingerprint != load_manifest(write_noise_set(tmp_path / "fewer", samples=9)).fingerprint


BAD_VALUES = [
    ("format_version", 2),
    ("kind", "pickles"),
    ("image_size", [6]),
    ("image_size", [10**6, 10**6]),
    ("channels", 2),
    ("channels", True),
    ("splits", []),
    ("splits.train.samples", 11),
    ("splits.train.mean", [0.1, 0.2]),
    ("splits.train.mean", [1e999]),
    ("splits.train.shards.0.name", "../shard.tar"),
    ("splits.train.shards.0.name", "/etc/shard.tar"),
    ("splits.train.shards.0.name", "train/shard.pkl"),
    ("splits.train.shards.0.samples", 2**40),
    ("splits.train.shards.0.bytes", "4"),
    ("splits.train.shards.0.sha256", "00"),
    ("splits.train.shards.0.index_sha256", "00"),
    ("splits.train.shards.1.name", "train/shard-000000.tar"),
    ("class_names", [1]),
    ("num_slices", 1.5),
    ("conditions", [[0, 1]]),
    ("conditions", [[0, 1, 0]]),
    ("conditions", [["0", 1, 1]]),
]


@pytest.mark.parametrize(("key", "value"), BAD_VALUES)
def test_an_invalid_manifest_is_refused(noise_set: Path, key: str, value: object) -> None:
    path = noise_set / MANIFEST
    manifest = place = json.loads(path.read_text())
    *parents, last = key.split(".")
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    place[last] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=MANIFEST):
        load_manifest(noise_set)


def test_a_missing_dataset_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder.*`vqdist shard`"):
        load_manifest(tmp_path / "none")
    with pytest.raises(DataError, match=rf"no {MANIFEST} and no shards.*`vqdist shard`"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("name", ["out.tmp-123", "out.old-123", ".out.tmp-0a1b2c3d", ".out.old"])
def test_a_temporary_folder_is_not_a_dataset(noise_set: Path, name: str) -> None:
    noise_set.rename(noise_set.with_name(name))
    with pytest.raises(DataError, match="a temporary folder of a killed command"):
        load_manifest(noise_set.with_name(name))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("train/shard-000000.tar", True),
        ("a b/c+d.tar", True),
        ("../shard.tar", False),
        ("a/../b.tar", False),
        ("/a.tar", False),
        ("a//b.tar", False),
        (".hidden/a.tar", False),
        ("a\\b.tar", False),
        ("é.tar", False),
        ("x" * 300 + ".tar", False),
        ("", False),
    ],
)
def test_names_that_leave_the_folder_are_not_safe(name: str, safe: bool) -> None:
    assert is_safe_name(name) == safe
