"""The whole pipeline by slurm/pipeline.sh: without faults, and with a kill in every stage."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import yaml
from slurm_cluster import poll
from slurm_jobs import PATIENCE_S, ROOT, Jobs, Run

PIPELINE = str(ROOT / "slurm/pipeline.sh")
STAGES = ("shard", "vqvae", "encode", "pixelcnn", "evaluate-vqvae", "evaluate-pixelcnn", "sample")
# Per round: the stages that run and are killed, and the stages that are then cancelled.
ROUNDS = (
    (("shard",), ("vqvae", "sample")),
    (("vqvae",), ("encode", "evaluate-vqvae")),
    (("encode", "evaluate-vqvae"), ("pixelcnn",)),
    (("pixelcnn",), ("evaluate-pixelcnn", "sample")),
    (("evaluate-pixelcnn", "sample"), ()),
)
SITE = """
PIPELINE_TRAIN=(--nodes="${TEST_NODES:-2}" --ntasks-per-node=1 --exclude=node4)
PIPELINE_OTHER=(--exclude=node4)
: "${VQDIST_SCRATCH:=}"
"""
FLAGS = {
    "--shard-args": "--num-subjects 5 --num-slices 4 --image-size 32 --samples-per-shard 4",
    "--sample-args": "--seed 3",
}


class Chain:
    """The pipeline of a test, with its own output folder and site file."""

    def __init__(self, jobs: Jobs, name: str, **environment: str) -> None:
        self.jobs = jobs
        self.out = jobs.folder / name
        site = jobs.folder / "site.sh"
        site.write_text(SITE)
        self.environment = jobs.cluster.environment | {"VQDIST_SITE": str(site)} | environment
        self.words = [word for pair in FLAGS.items() for word in pair]
        for option in ("vqvae", "pixelcnn"):
            self.words += [f"--{option}", str(jobs.configs[option]), f"--{option}-args", "--train.max_steps 30"]

    def submit(self, *words: str) -> str:
        """Run slurm/pipeline.sh; return its output."""
        command = [PIPELINE, *words, *self.words, "demo", str(self.out)]
        return self.jobs.cluster.run(*command, env=self.environment).stdout

    def job(self, stage: str) -> str:
        return (self.out / "jobs" / stage).read_text().split()[0]

    def log(self, stage: str) -> str:
        return self.jobs.log(self.job(stage))

    def finish(self) -> None:
        for stage in STAGES:
            state = self.jobs.finish(self.job(stage))
            assert state == "COMPLETED", f"{stage}: {state}\n{self.log(stage)}"

    def results(self) -> dict[str, Any]:
        """Return the reports and the number of samples per split."""
        figures: dict[str, Any] = {
            name: json.loads((self.out / f"evaluate-{name}.json").read_text()) for name in ("vqvae", "pixelcnn")
        }
        for part in ("slices", "codes"):
            shards = json.loads((self.out / part / "dataset.json").read_text())["splits"]
            figures[part] = {name: split["samples"] for name, split in shards.items()}
        return figures


def test_in_one_go_then_again(jobs: Jobs) -> None:
    chain = Chain(jobs, "chain", VQDIST_SCRATCH="/mnt/scratch")
    shown = chain.submit("--dry-run")  # on stderr: the settings of the site, and a table of the checks
    assert [line.split(":")[0] for line in shown.splitlines()] == list(STAGES)
    (encode,) = (line for line in shown.splitlines() if line.startswith("encode:"))
    assert encode.endswith("--views 4 --shift 4")  # the default of the recommended prior
    assert not (chain.out / "jobs/shard").exists()
    chain.submit()
    assert "queued or running" in chain.submit()
    chain.finish()
    assert len(list((chain.out / "samples").glob("sample-*.png"))) == 64
    for stage in ("vqvae", "pixelcnn"):
        config = yaml.safe_load((chain.out / stage / "config.yaml").read_text())
        assert config["data"]["path"] == str(chain.out / {"vqvae": "slices", "pixelcnn": "codes"}[stage])
        assert f"are in /mnt/scratch/vqdist-{chain.job(stage)}" in chain.log(stage)
        assert (
            f"read from /mnt/scratch/vqdist-{chain.job(stage)}" in (chain.out / stage / "logs/rank-0.log").read_text()
        )
    assert not list(Path(f"/proc/{jobs.cluster.nodes['node1'].pid}/root/mnt/scratch").iterdir())
    assert chain.submit().splitlines() == [f"{stage}: done" for stage in STAGES]


def test_killed_in_every_stage(jobs: Jobs) -> None:
    chain = Chain(jobs, "chain", TEST_NODES="1")
    for together, waiting in ROUNDS:
        chain.submit()
        for stage in together:
            kill_in_the_middle(chain, stage)
            assert jobs.finish(chain.job(stage)) == "FAILED", chain.log(stage)
        for stage in waiting:
            assert jobs.finish(chain.job(stage)) == "CANCELLED"
            assert jobs.cluster.job(chain.job(stage))["Reason"] == "DependencyNeverSatisfied"
    chain.submit()
    chain.finish()
    for name in ("vqvae", "pixelcnn"):
        Run(chain.out / name).assert_exact_ledger()
    figures = chain.results()
    slices, codes = figures["slices"], figures["codes"]
    assert codes == slices | {"train": 4 * slices["train"]}
    assert figures["pixelcnn"]["metrics"]["bits_per_code"]["mean"] < 5


def kill_in_the_middle(chain: Chain, stage: str) -> None:
    """Kill a rank of the job of a stage: after some steps of training, or once the command runs."""
    jobs, job = chain.jobs, chain.job(stage)
    jobs.cluster.wait(job, PATIENCE_S, ("RUNNING",))
    if stage in {"vqvae", "pixelcnn"}:
        jobs.wait_step(job, Run(chain.out / stage), 5)
    os.kill(poll(lambda: find_rank(jobs, job), PATIENCE_S, f"a rank of {stage}"), signal.SIGKILL)


def find_rank(jobs: Jobs, job: str) -> int | None:
    """Return the PID of a process of a job that runs a command of the package."""
    for node in jobs.cluster.nodes.values():
        for pid in node.processes():
            words, variables = read_words(pid, "cmdline"), read_words(pid, "environ")
            of_package = words[1:2] == [b"-m"] and words[2].startswith(b"vqdist.") and b"vqdist.doctor" not in words
            if of_package and f"SLURM_JOB_ID={job}".encode() in variables:
                return pid
    return None


def read_words(pid: int, name: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    except OSError:  # the process has ended
        return []
