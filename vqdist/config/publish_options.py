"""Options of `vqdist publish`."""

from typing import Literal

from vqdist.config.command_line import Options
from vqdist.config.option_types import Place, Text
from vqdist.config.section import Bool, FilePath, key
from vqdist.foundation.errors import Problem
from vqdist.foundation.model_names import HUB_FORM, HubModel, is_hub_name, parse_hub_name


class PublishOptions(Options):
    """Options of `vqdist publish`."""

    run: FilePath = key(..., "run, or folder of a saved model; a PixelCNN includes its VQ-VAE", positional="RUN")
    target: Place = key(..., "hf://ORG/NAME or a folder, new or empty", positional="TARGET")
    report: tuple[FilePath, ...] = key(
        (), "files that `vqdist evaluate --out` wrote for the model or its VQ-VAE; the card shows their figures"
    )
    data_terms: Text | None = key(
        None, "for the card: the training data, its credits, licence and terms, in Markdown; null: not stated"
    )
    license: Text | None = key(None, "for the card: licence of the model as the hub names it, such as cc-by-nc-4.0")
    weights: Literal["as-is", "fp16"] = key(
        "as-is", "fp16: store the weights in half precision; those of the VQ-VAE in a PixelCNN stay as they are"
    )
    private: Bool = key(False, "create a private repository")
    overwrite: Bool = key(False, "replace the contents of TARGET; a repository keeps its history")

    @property
    def hub(self) -> HubModel | None:
        """The repository on the hub; None for a folder."""
        return parse_hub_name(self.target) if is_hub_name(self.target) else None

    def find_conflicts(self) -> list[Problem]:
        if is_hub_name(self.target) and (self.hub is None or self.hub.revision is not None or self.hub.has_part):
            return [Problem("TARGET", self.target, f"{HUB_FORM.split()[0]} or a folder")]
        if self.private and self.hub is None:
            return [Problem("--private", "true with a folder as TARGET", "only with hf://ORG/NAME")]
        return []
