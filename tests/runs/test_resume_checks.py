"""Which keys may change when a run is resumed."""

import json
from pathlib import Path

import pytest
from support import read_metrics, tiny_flags, train

from vqdist.config.model_config import PixelCNNConfig, VQVAEConfig
from vqdist.config.schema import run_config_type
from vqdist.runs.resume_checks import resume_problems


def test_a_run_of_an_older_version_resumes_if_new_keys_have_their_defaults(tmp_path: Path) -> None:
    vqvae_run, pixelcnn_run = run_config_type("vqvae", VQVAEConfig), run_config_type("pixelcnn", PixelCNNConfig)
    requested = vqvae_run()
    saved = vqvae_run().model_dump(mode="json")
    del saved["data"]["mirror"], saved["model"]["patch"], saved["data"]["crop"]
    old = vqvae_run.model_validate(saved)
    assert not resume_problems(tmp_path, old, requested)
    changed = vqvae_run(data={"mirror": "rows"}, model={"patch": 4})
    assert {problem.where for problem in resume_problems(tmp_path, old, changed)} == {"data.mirror", "model.patch"}
    assert "task" in {problem.where for problem in resume_problems(tmp_path, old, pixelcnn_run())}


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
        assert f"- {key[2:]}: found " in refused.logs[0]
    assert "found 8 in" in refused.logs[0]
    assert "expected 12 as requested" in refused.logs[0]
    assert (tmp_path / "run" / "owner.json").read_bytes() == owner, "a refused attempt must not become the owner"
    rest = ("--train.max_steps", 14, "--train.log_every", 2, "--checkpoint.keep", 2, "--data.num_workers", 1)
    train(*words, *rest, "--data.micro_batch_size", 3)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["step"] == 14
    lines = [line for line in read_metrics(tmp_path / "run") if line["split"] == "train"]
    assert lines[-1]["lr"] == pytest.approx(1e-5), "the schedule ends at the step that the first attempt chose"
    assert train(*words, "--checkpoint.resume", "never", check=False).code == 2
