"""Saved models: round trips, fingerprints, errors for damaged or unsuitable files, concurrent readers."""

import hashlib
import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vqdist import load_model
from vqdist.foundation.errors import CheckpointError, UserError
from vqdist.models import io
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
def test_a_saved_vqvae_is_restored(tmp_path: Path, codebook: str) -> None:
    model = small_vqvae(codebook=codebook, data_variance=0.03).to(memory_format=torch.channels_last)
    data = DataDescription(image_size=(16, 24), class_names=("a", "b"))
    io.save_model(model, tmp_path / "run" / "model", step=7, metrics={"loss": 0.5}, data=data)
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert (config["kind"], config["step"], config["metrics"]) == ("vqvae", 7, {"loss": 0.5})
    assert config["image_size"] == [16, 24]
    assert io.read_model_card(tmp_path / "run").data == data
    images = torch.rand(2, 1, 16, 24)
    for path in (tmp_path / "run", tmp_path / "run" / "model"):
        loaded = load_model(path)
        assert isinstance(loaded, VQVAE)
        assert not loaded.training
        assert loaded.config == model.config
        assert same_weights(loaded, model)
        assert torch.equal(loaded.encode(images), model.encode(images))


def test_a_pixelcnn_is_saved_with_its_vqvae(tmp_path: Path) -> None:
    vqvae, prior = small_vqvae(), PixelCNN(8, hidden=8, layers=2, condition="slice", num_slices=3)
    io.save_model(vqvae, tmp_path / "codes" / "vqvae", step=3)
    io.save_model(prior, tmp_path / "run" / "model", vqvae_dir=tmp_path / "codes")
    assert same_weights(load_model(tmp_path / "run"), prior)
    assert same_weights(load_model(tmp_path / "run" / "model" / "vqvae"), vqvae)
    nested = tmp_path / "run" / "model" / "vqvae"
    assert io.fingerprint(nested) == io.fingerprint(tmp_path / "codes")
    assert io.read_model_card(nested).step == 3


def test_only_models_are_saved_not_what_wraps_them(tmp_path: Path) -> None:
    for model in (torch.nn.DataParallel(small_vqvae()), torch.compile(small_vqvae()), torch.nn.Linear(2, 2)):
        with pytest.raises(
            UserError, match=f"model: found {type(model).__name__}; expected a VQVAE or PixelCNN itself"
        ):
            io.save_model(model, tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_the_fingerprint_depends_only_on_weights_and_architecture(tmp_path: Path) -> None:
    model = small_vqvae()
    io.save_model(model, tmp_path / "a", step=1)
    io.save_model(model, tmp_path / "b", step=2, metrics={"loss": 1.0})
    io.save_model(small_vqvae(commitment_weight=0.5), tmp_path / "c")
    with torch.no_grad():
        model.encoder.to_code.bias[0] += 1
    io.save_model(model, tmp_path / "d")
    prints = [io.fingerprint(tmp_path / name) for name in "abcd"]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_model_that_is_loaded_and_saved_again_keeps_the_facts_of_its_data(tmp_path: Path) -> None:
    io.save_model(small_vqvae(), tmp_path / "a", data=DataDescription(image_size=(48, 64), class_names=("x",)))
    loaded = io.load_model(tmp_path / "a")
    io.save_model(loaded, tmp_path / "b")
    assert io.read_model_card(tmp_path / "b").data == io.read_model_card(tmp_path / "a").data
    io.save_model(loaded, tmp_path / "b", data=DataDescription(image_size=(8, 8)))
    assert io.read_model_files(tmp_path / "b").image_size == (8, 8)


def test_the_image_size_of_a_model_of_ones_own_is_saved(tmp_path: Path) -> None:
    io.save_model(small_vqvae(), tmp_path / "m", image_size=64)
    assert io.read_model_files(tmp_path / "m").image_size == (64, 64)
    io.save_model(small_vqvae(), tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"save_model\(model, folder, image_size=\.\.\.\)"):
        _ = io.read_model_files(tmp_path / "m").image_size


def test_a_path_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: found nothing"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"found no model; expected a run directory, .*, starter, hf://ORG/NAME"):
        load_model(tmp_path)
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(CheckpointError, match="found a dataset of images; expected a run directory"):
        load_model(tmp_path)


def test_a_dataset_of_codes_is_expected_only_where_a_vqvae_is(tmp_path: Path) -> None:
    for kind in ("vqvae", None):
        with pytest.raises(CheckpointError, match="its model/, a dataset of codes, starter"):
            io.read_model_files(tmp_path / "nowhere", kind=kind)
    with pytest.raises(CheckpointError, match="its model/, starter, hf://"):
        io.read_model_files(tmp_path / "nowhere", kind="pixelcnn")


def test_only_a_saved_model_is_replaced(tmp_path: Path) -> None:
    folder, file = tmp_path / "m", tmp_path / "notes.txt"
    folder.mkdir()
    for step in (1, 2):  # empty, then a saved model
        io.save_model(small_vqvae(), folder, step=step)
    assert io.read_model_card(folder).step == 2
    file.write_text("kept")
    for other in (tmp_path, file):
        with pytest.raises(UserError, match="found other content than a saved model"):
            io.save_model(small_vqvae(), other)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="a new or empty folder"):
        io.save_model(small_vqvae(), folder)
    assert file.read_text() == "kept"
    io.save_model(small_vqvae(), folder, check_owner=lambda: None)  # the model of a run


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ({"state": "failed", "step": 0, "error": "no memory\nmore"}, "failed at step 0 (no memory), before it saved"),
        ({"state": "failed", "step": 0}, "failed at step 0, before it saved a model"),
        ({"state": "stopped", "step": 7}, "stopped at step 7, before it saved a model"),
    ],
)
def test_a_run_without_a_model_is_named_with_its_end(tmp_path: Path, status: dict[str, object], found: str) -> None:
    (tmp_path / "status.json").write_text(json.dumps(status))
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path)
    assert f"found no model: its training {found}" in str(caught.value)
    assert "run the same train command again" in str(caught.value)


