"""Only brain slices are mirrored unless asked, by the layout that dataset.json names."""

from dataclasses import replace
from typing import Any

import pytest

from vqdist.data.orientation import choose_mirror, find_layout, shows_pictures
from vqdist.data.shards.manifest import Manifest
from vqdist.data.sources.demo_source import DEMO
from vqdist.data.sources.layouts import LAYOUTS


def build_manifest(kind: str, source: dict[str, Any]) -> Manifest:
    return Manifest(kind, (64, 64), 1, {}, source)


@pytest.mark.parametrize("layout", [*LAYOUTS, DEMO])
def test_brain_slices_are_mirrored_up_down_and_pictures_are_not(layout: str) -> None:
    expected = "none" if layout == "imagefolder" else "up-down"
    images = {"path": "somewhere", "layout": layout, "seed": 0}
    assert shows_pictures(build_manifest("images", images)) is (layout == "imagefolder")
    assert choose_mirror(build_manifest("images", images)) == expected
    assert choose_mirror(build_manifest("codes", {"command": "vqdist.encode", "images_source": images})) == expected


@pytest.mark.parametrize("source", [{}, {"shards": ["a.tar"]}, {"layout": None}, {"layout": 3}, {"images_source": "x"}])
def test_images_of_unknown_origin_are_not_mirrored(source: dict[str, Any]) -> None:
    for kind in ("images", "codes"):
        manifest = build_manifest(kind, source)
        assert find_layout(manifest) is None
        assert shows_pictures(manifest)
        assert not shows_pictures(replace(manifest, num_slices=3))  # slices of some organ: perhaps brains
        assert choose_mirror(manifest) == "none"
