"""Weights in half precision: half the bytes, the same model within the precision of fp16."""

from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from support.models import save_vqvae

from vqdist import load_model, save_model
from vqdist.foundation.atomic_files import write_folder
from vqdist.models.half_precision import to_half_precision
from vqdist.models.io import read_model_files


def test_half_precision_weights_load_into_an_fp32_model(tmp_path: Path) -> None:
    run = save_vqvae(tmp_path / "run")
    full = read_model_files(run)
    half = to_half_precision(full)
    assert half.card.fingerprint != full.card.fingerprint
    assert half.card_text.endswith(b"}\n")
    assert {name: value for name, value in half.config.items() if name != "weights"} == {
        name: value for name, value in full.config.items() if name != "weights"
    }
    write_folder(tmp_path / "half", half.contents)
    weights, loaded = load_model(run).state_dict(), load_model(tmp_path / "half").state_dict()
    assert weights.keys() == loaded.keys()
    for name, tensor in weights.items():
        expected = tensor.half().float() if tensor.dtype == torch.float32 else tensor
        assert torch.equal(loaded[name], expected), name


def test_values_beyond_the_range_of_fp16_stay_as_they_are(tmp_path: Path) -> None:
    run = save_vqvae(tmp_path / "run")
    model = load_model(run)
    model.quantizer.counts.fill_(1e5)
    save_model(model, tmp_path / "large")
    tensors = load_tensors(to_half_precision(read_model_files(tmp_path / "large")).weights)
    assert {name for name, tensor in tensors.items() if tensor.dtype == torch.float32} == {"quantizer.counts"}