def test_weights_of_another_architecture_are_reported(tmp_path: Path) -> None:
    io.save_model(small_vqvae(), tmp_path / "m")
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
    config["weights"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "config.json").write_text(json.dumps(config))


def test_missing_and_additional_tensors_are_reported(tmp_path: Path) -> None:
    io.save_model(small_vqvae(), tmp_path / "m")

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors["renamed"] = tensors.pop("encoder.mix.bias")

    rewrite_weights(tmp_path / "m", rename)
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "m")
    assert len(caught.value.problems) == 2
    assert "encoder.mix.bias: found nothing; expected (8,) float32" in str(caught.value)
    assert "renamed: found (8,) float32; expected nothing" in str(caught.value)


def test_any_flipped_or_cut_byte_of_the_weights_is_refused(tmp_path: Path) -> None:
    io.save_model(small_vqvae(), tmp_path / "m")
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


def test_a_model_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    io.save_model(PixelCNN(8, hidden=8, layers=1), tmp_path / "m")
    with pytest.raises(CheckpointError, match="kind: found pixelcnn; expected vqvae: pass the run of the VQ-VAE"):
        io.save_model(PixelCNN(8, hidden=8, layers=1), tmp_path / "n", vqvae_dir=tmp_path / "m")
    assert not (tmp_path / "n").exists()
    vqvae = small_vqvae()
    io.save_model(vqvae, tmp_path / "vqvae")
    io.save_model(PixelCNN(8, hidden=8, layers=1), tmp_path / "run" / "model", vqvae_dir=tmp_path / "vqvae")
    with pytest.raises(CheckpointError, match=r"or (.*) of this prior") as caught:
        io.read_model_files(tmp_path / "run", kind="vqvae")
    proposed = str(caught.value).rpartition("or ")[2].removesuffix(" of this prior")
    assert io.read_model_files(proposed).card.kind == "vqvae"


class Bias(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = {"size": 3}
        self.bias = torch.nn.Parameter(torch.zeros(3))


def test_any_module_with_a_config_is_saved_but_only_known_kinds_are_built(tmp_path: Path) -> None:
    io.save_model(Bias(), tmp_path / "m", step=4)
    card = io.read_model_card(tmp_path / "m")
    assert (card.kind, card.model, card.step) == ("bias", {"size": 3}, 4)
    with pytest.raises(CheckpointError, match="kind: found bias; expected vqvae or pixelcnn"):
        load_model(tmp_path / "m")


def test_a_failed_write_leaves_the_previous_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small_vqvae()
    io.save_model(first, tmp_path / "m")

    def full_disk(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        io.save_model(small_vqvae(num_codes=4), tmp_path / "m")
    assert same_weights(load_model(tmp_path / "m"), first)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_ownership_is_checked_before_the_model_is_replaced(tmp_path: Path) -> None:
    first = small_vqvae()
    io.save_model(first, tmp_path / "m")

    def refuse() -> None:
        raise RuntimeError("a newer process owns the run")

    with pytest.raises(RuntimeError, match="newer process"):
        io.save_model(small_vqvae(num_codes=4), tmp_path / "m", check_owner=refuse)
    assert same_weights(load_model(tmp_path / "m"), first)


def test_a_kill_between_the_two_renames_leaves_a_readable_model(tmp_path: Path) -> None:
    first, second = small_vqvae(), small_vqvae(num_codes=4)
    io.save_model(first, tmp_path / "run" / "model")
    (tmp_path / "run" / "model").rename(tmp_path / "run" / ".model.old")
    assert same_weights(load_model(tmp_path / "run"), first)
    io.save_model(second, tmp_path / "run" / "model")
    assert same_weights(load_model(tmp_path / "run"), second)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model"]


def test_a_reader_never_sees_a_mix_of_two_models(tmp_path: Path) -> None:
    models = [small_vqvae(), small_vqvae(num_codes=4)]
    io.save_model(models[0], tmp_path / "m")

    def write() -> None:
        for count in range(1, 40):
            io.save_model(models[count % 2], tmp_path / "m", step=count)

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while writer.is_alive():  # each read verifies the weights against the card that was read with them
        seen.add(io.read_model_files(tmp_path / "m").card.model["num_codes"])
    assert seen == {4, 8}
