"""Features of an attribute of a map, such as age or sex, for the context of a PixelCNN.

Shapes: B maps, F features.
"""

import torch
from torch import Tensor, nn

from vqdist.config.attributes import Attribute
from vqdist.models.waves import encode_waves

# Half periods over the range of the training data: low ones, which vary smoothly between the ages of few subjects.
NUMBER_FREQUENCIES = (1, 2, 3, 4)


class AttributeEncoder(nn.Module):
    """Encode the values of one attribute: categories by an embedding, numbers by sines and cosines.

    A number also enters standardised, so that the features go on beyond the range of the training data. An unknown
    value has the features 0.

    Args:
        size: F.
    """

    frequencies: Tensor

    def __init__(self, attribute: Attribute, size: int) -> None:
        super().__init__()
        self.attribute = attribute
        self.register_buffer("frequencies", torch.tensor(NUMBER_FREQUENCIES), persistent=False)
        self.embedding = nn.Embedding(len(attribute.values), size) if attribute.kind == "category" else None
        self.linear = None if self.embedding is not None else nn.Linear(1 + 2 * len(NUMBER_FREQUENCIES), size)

    def forward(self, values: Tensor) -> Tensor:
        """Return the features (B, F) of values (B,), as in `MapConditions.attributes`."""
        known = values.isnan().logical_not()
        if self.embedding is not None:
            features = self.embedding(values.nan_to_num(0.0).long())
        else:
            assert self.linear is not None
            features = self.linear(self._encode_numbers(values).to(self.linear.weight))
        return torch.where(known[:, None], features, torch.zeros_like(features))

    def _encode_numbers(self, values: Tensor) -> Tensor:
        found = self.attribute
        values = values.nan_to_num(found.mean)
        share = (values - found.low) / ((found.high - found.low) or 1.0)
        standardised = (values - found.mean) / found.std
        return torch.cat([standardised[:, None], encode_waves(share, self.frequencies)], dim=1)
