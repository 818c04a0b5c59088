"""Models as files: what is saved comes back, and what does not fit or is damaged is refused by name."""

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vqdist import load_model
from vqdist.foundation.errors import CheckpointError
from vqdist.models import io as artifact
from vqdist.models.model_card import DataDescription
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE


def small_vqvae(**changes) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(1, **{"hidden": 8, "residual_hidden": 4, "code_dim": 4, "num_codes": 8, "downsample": 8, **changes})


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("codebook", ["ema", "grad"])
def test_a_saved_vqvae_comes_back(tmp_path: Path, codebook: str) -> None:
    model = small_vqvae(codebook=codebook, data_variance=0.03).to(memory_format=torch.channels_last)
    data = DataDescription(image_size=(16, 24), class_names=("a", "b"))
    artifact.save_model(model, tmp_path / "run" / "model", step=7, metrics={"loss": 0.5}, data=data)
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert (config["kind"], config["step"], config["metrics"]) == ("vqvae", 7, {"loss": 0.5})
    assert config["image_size"] == [16, 24]
    assert artifact.read_model_card(tmp_path / "run").data == data
    images = torch.rand(2, 1, 16, 24)
    for path in (tmp_path / "run", tmp_path / "run" / "model"):
        loaded = load_model(path)
        assert isinstance(loaded, VQVAE)
        assert not loaded.training
        assert loaded.config == model.config
        assert same_weights(loaded, model)
        assert torch.equal(loaded.encode(images), model.encode(images))


def test_a_pixelcnn_carries_its_vqvae(tmp_path: Path) -> None:
    vqvae, prior = small_vqvae(), PixelCNN(8, hidden=8, layers=2, condition="slice", num_slices=3)
    artifact.save_model(vqvae, tmp_path / "codes" / "vqvae", step=3)
    artifact.save_model(prior, tmp_path / "run" / "model", vqvae_dir=tmp_path / "codes")
    assert same_weights(load_model(tmp_path / "run"), prior)
    assert same_weights(load_model(tmp_path / "run" / "model" / "vqvae"), vqvae)
    nested = tmp_path / "run" / "model" / "vqvae"
    assert artifact.fingerprint(nested) == artifact.fingerprint(tmp_path / "codes")
    assert artifact.read_model_card(nested).step == 3


def test_the_fingerprint_follows_weights_and_architecture_alone(tmp_path: Path) -> None:
    model = small_vqvae()
    artifact.save_model(model, tmp_path / "a", step=1)
    artifact.save_model(model, tmp_path / "b", step=2, metrics={"loss": 1.0})
    artifact.save_model(small_vqvae(commitment_weight=0.5), tmp_path / "c")
    with torch.no_grad():
        model.encoder.to_code.bias[0] += 1
    artifact.save_model(model, tmp_path / "d")
    prints = [artifact.fingerprint(tmp_path / name) for name in "abcd"]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_no_model_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: found nothing"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="found no model; expected a run directory"):
        load_model(tmp_path)


def test_weights_of_another_architecture_are_named(tmp_path: Path) -> None:
    artifact.save_model(small_vqvae(), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["model"]["code_dim"] = 6
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "m")
    assert "quantizer.codebook: found (8, 4) float32; expected (8, 6) float32" in str(caught.value)


def rewrite_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    data = (folder / "model.safetensors").read_bytes()
    config = json.loads((folder / "config.json").read_text())
    config["weights"] = {"bytes": len(data), "sha256": artifact.hashlib.sha256(data).hexdigest()}
    (folder / "config.json").write_text(json.dumps(config))


def test_missing_and_additional_tensors_are_named(tmp_path: Path) -> None:
    artifact.save_model(small_vqvae(), tmp_path / "m")

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors["stranger"] = tensors.pop("encoder.mix.bias")

    rewrite_weights(tmp_path / "m", rename)
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "m")
    assert len(caught.value.problems) == 2
    assert "encoder.mix.bias: found nothing; expected (8,) float32" in str(caught.value)
    assert "stranger: found (8,) float32; expected nothing" in str(caught.value)


