"""The keys of a run that its dataset decides: those with the value auto, chosen once when the dataset is opened."""

from typing import Any

from vqdist.config.augmentation import AUTO_CROP
from vqdist.config.command_line import show_value
from vqdist.config.model_config import PixelCNNConfig
from vqdist.config.schema import RunConfig
from vqdist.data.orientation import choose_mirror, find_layout
from vqdist.data.shards.manifest import Manifest


def choose_for_dataset(config: RunConfig, manifest: Manifest) -> RunConfig:
    """Return the configuration with each auto of data.mirror, data.crop and model.symmetry replaced by a value.

    The run's first attempt chooses, and config.yaml holds the values, so that a resumed run keeps them.
    """
    for section, keys in _list_choices(config, manifest).items():
        config = config.replace(section, **keys)
    return config


def describe_choices(config: RunConfig, manifest: Manifest) -> str:
    """Return a message about the values that `choose_for_dataset` chooses; empty if it chooses none."""
    choices = _list_choices(config, manifest)
    values = [
        f"{section}.{name} {show_value(value)}" for section, keys in choices.items() for name, value in keys.items()
    ]
    if not values:
        return ""
    size = " x ".join(map(str, manifest.image_size))
    layout = find_layout(manifest)
    kind = f"of the layout {layout}" if layout else "of unknown layout"
    return f"chosen for images of {size} {kind}: {', '.join(values)}"


def _list_choices(config: RunConfig, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return section -> key -> value of the keys that are auto."""
    data: dict[str, Any] = {}
    if config.data.mirror == "auto":
        data["mirror"] = choose_mirror(manifest)
    if config.data.crop == "auto":
        data["crop"] = AUTO_CROP if min(manifest.image_size) > AUTO_CROP else None
    choices = {"data": data} if data else {}
    if isinstance(config.model, PixelCNNConfig) and config.model.symmetry == "auto":
        choices["model"] = {"symmetry": choose_mirror(manifest)}
    return choices
