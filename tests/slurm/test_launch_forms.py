"""All launch forms give the run of a single process; unresolvable hosts, used ports, wrong configurations."""

import json
import math
import re
import subprocess
import sys

import pytest
from slurm_jobs import PATIENCE_S, ROOT, TRAIN, Jobs, Run

TWO_BY_TWO = "--nodes=2 --ntasks-per-node=2"


@pytest.mark.parametrize("form", ["rank", "accelerate"])
@pytest.mark.parametrize("stage", ["vqvae", pytest.param("pixelcnn", marks=pytest.mark.long)])
def test_two_nodes_train_as_one_process(jobs: Jobs, stage: str, form: str) -> None:
    job, run = jobs.train(stage, flags=TWO_BY_TWO, VQDIST_LAUNCH=form)
    jobs.assert_completed(job)
    run.assert_exact_ledger()
    run.assert_same_as(jobs.undisturbed(stage))
    assert len(list((run.path / "ledger").iterdir())) == 4
    for rank in range(4):
        assert f"rank {rank} of 4 on node{1 + rank // 2}, attempt 1: vqdist.train" in run.log(rank)


def test_two_machines_by_hand(jobs: Jobs) -> None:
    started = []
    for number, name in enumerate(("node3", "node4")):
        variables = [f"NODE={number}", "NODES=2", "RANKS=1", "MASTER_ADDR=node3", f"PYTHONPATH={ROOT}"]
        node = jobs.cluster.nodes[name]
        command = node.enter("env", *variables, str(ROOT / "launch/node.sh"), "vqdist.train", *jobs.words("vqvae"))
        with (jobs.folder / f"{name}.log").open("w") as log:
            environment = jobs.cluster.environment
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    codes = [process.wait(timeout=PATIENCE_S) for process in started]
    assert codes == [0, 0], (jobs.folder / "node3.log").read_text()
    Run(jobs.folder / "it").assert_same_as(jobs.undisturbed("vqvae"))


def test_hosts_whose_own_name_is_the_loopback(jobs: Jobs) -> None:
    for name in ("node1", "node2"):
        jobs.cluster.write_hosts(name, f"127.0.1.1 {name}")
    try:
        flags = "--nodes=2 --ntasks-per-node=1 --nodelist=node[1-2]"
        job, run = jobs.train("vqvae", flags=flags, VQDIST_PREFLIGHT="full")
        jobs.assert_completed(job)
        run.assert_exact_ledger()
        assert "2 on 2 hosts joined" in run.log(0)
    finally:
        for name in ("node1", "node2"):
            jobs.cluster.write_hosts(name)


def test_first_node_that_does_not_resolve(jobs: Jobs) -> None:
    jobs.cluster.write_hosts("node2", unknown=["node1"])
    try:
        flags = "--nodes=2 --ntasks-per-node=1 --nodelist=node[1-2]"
        # The status of an earlier, stopped attempt must not be mistaken for the result of this one.
        (jobs.folder / "it").mkdir()
        (jobs.folder / "it/status.json").write_text('{"state": "stopped", "step": 3}')
        job, _ = jobs.train("vqvae", flags=flags)
        assert jobs.finish(job) == "FAILED"
        assert "failed: the last lines of the rank logs" in jobs.log(job)
        assert "MASTER_ADDR: found 'node1', which does not resolve on node2" in jobs.log(job)
    finally:
        jobs.cluster.write_hosts("node2")


# Prints what a rank is given in place of running it, and behaves like Python otherwise.
PROBE = """#!/bin/bash
[[ ${2:-} == probe ]] || exec PYTHON "$@"
place="${LOCAL_RANK:-0} of ${LOCAL_WORLD_SIZE:-1} on $(uname -n)"
echo "rank ${RANK:-0} of ${WORLD_SIZE:-1}: $place, GPUs $CUDA_VISIBLE_DEVICES"
"""
WARNING = "warning: ranks per node: found 1 for 4 GPUs, of which the others are idle; expected one per GPU"


@pytest.mark.parametrize("form", ["rank", "accelerate"])
def test_each_rank_sees_the_gpus_of_its_node(jobs: Jobs, form: str) -> None:
    """Whatever option requests the GPUs, no rank is bound to one of them, and idle GPUs are reported."""
    probe = jobs.folder / "probe"
    probe.write_text(PROBE.replace("PYTHON", sys.executable))
    probe.chmod(0o755)
    variables = {"VQDIST_PYTHON": str(probe), "VQDIST_LAUNCH": form}
    script = str(ROOT / "slurm/command.sbatch")
    cases = {
        "--nodes=2 --gpus-per-node=2 --cpus-per-gpu=2": (2, 2, "0,1"),
        "--nodes=2 --ntasks-per-node=2 --gpus-per-task=1": (2, 2, "0,1"),
        "--nodes=1 --ntasks-per-node=1 --gpus-per-node=4": (1, 1, "0,1,2,3"),
    }
    submitted = [(jobs.submit(script, "probe", flags=flags, **variables), case) for flags, case in cases.items()]
    for job, (nodes, per_node, gpus) in submitted:
        jobs.assert_completed(job)
        log = jobs.log(job)
        for rank in range(nodes * per_node):
            ranks = f"rank {rank} of {nodes * per_node}: {rank % per_node} of {per_node} on node"
            assert re.search(rf"{ranks}\d, GPUs {gpus}\n", log), log
        assert (WARNING in log) == (per_node == 1)