def test_any_flipped_or_cut_byte_of_the_weights_is_refused(tmp_path: Path) -> None:
    artifact.save_model(small_vqvae(), tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    whole = file.read_bytes()
    for position in range(0, len(whole), len(whole) // 20):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        file.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="damaged"):
            load_model(tmp_path / "m")
        file.write_bytes(whole[:position])
        with pytest.raises(CheckpointError, match="bytes"):
            load_model(tmp_path / "m")


BAD_CONFIGS = {
    "empty": b"",
    "not utf-8": b"\xff\xfe\x00",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "another format": {"format_version": 2},
    "unknown kind": {"kind": "pickle"},
    "kind of another type": {"kind": {"a": 1}},
    "no weights": {"weights": None},
    "weights without sha256": {"weights": {"bytes": 1}},
    "arguments as list": {"model": []},
    "unknown argument": {"model": {"hiden": 8}},
    "text for a number": {"model": {"hidden": "8"}},
    "not a whole number": {"model": {"hidden": 8.5}},
    "a giant": {"model": {"hidden": 2**40}},
    "out of range": {"model": {"downsample": 5}},
    "endless layers": {"model": {"residual_layers": 2**40}},
}


@pytest.mark.parametrize("change", BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
def test_an_odd_config_is_refused(tmp_path: Path, change: bytes | dict) -> None:
    artifact.save_model(small_vqvae(), tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    if isinstance(change, bytes):
        file.write_bytes(change)
    else:
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=r"config\.json|safetensors"):
        load_model(tmp_path / "m")


def test_a_prior_is_no_vqvae(tmp_path: Path) -> None:
    artifact.save_model(PixelCNN(8, hidden=8, layers=1), tmp_path / "m")
    with pytest.raises(CheckpointError, match="kind: found pixelcnn; expected vqvae"):
        artifact.save_model(PixelCNN(8, hidden=8, layers=1), tmp_path / "n", vqvae_dir=tmp_path / "m")
    assert not (tmp_path / "n").exists()


def test_a_failed_write_leaves_the_model_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small_vqvae()
    artifact.save_model(first, tmp_path / "m")

    def full_disk(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        artifact.save_model(small_vqvae(num_codes=4), tmp_path / "m")
    assert same_weights(load_model(tmp_path / "m"), first)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_owner_is_asked_before_the_model_is_replaced(tmp_path: Path) -> None:
    first = small_vqvae()
    artifact.save_model(first, tmp_path / "m")

    def refuse() -> None:
        raise RuntimeError("a newer start owns the run")

    with pytest.raises(RuntimeError, match="newer start"):
        artifact.save_model(small_vqvae(num_codes=4), tmp_path / "m", check_owner=refuse)
    assert same_weights(load_model(tmp_path / "m"), first)


def test_a_kill_between_the_two_renames_leaves_a_model_to_read(tmp_path: Path) -> None:
    first, second = small_vqvae(), small_vqvae(num_codes=4)
    artifact.save_model(first, tmp_path / "run" / "model")
    (tmp_path / "run" / "model").rename(tmp_path / "run" / ".model.old")
    assert same_weights(load_model(tmp_path / "run"), first)
    artifact.save_model(second, tmp_path / "run" / "model")
    assert same_weights(load_model(tmp_path / "run"), second)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model"]


def test_a_reader_never_sees_half_a_model(tmp_path: Path) -> None:
    models = [small_vqvae(), small_vqvae(num_codes=4)]
    artifact.save_model(models[0], tmp_path / "m")
    stop = threading.Event()

    def write() -> None:
        for count in range(1, 10_000):
            if stop.is_set():
                return
            artifact.save_model(models[count % 2], tmp_path / "m", step=count)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        seen = {load_model(tmp_path / "m").num_codes for _ in range(150)}
    finally:
        stop.set()
        writer.join()
    assert seen == {4, 8}
