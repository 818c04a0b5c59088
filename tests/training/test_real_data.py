"""Runs on the shared OASIS slices: kills change no weight, no sample of the ledger and not the quality.

pytest -m long tests/training/test_real_data.py
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support import digests, tiny_flags, train
from support.interrupted_runs import check_ledger, describe_run, train_with_faults, train_with_kills

DATA = Path(__file__).parents[3] / "shared" / "data" / "keras_png_slices_data"
STEPS = 400

pytestmark = [
    pytest.mark.long,
    pytest.mark.ranks,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} does not exist"),
]


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared slices as shards of 64 x 64."""
    out = tmp_path_factory.mktemp("shared") / "slices"
    command = [sys.executable, "-m", "vqdist.shard", str(DATA), str(out)]
    subprocess.run([*command, "--image-size", "64", "--samples-per-shard", "32"], check=True)
    return out


def make_words(data: Path, folder: Path, *more: object) -> list[str]:
    model = ("--model.hidden", 32, "--model.residual_hidden", 16, "--model.code_dim", 16, "--model.num_codes", 64)
    fixed = (*tiny_flags(), *model, "--optim.lr", 1e-3, "--train.max_steps", STEPS, "--train.eval_every", 100)
    saving = ("--checkpoint.every_steps", 20, "--data.ledger", "true", "--data.path", data, "--run.dir", folder)
    return [str(word) for word in (*fixed, *saving, *more)]


def measure_ssim(run: Path, data: Path) -> float:
    command = [sys.executable, "-m", "vqdist.evaluate", "--run", str(run), "--data", str(data)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["metrics"]["ssim"]["mean"])


def test_twenty_kills_leave_the_same_weights(slices: Path, tmp_path: Path) -> None:
    words = make_words(slices, tmp_path, "--data.num_workers", 1)
    train(*words, "--run.name", "whole", timeout_s=1200)
    history = {"steps": STEPS, "kills": 20, "ranks": 1, "rng": random.Random(1)}
    train_with_kills(tmp_path / "killed", [*words, "--run.name", "killed"], **history)
    assert digests(tmp_path / "killed" / "model") == digests(tmp_path / "whole" / "model")
    assert describe_run(tmp_path / "killed") == describe_run(tmp_path / "whole")


def test_twenty_faults_over_one_to_three_ranks_keep_ledger_and_quality(slices: Path, tmp_path: Path) -> None:
    values = []
    for seed in range(3):
        train(*make_words(slices, tmp_path, "--run.seed", seed, "--run.name", f"seed-{seed}"), timeout_s=1200)
        values.append(measure_ssim(tmp_path / f"seed-{seed}", slices))
    words = make_words(slices, tmp_path, "--run.name", "elastic")
    ends = train_with_faults(tmp_path / "elastic", words, STEPS, 20)
    train(*words, ranks=3, timeout_s=1200)
    check_ledger(tmp_path / "elastic", slices, "windowed", STEPS)
    ssim = measure_ssim(tmp_path / "elastic", slices)
    sys.stderr.write(
        f"faults {dict(ends)}; test SSIM {ssim:.5f}, undisturbed {[round(value, 5) for value in values]}\n"
    )
    spread = max(values) - min(values)
    assert min(values) - spread <= ssim <= max(values) + spread
