"""What the layout that a dataset was made from says of its images: whether they are brains, and how to mirror them."""

from typing import Any, Literal

from vqdist.data.shards.manifest import Manifest

_PICTURES = ("imagefolder", "webdataset")


def find_layout(manifest: Manifest) -> str | None:
    """Return the layout that `vqdist shard` read the images from; None for third-party shards."""
    source: Any = manifest.source if manifest.kind == "images" else manifest.source.get("images_source")
    layout = source.get("layout") if isinstance(source, dict) else None
    return layout if isinstance(layout, str) else None


def shows_pictures(manifest: Manifest) -> bool:
    """Return whether a dataset shows pictures of any content, and not brain slices.

    It was made from a folder or tars of pictures, or is of third-party shards without slice numbers.
    """
    layout = find_layout(manifest)
    return layout in _PICTURES or (layout is None and manifest.num_slices is None)


def shows_brains(manifest: Manifest) -> bool:
    """Return whether a dataset is known to be made from brain slices; False for third-party shards."""
    return find_layout(manifest) not in (None, *_PICTURES)


def choose_mirror(manifest: Manifest) -> Literal["none", "up-down"]:
    """Return up-down for brain slices, where it exchanges left and right, and none for pictures of any content."""
    return "up-down" if shows_brains(manifest) else "none"
