"""Which keys may change when a run is resumed."""

import json
from pathlib import Path

import pytest
from support import read_metrics, tiny_flags, train

from vqdist.config.loading import load_config
from vqdist.config.model_config import PixelCNNConfig, VQVAEConfig
from vqdist.config.schema import run_config_type
from vqdist.runs.resume_checks import resume_problems


def test_a_run_of_an_older_version_resumes_if_new_keys_have_their_defaults() -> None:
    vqvae_run, pixelcnn_run = run_config_type("vqvae", VQVAEConfig), run_config_type("pixelcnn", PixelCNNConfig)
    requested = vqvae_run()
    saved = vqvae_run().model_dump(mode="json")
    del saved["data"]["mirror"], saved["model"]["patch"], saved["data"]["crop"]
    old = vqvae_run.model_validate(saved)
    assert not resume_problems(old, requested)
    changed = vqvae_run(data={"mirror": "rows"}, model={"patch": 4})
    assert {problem.where for problem in resume_problems(old, changed)} == {"data.mirror", "model.patch"}
    assert [problem.where for problem in resume_problems(old, pixelcnn_run())] == ["task"]


def test_a_refused_change_names_both_values_and_what_to_do() -> None:
    run = run_config_type("vqvae", VQVAEConfig)
    saved = run(optim={"lr": 0.003, "grad_clip": None}, model={"hidden": 64}, data={"crop": 32})
    requested = run(optim={"lr": 0.001, "grad_clip": 2.0}, data={"crop": None})
    assert list(map(str, resume_problems(saved, requested))) == [
        "this run uses data.crop 32, which cannot change; you gave null: remove it, or choose a new --run.name",
        "this run uses model.hidden 64, which cannot change; without the key it would be 128: add --model.hidden 64, "
        "or choose a new --run.name",
        "this run uses optim.grad_clip null, which cannot change; you gave 2.0: remove it, or choose a new --run.name",
        "this run uses optim.lr 0.003, which cannot change; you gave 0.001: remove it, or choose a new --run.name",
    ]


def test_a_value_of_the_configuration_file_is_not_called_given(tmp_path: Path) -> None:
    saved = run_config_type("pixelcnn", PixelCNNConfig)(model={"condition": "label"}, data={"path": "codes"})
    flags = [("data.path", "codes"), ("model.kernel", "5")]
    file = tmp_path / "prior.yaml"
    file.write_text("task: pixelcnn\nmodel: {condition: slice, kernel: 3}\n")
    requested, problems = load_config(file, flags)
    assert (requested is None, problems) == (False, [])
    assert list(map(str, resume_problems(saved, requested))) == [
        f"this run uses model.condition label, which cannot change; the configuration {file} gives slice: "
        "add --model.condition label, or choose a new --run.name"
    ]
    given, _ = load_config(file, [*flags, ("model.condition", "none")])
    assert "you gave none: remove it" in str(resume_problems(saved, given)[0])
    images = run_config_type("vqvae", VQVAEConfig)()
    assert list(map(str, resume_problems(images, requested))) == [
        f"this run uses task vqvae, which cannot change; the configuration {file} gives pixelcnn: "
        "choose a new --run.name"
    ]


def test_many_changes_are_one_problem() -> None:
    run = run_config_type("vqvae", VQVAEConfig)
    model = {"hidden": 64, "patch": 4, "num_codes": 7, "code_dim": 3, "residual_hidden": 5, "residual_layers": 1}
    optim = {"lr": 0.003, "grad_clip": None, "weight_decay": 0.5, "warmup_steps": 7}
    saved, requested = run(optim=optim, model=model, run={"seed": 9}), run(run={"dir": "runs", "name": "old"})
    assert list(map(str, resume_problems(saved, requested))) == [
        "runs/old has other values of keys that cannot change: model.code_dim, model.hidden, model.num_codes, "
        "model.patch, model.residual_hidden, ... (11 in all): choose a new --run.name, or continue it with "
        "--config runs/old/config.yaml"
    ]


@pytest.mark.ranks
def test_only_keys_that_do_not_affect_the_result_may_change(image_set: Path, tmp_path: Path) -> None:
    words = [*tiny_flags(), "--data.path", image_set, "--run.dir", tmp_path, "--run.name", "run"]
    train(*words, "--train.max_steps", 10)
    owner = (tmp_path / "run" / "owner.json").read_bytes()
    deciding = ("--model.hidden", 12, "--optim.lr", 0.5, "--run.seed", 3, "--data.global_batch_size", 4)
    more = ("--data.order", "full", "--train.precision", "bf16", "--data.mirror", "rows", "--data.crop", 16)
    refused = train(*words, *deciding, *more, check=False)
    assert refused.code == 2
    assert "error: 8 problems" in refused.logs[0]
    for key in (deciding + more)[::2]:
        assert f"- this run uses {key[2:]} " in refused.logs[0]
    expected = "model.hidden 8, which cannot change; you gave 12: remove it, or choose a new --run.name"
    assert expected in refused.logs[0]
    assert (tmp_path / "run" / "owner.json").read_bytes() == owner, "a refused attempt must not become the owner"
    rest = ("--train.max_steps", 14, "--train.log_every", 2, "--checkpoint.keep", 2, "--data.num_workers", 1)
    longer = train(*words, *rest, "--data.micro_batch_size", 3)
    assert "the schedule of the learning rate ends at step 10" in longer.logs[0]
    assert "steps 10 to 14\nrun: resumed from step 10\n" in longer.logs[0]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["step"] == 14
    lines = [line for line in read_metrics(tmp_path / "run") if line["split"] == "train"]
    assert lines[-1]["lr"] == pytest.approx(1e-5), "the schedule ends at the step that the first attempt chose"
    assert train(*words, "--checkpoint.resume", "never", check=False).code == 2
