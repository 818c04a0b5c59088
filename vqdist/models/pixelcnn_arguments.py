"""The arguments of the constructor of a PixelCNN: those of its configuration and those that its dataset determines."""

from typing import Any

from vqdist.config.attributes import Attribute
from vqdist.config.condition_key import NUMBERS, list_names
from vqdist.config.model_config import PixelCNNConfig
from vqdist.config.section import Int, key
from vqdist.foundation.errors import Problem
from vqdist.models.condition_spec import ConditionSpec

CONTEXT_KEYS = ("context", "context_dropout", "context_noise")


class PixelCNNArguments(PixelCNNConfig):
    """The keys of a PixelCNN with the arguments that its dataset determines."""

    num_codes: Int = key(512, "number of codes", ge=1)
    num_labels: Int = key(64, "labels are in [0, num_labels)", ge=1)
    num_slices: Int = key(256, "slice numbers are in [0, num_slices), over which slices vary smoothly", ge=1)
    attributes: dict[str, Attribute] = key({}, "attributes of the training data that the model is conditioned on")

    @property
    def spec(self) -> ConditionSpec:
        """The conditions that the model takes."""
        names = list_names(self.condition)
        hides, previous_codes = self.condition_dropout > 0, self.num_codes if self.reads_previous else None
        return ConditionSpec(names, self.num_labels, self.num_slices, self.attributes, hides, previous_codes)

    def to_json(self) -> dict[str, Any]:
        """Return the arguments as JSON values; those that earlier versions do not know only where they are used."""
        new = {"attributes", "condition_dropout"}
        values = self.model_dump(exclude=new if self.reads_previous else new | {*CONTEXT_KEYS})
        if self.symmetry == "up-down":
            values["symmetry"] = "rows"  # its name in saved models, which earlier versions read
        if self.condition_dropout:
            values["condition_dropout"] = self.condition_dropout
        if self.attributes:
            values["attributes"] = {name: attribute.to_json() for name, attribute in self.attributes.items()}
        return values

    def find_conflicts(self) -> list[Problem]:
        problems = super().find_conflicts()
        if self.symmetry == "auto":
            problems.append(Problem("model.symmetry", "auto", "none or up-down; only a run of train can choose"))
        names = set(list_names(self.condition)) - set(NUMBERS)
        if names != self.attributes.keys():
            found = ", ".join(sorted(names)) or "no attributes"
            expected = f"label, slice and the attributes that are given: {', '.join(sorted(self.attributes)) or 'none'}"
            problems.append(Problem("model.condition", found, expected))
        return problems
