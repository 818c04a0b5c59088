"""Store the weights of a saved model in half precision. load_model converts them back to fp32."""

import hashlib
import json

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from vqdist.models.io import ModelFiles
from vqdist.models.model_card import ModelCard


def to_half_precision(files: ModelFiles) -> ModelFiles:
    """Return a saved model whose fp32 tensors are stored as fp16; its fingerprint is another one.

    A tensor with values beyond the range of fp16 (65504) stays as it is.
    """
    tensors = {name: _halve(tensor) for name, tensor in load_tensors(files.weights).items()}
    weights = save_tensors(tensors)
    config = files.config | {"weights": {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}}
    text = f"{json.dumps(config, indent=2)}\n".encode()
    return ModelFiles(files.folder, ModelCard.from_json(text, str(files.folder / "config.json")), text, weights)


def _halve(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32 or not torch.equal(tensor.half().isfinite(), tensor.isfinite()):
        return tensor
    return tensor.half()