def test_two_jobs_on_the_same_nodes_and_a_taken_port(jobs: Jobs) -> None:
    where = "--nodes=2 --ntasks-per-node=1 --nodelist=node[1-2]"
    following = int(jobs.submit_nothing("--nodes=1")) + 1
    # A process on the first node already uses the port of the next job.
    port = 10000 + following % 2000 * 10
    listener = f"import socket, time; s = socket.create_server(('', {port})); time.sleep(600)"
    squatter = subprocess.Popen(jobs.cluster.nodes["node1"].enter(sys.executable, "-c", listener))
    try:
        pair = [jobs.train("vqvae", name=name, flags=where)[0] for name in ("first", "second")]
        for job in pair:
            jobs.assert_completed(job)
    finally:
        squatter.kill()
        squatter.wait()
    for name in ("first", "second"):
        Run(jobs.folder / name).assert_exact_ledger()


def test_wrong_configuration_starts_no_rank(jobs: Jobs) -> None:
    job, run = jobs.train("vqvae", "--train.max_stps", "3")
    assert jobs.finish(job) == "FAILED"
    assert jobs.cluster.job(job)["ExitCode"] == "2:0"
    assert "did you mean train.max_steps?" in jobs.log(job)
    assert not run.path.exists()


def test_doctor_in_an_allocation(jobs: Jobs) -> None:
    variables = {"PYTHONPATH": str(ROOT), "TMPDIR": "/tmp"}
    command = ["srun", "--nodes=2", "--ntasks-per-node=1", "--time=5", str(ROOT / "launch/rank.sh"), "vqdist.doctor"]
    environment = jobs.cluster.environment | variables
    result = jobs.cluster.run(
        *command, *jobs.words("vqvae"), "--train.max_steps", "100000", env=environment, timeout=PATIENCE_S
    )
    (line,) = result.stdout.splitlines()
    report = json.loads(line)
    assert report["ready"] is True
    found = {check["name"]: check["found"] for check in report["checks"]}
    assert found["ranks"].startswith("2 on 2 hosts joined")
    assert "time limit 00:05:00" in found["Slurm"]
    figures = report["figures"]
    assert figures["requeues"] == math.ceil(figures["wall_time_s"] / (300 - 180)) - 1
    assert figures["all_reduce_bytes_per_s"] > 0
    assert "estimate" in result.stderr


def test_sweep_over_an_array(jobs: Jobs) -> None:
    lines = [" ".join([*jobs.words("vqvae", name), "--train.max_steps 2"]) for name in ("first", "second")]
    sweep = jobs.folder / "sweep.txt"
    sweep.write_text("\n".join(lines) + "\n")
    job = jobs.submit(str(ROOT / "slurm/sweep.sbatch"), str(sweep), flags="--array=1-2")
    for task, name in ((1, "first"), (2, "second")):
        jobs.assert_completed(f"{job}_{task}")
        assert Run(jobs.folder / name).status == {"state": "finished", "step": 2, "ended_early": False}


def test_sbatch_inside_another_job(jobs: Jobs) -> None:
    """The variables of the outer job (one task, memory per CPU) reach the batch script, and must not change it."""
    outer = ["srun", "--ntasks=1", "--mem-per-cpu=50", "--time=5"]
    flags = ["--parsable", "--nodes=2", "--mem=100", f"--output={jobs.folder}/job-%j.log"]
    submitted = jobs.cluster.run(*outer, "sbatch", *flags, TRAIN, *jobs.words("vqvae")).stdout
    job = submitted.strip()
    jobs.assert_completed(job)
    assert "cleared variables of the job in which sbatch was called: " in jobs.log(job)
    run = Run(jobs.folder / "it")
    assert "rank 1 of 2 on" in run.log(1)
    run.assert_exact_ledger()


@pytest.mark.parametrize("way", ["stdin", "wrap"])
def test_a_job_script_without_its_path(jobs: Jobs, way: str) -> None:
    script = ROOT / "slurm/train.sbatch"
    flags = ["--parsable", f"--output={jobs.folder}/job-%j.log"]
    if way == "wrap":
        job = jobs.submit("--wrap", f"bash {script}")
    else:
        submit = f"sbatch {' '.join(flags)} <{script}"
        job = jobs.cluster.run("bash", "-c", submit).stdout.strip()
    assert jobs.finish(job) == "FAILED"
    assert jobs.cluster.job(job)["ExitCode"] == "2:0"
    assert "`sbatch [OPTION ...] slurm/train.sbatch --config FILE ...`" in jobs.log(job)
    assert "VQDIST_HOME" in jobs.log(job)
