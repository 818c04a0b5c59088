"""Jobs of the test cluster, and the run directories that they write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from slurm_cluster import Cluster, poll

from vqdist.data.order import Order
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader

ROOT = Path(__file__).parents[2]
TRAIN = str(ROOT / "slurm/train.sbatch")
# Generous, because the machine may be busy with other work.
PATIENCE_S = 240


class Run:
    """Read the files of a run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def status(self) -> dict[str, Any]:
        path = self.path / "status.json"
        return json.loads(path.read_text()) if path.exists() else {"state": None, "step": 0}

    @property
    def step(self) -> int:
        """The last step with a line in metrics.jsonl."""
        lines = self.lines("metrics.jsonl") if (self.path / "metrics.jsonl").exists() else []
        return lines[-1]["step"] if lines else 0

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.path / name
        whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        return [json.loads(line) for line in whole]

    def losses(self, split: str) -> dict[int, float]:
        return {line["step"]: line["loss"] for line in self.lines("metrics.jsonl") if line["split"] == split}

    def log(self, rank: int) -> str:
        return (self.path / f"logs/rank-{rank}.log").read_text()

    def assert_same_as(self, other: "Run", *, tolerance: float = 2e-4) -> None:
        """The losses of every step and of the evaluation are those of the other run."""
        for split in ("train", "validate"):
            ours, theirs = self.losses(split), other.losses(split)
            assert list(ours) == list(theirs)
            np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=tolerance, err_msg=split)

    def assert_exact_ledger(self) -> None:
        """Each step was trained on exactly the samples of the order, over all attempts and ranks."""
        config = yaml.safe_load((self.path / "config.yaml").read_text())
        data, last = config["data"], self.status["step"]
        size = data["global_batch_size"]
        reader = ShardReader(data["path"], load_manifest(data["path"]), "train")
        order = Order(
            reader.shard_sizes, kind=data["order"], window_shards=data["window_shards"], seed=config["run"]["seed"]
        )
        seen: dict[int, list[str]] = {}
        for path in (self.path / "ledger").glob("rank-*.jsonl"):
            for line in self.lines(str(path.relative_to(self.path))):
                seen.setdefault(line["step"], []).extend(line["keys"])
        assert sorted(seen) == list(range(1, last + 1))
        for step, keys in seen.items():
            samples = order.samples(np.arange((step - 1) * size, step * size))
            assert sorted(keys) == sorted(reader.key(int(index)) for index in samples), step


class Jobs:
    """Submit jobs as a user of the cluster does, and wait for them."""

    def __init__(
        self, cluster: Cluster, folder: Path, configs: dict[str, Path], undisturbed: Callable[..., Run]
    ) -> None:
        self.cluster = cluster
        self.folder = folder
        self.configs = configs
        self.undisturbed = undisturbed

    def words(self, config: str, name: str = "it") -> list[str]:
        """Return vqdist.train's arguments for a run in the test's folder."""
        return ["--config", str(self.configs[config]), "--run.dir", str(self.folder), "--run.name", name]

    def train(
        self, config: str, *arguments: str, flags: str = "", name: str = "it", **environment: str
    ) -> tuple[str, Run]:
        """Submit slurm/train.sbatch; return the job and the run."""
        job = self.submit(TRAIN, *self.words(config, name), *arguments, flags=flags, **environment)
        return job, Run(self.folder / name)

    def submit(self, script: str, *arguments: str, flags: str = "", **environment: str) -> str:
        """Run sbatch; return the job."""
        log = str(self.folder / "job-%j.log")
        together = self.cluster.environment | environment
        return self.cluster.submit(*flags.split(), f"--output={log}", script, *arguments, env=together)

    def submit_nothing(self, flags: str) -> str:
        """Submit a job that ends at once; return it."""
        output = str(self.folder / "nothing-%j.log")
        return self.cluster.submit(*flags.split(), f"--output={output}", "--wrap=true")

    def finish(self, job: str) -> str:
        """Wait until a job has ended; return its state."""
        return self.cluster.wait(job, PATIENCE_S)

    def wait_step(self, job: str, run: Run, step: int) -> None:
        """Wait until a run has a line for the step; fail if its job ends before."""

        def there() -> bool:
            if run.step >= step:
                return True
            assert self.cluster.job(job)["JobState"] in {"PENDING", "RUNNING", "COMPLETING"}, self.log(job)
            return False

        poll(there, PATIENCE_S, f"step {step} of {run.path.name}")

    def wait_attempt(self, job: str, number: int) -> None:
        """Wait until the given attempt of a job, counted from 1, is running."""

        def running() -> bool:
            facts = self.cluster.job(job)
            assert facts["JobState"] not in {"FAILED", "COMPLETED"}, self.log(job)
            return facts["JobState"] == "RUNNING" and int(facts["Restarts"]) == number - 1

        poll(running, PATIENCE_S, f"attempt {number} of job {job}", every_s=0.3)

    def stop(self, job: str, run: Run) -> None:
        """Stop a run with a STOP file, without Slurm."""
        (run.path / "STOP").touch()
        assert self.finish(job) == "FAILED"
        assert "stopped on request" in self.log(job)
        assert self.cluster.job(job)["ExitCode"] == "75:0"

    def log(self, job: str) -> str:
        return Path(self.cluster.job(job)["StdOut"]).read_text()

    def assert_completed(self, job: str) -> None:
        assert self.finish(job) == "COMPLETED", self.log(job)
