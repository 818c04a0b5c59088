"""The model card: the facts that config.json stores beside the weights of a model, typed and validated.

{"format_version", "kind", "model", "step", "metrics", "weights": {"bytes", "sha256"}, ... facts of the dataset}
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vqdist.config.attribute_json import ATTRIBUTES, ROWS, read_attributes, read_rows, write_attributes
from vqdist.config.attributes import AttributeRow, Attributes
from vqdist.foundation.errors import CheckpointError, UserError, collect
from vqdist.foundation.json_validation import AffineRows, Fields

FORMAT_VERSION = 1


@dataclass(frozen=True)
class DataDescription:
    """The facts about a dataset that a model trained on it needs later.

    Attributes:
        data_fingerprint: of the manifest.
        image_size: (H, W) of the images in pixels; for codes, of the images that were encoded.
        class_names: name of each label.
        grid: (h, w) of the code maps; None for images.
        vqvae_fingerprint: of the VQ-VAE that made the codes; None for images.
        conditions: (label, slice, number of train samples) for each pair that occurs; None for images.
        affine: from (row, column, slice number) of the images to millimetres; None if unknown.
        attributes, attribute_rows: as in the manifest of the dataset; empty for images.
    """

    data_fingerprint: str | None = None
    image_size: tuple[int, int] | None = None
    class_names: tuple[str, ...] = ()
    grid: tuple[int, int] | None = None
    vqvae_fingerprint: str | None = None
    conditions: tuple[tuple[int | None, int | None, int], ...] | None = None
    affine: AffineRows | None = None
    attributes: Attributes = field(default_factory=dict)
    attribute_rows: tuple[AttributeRow, ...] = ()


@dataclass(frozen=True)
class ModelCard:
    """The content of config.json.

    Attributes:
        kind: name of the model class in lower case: "vqvae" or "pixelcnn".
        model: arguments of the constructor.
        weights_bytes: size of model.safetensors.
        weights_sha256: hexadecimal digest of model.safetensors.
        step: optimizer step of the weights.
        metrics: validation metrics at that step.
    """

    kind: str
    model: Mapping[str, Any]
    weights_bytes: int
    weights_sha256: str
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: DataDescription = field(default_factory=DataDescription)
    format_version: int = FORMAT_VERSION

    @property
    def fingerprint(self) -> str:
        """The sha256 (hexadecimal) over architecture and weights; equal for models that compute the same function."""
        identity = json.dumps([self.kind, self.model, self.weights_sha256], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()

    def to_json(self) -> bytes:
        """Return the text of config.json; facts that are None are left out."""
        plain = asdict(replace(self.data, attributes={}, attribute_rows=()))
        facts = {name: value for name, value in plain.items() if value is not None and name not in (ATTRIBUTES, ROWS)}
        facts |= write_attributes(self.data.attributes, self.data.attribute_rows)
        values = {
            "format_version": self.format_version,
            "kind": self.kind,
            "model": self.model,
            "step": self.step,
            "metrics": self.metrics,
            "weights": {"bytes": self.weights_bytes, "sha256": self.weights_sha256},
            **facts,
        }
        return f"{json.dumps(values, indent=2)}\n".encode()

    @classmethod
    def from_json(cls, text: bytes, where: str) -> "ModelCard":
        """Parse and validate config.json. Unknown entries are ignored.

        Args:
            where: name of the file in errors.
        Raises:
            CheckpointError: not JSON, or entries are missing or invalid; all of them.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CheckpointError.of(where, error, "JSON") from error
        try:
            top = Fields(values, where)
            weights = Fields(top.mapping("weights"), f"{where}, weights")
            version, kind, model, size, sha256, step, metrics, data = collect(
                lambda: top.one_of("format_version", (FORMAT_VERSION,)),
                lambda: top.text("kind"),
                lambda: top.mapping("model"),
                lambda: weights.integer("bytes"),
                lambda: weights.text("sha256"),
                lambda: top.optional("step", top.integer),
                lambda: top.optional("metrics", top.mapping) or {},
                lambda: _parse_data(top),
            )
        except UserError as error:
            raise CheckpointError(error.problems) from error
        return cls(kind, model, size, sha256, step, metrics, data, version)


def _parse_data(top: Fields) -> DataDescription:
    attributes = read_attributes(top)
    return DataDescription(
        data_fingerprint=top.optional("data_fingerprint", top.text),
        image_size=top.optional("image_size", top.pair),
        class_names=top.optional("class_names", top.texts) or (),
        grid=top.optional("grid", top.pair),
        vqvae_fingerprint=top.optional("vqvae_fingerprint", top.text),
        conditions=top.optional("conditions", top.conditions),
        affine=top.optional("affine", top.affine),
        attributes=attributes,
        attribute_rows=read_rows(top, attributes),
    )
