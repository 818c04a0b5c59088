"""The trial of a run: what it measures and what it predicts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from vqdist.config.model_config import VQVAEConfig
from vqdist.config.schema import RunConfig, run_config_type
from vqdist.data.shards.manifest import load_manifest
from vqdist.diagnosis import trial
from vqdist.diagnosis.trial import Trial, check_reading, estimate_duration, run_trial
from vqdist.distributed.process_group import Ranks
from vqdist.models.vqvae import VQVAE

ALONE = Ranks(0, 1, 0, torch.device("cpu"))
SIZES = {"hidden": 8, "residual_hidden": 4, "downsample": 4, "code_dim": 4, "num_codes": 16}


def configure(**sections: dict[str, Any]) -> RunConfig:
    return run_config_type("vqvae", VQVAEConfig).model_validate({"model": SIZES, **sections})


@pytest.mark.parametrize(
    ("limit_s", "requeues"), [(None, None), (10_000.0, 0.0), (1180.0, 0.0), (1179.0, 1.0), (430.0, 3.0)]
)
def test_requeues_for_a_run_of_1000_seconds(limit_s: float | None, requeues: float | None) -> None:
    config = configure(train={"max_steps": 4000}, data={"global_batch_size": 8})
    check = estimate_duration(config, Trial(4.0, 1), 1e6, limit_s)
    assert check.state == "ok"
    assert check.found.startswith("4 steps/s, 16 min 40 s for 4,000 steps")
    expected = {"steps_per_s": 4.0, "wall_time_s": 1000.0} | ({} if requeues is None else {"requeues": requeues})
    assert check.figures == expected


def test_time_limit_that_is_too_short_to_stop_in() -> None:
    check = estimate_duration(configure(train={"max_steps": 4000}), Trial(4.0, 1), 1e6, 200.0)
    assert check.state == "note"
    assert "180 s" in check.fix
    assert "requeues" not in check.figures
    # A run that ends before the stop signal needs no longer limit.
    assert estimate_duration(configure(train={"max_steps": 40}), Trial(4.0, 1), 1e6, 200.0).state == "ok"


@pytest.mark.parametrize(("workers", "state"), [(0, "note"), (1, "note"), (2, "ok")])
def test_loader_that_is_slower_than_training(workers: int, state: str) -> None:
    config = configure(data={"global_batch_size": 10, "num_workers": workers})
    check = estimate_duration(config, Trial(2.0, 1), 10.0, None)
    assert check.state == state
    assert ("20 samples/s" in check.fix) == (state == "note")


def test_memory_of_a_gpu_is_reported() -> None:
    check = estimate_duration(configure(), Trial(2.0, 1, 3.25), 1e6, None)
    assert check.found.endswith(", 3.2 GiB of GPU memory")
    assert check.figures["gpu_memory_gib"] == 3.25


def test_trial_trains_without_writing(image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "READ_S", 0.05)
    data = {"path": str(image_set), "global_batch_size": 6, "num_workers": 0}
    run = {"dir": str(tmp_path), "device": "cpu"}
    optim = {"decay_steps": 100}
    config = configure(data=data, run=run, optim=optim, train={"precision": "fp32"})
    manifest = load_manifest(image_set)
    (reading,) = check_reading(config, str(image_set), manifest, ALONE)
    assert reading.figures["read_samples_per_s"] > 0
    found = run_trial(config, str(image_set), manifest, ALONE)
    assert found.steps_per_s > 0
    assert found.gpu_memory_gib is None
    weights = sum(parameter.numel() for parameter in VQVAE(1, **SIZES).parameters())
    # Weights and two moments of each in fp32, and the buffers of the codebook.
    assert 12 * weights <= found.checkpoint_bytes < 12 * weights + 4096
    assert list(tmp_path.iterdir()) == []
