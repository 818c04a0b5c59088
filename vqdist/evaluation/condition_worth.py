"""What the attributes are worth to a conditional prior: the bits per code with the true ones, others and none."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vqdist.config.attributes import Attribute
from vqdist.data.loading.batch import Batch
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.split_loader import SplitLoader
from vqdist.metrics.codes import code_bits
from vqdist.models.map_conditions import MapConditions
from vqdist.models.pixelcnn import PixelCNN
from vqdist.training.tasks.conditions import conditions_of

TRUE, SHUFFLED, NONE = "bits_per_code", "shuffled_bits_per_code", "unconditional_bits_per_code"
SAVED = "saved_bits_per_code"


@dataclass(frozen=True)
class ConditionVariants:
    """The conditions of the samples of a split, and variants of them.

    Attributes:
        shuffled: attribute -> (N,) values of another subject for each sample; None with fewer than two subjects.
    """

    model: PixelCNN
    split: SplitLoader
    shuffled: dict[str, Tensor] | None

    @classmethod
    def build(cls, model: PixelCNN, split: SplitLoader, *, seed: int = 0) -> "ConditionVariants":
        """Give the attributes of each subject to another one, all attributes of a subject together."""
        subjects = split.subjects()
        first = {name: number for number, name in reversed(list(enumerate(subjects)))}
        names = sorted(first)
        order = np.random.default_rng(derive_seed(seed, "shuffle attributes")).permutation(len(names))
        other = {names[one]: names[next_one] for one, next_one in zip(order, np.roll(order, 1), strict=True)}
        if len(names) < 2:
            return cls(model, split, None)
        given = {name: split.read_info(number).get("attributes") or {} for name, number in first.items()}
        shuffled = {
            name: torch.tensor([_encode(found, given[other[subject]].get(name)) for subject in subjects])
            for name, found in model.spec.attributes.items()
        }
        return cls(model, split, shuffled)

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Return the bits per code of each map, (B,) each, with the true conditions and with the variants."""
        known = conditions_of(self.model, batch, self.split.manifest.attributes)
        variants = {TRUE: known}
        if self.shuffled is not None:
            places = batch.positions.cpu()
            others = {name: values[places].to(batch.positions.device) for name, values in self.shuffled.items()}
            variants[SHUFFLED] = replace(known, attributes=others)
        if self.model.spec.hides:
            variants[NONE] = known.hide_all()
        for name in self.model.spec.attributes:
            if self.model.spec.takes_unknown(name):
                variants[f"without_{name}_bits_per_code"] = known.hide({name: True})
        return {name: self._bits(batch, conditions) for name, conditions in variants.items()}

    def measure_categories(self, batch: Batch, name: str) -> dict[str, Tensor]:
        """Return the bits per code of each map, (B,), if it had each of the categories of an attribute."""
        known = conditions_of(self.model, batch, self.split.manifest.attributes)
        found = {}
        for index, category in enumerate(self.model.spec.attributes[name].values):
            changed = {**known.attributes, name: torch.full_like(known.attributes[name], float(index))}
            found[category] = self._bits(batch, replace(known, attributes=changed))
        return found

    def _bits(self, batch: Batch, conditions: MapConditions) -> Tensor:
        return code_bits(self.model(batch.values, conditions=conditions), batch.values)


def _encode(attribute: Attribute, value: object) -> float:
    """Return the value of a sample in the encoding of the model, a number inside the range of its training data."""
    if not isinstance(value, int | float | str):
        return float("nan")
    number = attribute.encode(value)
    return min(max(number, attribute.low), attribute.high) if attribute.kind == "number" else number
