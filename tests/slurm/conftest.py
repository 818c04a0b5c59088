"""Fixtures of the Slurm tests: the cluster, jobs, datasets, configurations and undisturbed runs."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from slurm_cluster import Cluster, missing_prerequisite
from slurm_jobs import Jobs, Run
from support import save_vqvae, train, write_codes

from vqdist import shard


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Start a cluster of four nodes. In CI it must be possible; elsewhere the tests are skipped."""
    reason = missing_prerequisite()
    if reason and os.environ.get("CI") != "true":
        pytest.skip(f"no Slurm cluster here: {reason}")
    assert reason is None, reason
    with Cluster(num_nodes=4) as running:
        # One thread: the ranks share few cores, and the sums of one and of four processes must agree.
        running.environment |= {
            "VQDIST_PYTHON": sys.executable,
            "VQDIST_SITE": "/dev/null",
            "OMP_NUM_THREADS": "1",
        }
        yield running


@pytest.fixture
def jobs(cluster: Cluster, tmp_path: Path, configs: dict[str, Path], undisturbed: Callable[..., Run]) -> Iterator[Jobs]:
    """Return the jobs of a test in a folder of its own; afterwards all nodes are idle again."""
    yield Jobs(cluster, tmp_path, configs, undisturbed)
    cluster.heal()


@pytest.fixture(scope="session")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a dataset of synthetic slices: 48 of 32 x 32 in train."""
    out = tmp_path_factory.mktemp("data") / "slices"
    words = "--num-subjects 8 --num-slices 8 --image-size 32 --samples-per-shard 8"
    shard.main(["demo", str(out), *words.split()])
    return out


@pytest.fixture(scope="session")
def codes(slices: Path) -> Path:
    """Encode the dataset with an untrained VQ-VAE."""
    return write_codes(slices.parent / "codes", save_vqvae(slices.parent / "vqvae"), slices)


@pytest.fixture(scope="session")
def configs(slices: Path, codes: Path) -> dict[str, Path]:
    """Write configurations: a short run of each stage, a longer one to interrupt, and one to count traffic."""
    data = {"path": str(slices), "global_batch_size": 8, "num_workers": 0, "ledger": True}
    small = {"hidden": 8, "residual_hidden": 4, "downsample": 4, "code_dim": 8, "num_codes": 32, "restart_every": 4}
    train = {"max_steps": 10, "log_every": 1, "eval_every": 10, "preview_every": None}
    base = {"task": "vqvae", "data": data, "model": small, "train": train, "tracking": {"mode": "disabled"}}
    large = {"hidden": 96, "residual_hidden": 32, "code_dim": 64, "num_codes": 256}
    wanted = {
        "vqvae": base,
        "pixelcnn": {
            "task": "pixelcnn",
            "data": data | {"path": str(codes)},
            "model": {"hidden": 8, "layers": 3, "condition": "slice"},
            "train": train,
            "tracking": {"mode": "disabled"},
        },
        "steady": base
        | {
            "data": data | {"global_batch_size": 24},
            "model": small | {"hidden": 64, "residual_hidden": 32},
            "train": train | {"max_steps": 90, "eval_every": 90},
            "checkpoint": {"every_steps": 10},
        },
        "traffic": base
        | {
            "data": data | {"global_batch_size": 24},
            "model": small | large,
            "train": train | {"max_steps": 80, "eval_every": 80},
        },
    }
    for name, values in wanted.items():
        (slices.parent / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return {name: slices.parent / f"{name}.yaml" for name in wanted}


@pytest.fixture(scope="session")
def undisturbed(configs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Return undisturbed(name, ranks=1), which trains a configuration once without Slurm and faults."""
    folder = tmp_path_factory.mktemp("undisturbed")

    def make(name: str, ranks: int = 1) -> Run:
        done = Run(folder / f"{name}-{ranks}")
        if not done.path.exists():
            train("--config", configs[name], "--run.dir", folder, "--run.name", done.path.name, ranks=ranks)
        return done

    return make
