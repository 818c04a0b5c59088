"""The scripts of launch/ and slurm/ without a cluster: help, GPUs, submission, variables of outer jobs, dry runs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from shard_server import wait_for

ROOT = Path(__file__).parents[1]
NAMES = ("demo", "gpu_check", "node", "rank", "results", "wandb_sync")
SCRIPTS = (*(f"launch/{name}.sh" for name in NAMES), "slurm/submit.sh")
# The record of a job of two nodes without options, as scontrol prints it.
RECORD = (
    "JobId=7 JobName=it Requeue=1 Restarts=0 NumNodes=2 NumCPUs=2 NumTasks=2 CPUs/Task=1 NtasksPerN:B:S:C=0:0:*:* "
    "JOB_GRES=(null)   Nodes=node[1-2] CPU_IDs=0 Mem=0 GRES= MinCPUsNode=1 MinMemoryNode=0 Command=(null)"
)
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_TASKS_PER_NODE": "1(x2)", "SLURM_PROCID": "0"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEPID": "0", "SLURM_SRUN_COMM_HOST": "host"}


def bash(
    script: str, *arguments: object, path: Path | None = None, cwd: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script text with few variables and a PATH that begins with a folder of stand-ins."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ} | variables
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script, "bash", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment, check=False)


def add_program(folder: Path, name: str, text: str) -> Path:
    """Write an executable stand-in; return its folder."""
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("name", [*SCRIPTS, "slurm/pipeline.sh"])
def test_help_prints_the_comment_of_the_script(name: str) -> None:
    result = bash('exec bash "$1" --help', ROOT / name)
    assert (result.returncode, result.stderr) == (0, "")
    lines = (ROOT / name).read_text().splitlines()
    first_code = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    comment = [line.removeprefix("#").removeprefix(" ") for line in lines[1:first_code] if "shellcheck" not in line]
    assert result.stdout.splitlines() == comment
    assert max(map(len, comment)) <= 120


def test_help_of_the_pipeline_is_printed_after_other_options() -> None:
    result = bash("exec slurm/pipeline.sh --dry-run --help")
    assert (result.returncode, result.stdout.splitlines()[0].split()[0]) == (0, "Submits")


HAS_GPU = 'source launch/network.sh; if has_gpu "$@"; then echo yes; else echo no; fi'


def test_gpus_are_found_however_many_lines_nvidia_smi_prints(tmp_path: Path) -> None:
    devices = tmp_path / "dev"
    devices.mkdir()
    smi = add_program(tmp_path, "nvidia-smi", 'for i in {1..20000}; do echo "GPU $i: a card (UUID: GPU-$i)"; done')
    assert bash(HAS_GPU, devices, path=smi).stdout == "yes\n"
    assert bash(HAS_GPU, devices, path=smi, CUDA_VISIBLE_DEVICES="").stdout == "no\n"
    assert bash(HAS_GPU, devices, path=smi, CUDA_VISIBLE_DEVICES="-1").stdout == "no\n"
    (devices / "nvidiactl").touch()
    add_program(tmp_path, "nvidia-smi", 'echo "No devices were found"; exit 6')
    assert bash(HAS_GPU, devices, path=smi).stdout == "no\n"


def test_gpus_are_found_without_nvidia_smi(tmp_path: Path) -> None:
    hidden = 'command() { [[ $2 != nvidia-smi ]] && builtin command "$@"; }; ' + HAS_GPU
    assert bash(hidden, tmp_path).stdout == "no\n"
    for name in ("nvidiactl", "kfd"):
        (tmp_path / name).touch()
        assert bash(hidden, tmp_path).stdout == "yes\n"
        (tmp_path / name).unlink()


@pytest.mark.parametrize("name", ["train", "command", "sweep"])
def test_a_batch_script_that_does_not_know_its_path_says_how_to_submit_it(name: str, tmp_path: Path) -> None:
    add_program(tmp_path, "scontrol", 'echo "JobId=7 JobName=wrap"; echo "   Command=(null)"')
    script = f"exec bash slurm/{name}.sbatch --config vqvae_debug"
    for variables in ({"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "7", "VQDIST_HOME": str(tmp_path)}, {}):
        result = bash(script, path=tmp_path, **variables)
        assert result.returncode == 2
        assert f"slurm/{name}.sbatch" in result.stderr
        assert "[OPTION ...]" in result.stderr
        assert "VQDIST_HOME" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_batch_script_outside_a_job_says_so(tmp_path: Path) -> None:
    result = bash("exec bash slurm/train.sbatch", VQDIST_HOME=str(ROOT))
    assert (result.returncode, result.stderr.split(";")[0]) == (2, "error: SLURM_JOB_ID: found none")


def clear(folder: Path, record: str, **variables: str) -> tuple[set[str], str]:
    """Clear the variables of an outer job; return the SLURM_* variables that are left, and the notice."""
    add_program(folder, "scontrol", f"cat <<'END'\nJobId=70 NumTasks=99\n{record}\nEND")
    script = "source slurm/outer_job.sh; clear_outer_job; describe_cleared >&2; compgen -A export SLURM_ || true"
    result = bash(script, path=folder, **(JOB | variables))
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split()) - JOB.keys(), result.stderr.strip()


def test_the_variables_of_a_job_itself_are_kept(tmp_path: Path) -> None:
    record = RECORD.replace("NumTasks=2 CPUs/Task=1 NtasksPerN:B:S:C=0", "NumTasks=4 CPUs/Task=3 NtasksPerN:B:S:C=2")
    record = record.replace("MinMemoryNode=0", "MinMemoryNode=500M") + " TresPerNode=gres:gpu:2 CpusPerTres=gres:gpu:2"
    own = {"SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_CPUS_PER_TASK": "3"}
    own |= {
        "SLURM_MEM_PER_NODE": "500",
        "SLURM_GPUS_PER_NODE": "2",
        "SLURM_CPUS_PER_GPU": "2",
        "SLURM_GPUS_ON_NODE": "2",
    }
    assert clear(tmp_path, record, **own) == (own.keys(), "")
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_RESTART_COUNT": "3"}
    record = RECORD.replace("JobName", "ArrayJobId=7 ArrayTaskId=1 JobName").replace("Restarts=0", "Restarts=3")
    assert clear(tmp_path, record, **array) == (array.keys(), "")


@pytest.mark.parametrize(
    "outer",
    [
        STEP | {"SLURM_NTASKS": "1", "SLURM_NPROCS": "1", "SLURM_DISTRIBUTION": "cyclic", "SLURM_CPU_BIND": "quiet"},
        {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "8", "SLURM_CPUS_PER_TASK": "4"},
        {"SLURM_MEM_PER_CPU": "50", "SLURM_MEM_PER_NODE": "100", "SLURM_MEM_PER_GPU": "7"},
        {"SLURM_GPUS": "1", "SLURM_GPUS_PER_NODE": "1", "SLURM_CPUS_PER_GPU": "4", "SLURM_GPUS_ON_NODE": "4"},
        {"SLURM_ARRAY_JOB_ID": "3", "SLURM_ARRAY_TASK_ID": "2", "SLURM_HET_SIZE": "2"},
        {"OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "1", "PMI_SIZE": "4"},
    ],
)
def test_variables_of_an_outer_job_are_cleared_and_named(tmp_path: Path, outer: dict[str, str]) -> None:
    left, notice = clear(tmp_path, RECORD, **outer)
    assert left == set()
    named = [f"{name}={value}" for name, value in outer.items()]
    assert sum(text in notice for text in named) == min(len(outer), 5)
    assert notice.endswith(f"and {len(outer) - 5} more") == (len(outer) > 5)


def test_one_task_of_an_outer_job_does_not_leave_gpus_idle(tmp_path: Path) -> None:
    record = RECORD.replace("NumNodes=2", "NumNodes=1").replace("NumTasks=2", "NumTasks=1") + " TresPerNode=gres:gpu:4"
    job = {"SLURM_JOB_NUM_NODES": "1", "SLURM_TASKS_PER_NODE": "1", "SLURM_NTASKS": "1", "SLURM_GPUS_ON_NODE": "4"}
    assert clear(tmp_path, record, **job)[0] == {"SLURM_NTASKS", "SLURM_GPUS_ON_NODE"}, "perhaps requested"
    assert clear(tmp_path, record, **job, **STEP)[0] == {"SLURM_GPUS_ON_NODE"}


def test_the_attempt_is_counted_by_the_job_itself(tmp_path: Path) -> None:
    left, notice = clear(tmp_path, RECORD, SLURM_RESTART_COUNT="5")
    assert (left, notice) == ({"SLURM_RESTART_COUNT"}, "SLURM_RESTART_COUNT=5")


def test_without_an_answer_of_slurm_outer_variables_are_refused(tmp_path: Path) -> None:
    add_program(tmp_path, "scontrol", "exit 1")
    script = "source slurm/outer_job.sh; clear_outer_job"
    assert bash(script, path=tmp_path, **JOB).returncode == 0
    result = bash(script, path=tmp_path, **JOB, **STEP)
    assert result.returncode == 2
    assert "SLURM_STEP_ID" in result.stderr


@pytest.mark.parametrize(
    ("variables", "per_node", "flags"),
    [
        ({"SLURM_GPUS_PER_TASK": "1", "SLURM_GPU_BIND": "single:1"}, "4", "--gpus-per-node=4 -v"),
        ({"SLURM_TRES_PER_TASK": "cpu:2,gres:gpu:1"}, "4", "--gpus-per-node=4 -v"),
        ({"SLURM_TRES_PER_TASK": "cpu:2"}, "4", "-v SLURM_TRES_PER_TASK"),
        ({"SLURM_GPUS_PER_TASK": "1"}, "", "-v SLURM_GPUS_PER_TASK"),
        ({}, "4", "-v"),
    ],
)
@pytest.mark.parametrize("constrained", [True, False])
def test_tasks_share_the_gpus_of_their_node(
    variables: dict[str, str], per_node: str, flags: str, constrained: bool, tmp_path: Path
) -> None:
    """Without device cgroups --gpu-bind=none would show every GPU of the node, those of other jobs too."""
    add_program(tmp_path, "scontrol", f"echo 'ConstrainDevices        = {'yes' if constrained else 'no'}'")
    script = 'home=. SLURM_JOB_ID=7; source slurm/job.sh; run_flags=(-v); share_gpus "$1"'
    script += "; echo ${run_flags[*]} $(compgen -A export SLURM_ | grep -E 'PER_TASK|BIND')"
    result = bash(script, per_node, path=tmp_path, SLURM_GPUS_ON_NODE="4", **variables)
    if constrained:
        flags = flags.replace("=4", "=4 --gpu-bind=none")
    assert (result.stdout, result.stderr) == (f"{flags}\n", "")


def dry_run(*words: object, site: Path | str = "/dev/null", **variables: str) -> subprocess.CompletedProcess[str]:
    variables |= {"VQDIST_SITE": str(site), "VQDIST_PYTHON": sys.executable}
    return bash('exec slurm/pipeline.sh --dry-run "$@"', *words, **variables)


def test_a_dry_run_checks_every_stage_and_quotes_its_commands(tmp_path: Path) -> None:
    site = tmp_path / "site.sh"
    site.write_text(
        "export SBATCH_GPUS_PER_NODE=4 SBATCH_CPUS_PER_GPU=8 SBATCH_ACCOUNT='my project' SBATCH_GRES=gpu:4\n"
        "PIPELINE_TRAIN=(--nodes=2) PIPELINE_OTHER=(-t 60 --gpus-per-node 1 --gres=gpu:1 -G4)\n"
    )
    result = dry_run("--pixelcnn-args", "--data.global_batch_size 8", "demo", tmp_path / "o u", site=site)
    assert result.returncode == 0, result.stderr
    assert "SBATCH_ACCOUNT='my project'" in result.stderr
    assert "PIPELINE_TRAIN=(--nodes=2)" in result.stderr
    assert "vqvae              ok    valid, ranks: 8" in result.stderr
    table = [line for line in result.stderr.splitlines() if line.split()[1:2] == ["ok"]]
    assert {line.index(" ok ") for line in table} == {len("evaluate-pixelcnn") + 1}
    shard, vqvae, *others = result.stdout.splitlines()
    assert shard.startswith("shard: env -u SBATCH_CPUS_PER_GPU -u SBATCH_GPUS_PER_NODE -u SBATCH_GRES sbatch ")
    assert " -t 60 --nodes=1 " in shard
    assert "gpu" not in shard.partition(" sbatch ")[2]
    assert f"--data.path '{tmp_path / 'o u'}/slices'" in vqvae
    assert "--gpus-per-node 1" in others[0]
    assert not (tmp_path / "o u").exists()


def test_a_dry_run_lists_the_problems_of_all_stages(tmp_path: Path) -> None:
    words = ("--vqvae-args", "--optim.lrr 1", "--pixelcnn", tmp_path / "none.yaml", "--sample-args", "--nun 3")
    result = dry_run(*words, tmp_path / "nowhere", tmp_path / "out")
    assert result.returncode == 2
    for found in (
        "nowhere: no such folder",
        "optim.lrr: an unknown key",
        "none.yaml', which is not a file",
        "--nun: an unknown",
    ):
        assert found in result.stderr
    assert len(result.stdout.splitlines()) == 7


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--vqvae"], "--vqvae: found no value"),
        (["--unknown", "1", "demo"], "--unknown: found an unknown option"),
        (["demo"], "found 1 of the two arguments; expected SOURCE and OUT"),
        (["--shard-args", "'open", "demo", "out"], "--shard-args: found 'open; expected closed quotes"),
    ],
)
def test_wrong_usage_of_the_pipeline(words: list[str], found: str) -> None:
    result = dry_run(*words)
    assert result.returncode == 2
    assert f"pipeline.sh: error: {found}" in result.stderr


def test_an_interpreter_without_the_package_is_named(tmp_path: Path) -> None:
    python = add_program(tmp_path, "no-python", "exit 1") / "no-python"
    result = bash(
        'exec slurm/pipeline.sh --dry-run demo "$1"', tmp_path, VQDIST_SITE="/dev/null", VQDIST_PYTHON=str(python)
    )
    assert result.returncode == 2
    assert "expected the one of `bash launch/environment.sh`" in result.stderr


def test_the_problems_of_a_dry_run_are_last(tmp_path: Path) -> None:
    words = ("--vqvae-args", "--optim.lrr 1", "demo", tmp_path / "out")
    script = 'exec slurm/pipeline.sh --dry-run "$@" 2>&1'
    lines = bash(script, *words, VQDIST_SITE="/dev/null", VQDIST_PYTHON=sys.executable).stdout.splitlines()
    chain = [number for number, line in enumerate(lines) if " slurm/" in line or ".sbatch" in line]
    assert len(chain) == 7
    assert all("optim.lrr" in line or "sbatch" not in line for line in lines[max(chain) + 1 :])
    assert lines[-1] == "pipeline.sh: error: the stages cannot be submitted like this: see the table above"


@pytest.mark.parametrize(("words", "submits"), [((), False), (("--no-check",), True)])
def test_stages_are_checked_before_they_are_submitted(tmp_path: Path, words: tuple[str, ...], submits: bool) -> None:
    add_program(tmp_path, "sbatch", f"echo 7; echo \"$@\" >>'{tmp_path}/submitted'")
    add_program(tmp_path, "squeue", "true")
    words = (*words, "--vqvae-args", "--optim.lrr 1", "demo", str(tmp_path / "out"))
    variables = {"VQDIST_SITE": "/dev/null", "VQDIST_PYTHON": sys.executable}
    result = bash('exec slurm/pipeline.sh "$@"', *words, path=tmp_path, **variables)
    assert result.returncode == (0 if submits else 2)
    assert ("optim.lrr: an unknown key" in result.stderr) is not submits
    assert (tmp_path / "submitted").exists() is submits
    assert (tmp_path / "out").exists() is submits


SOURCE_JOB = "home=$PWD; source slurm/interpreter.sh; "


def test_code_of_the_site_runs_without_the_options_that_it_fails_under(tmp_path: Path) -> None:
    site = tmp_path / "site.sh"
    site.write_text(
        "export SEEN=file\n"
        'site_environment() { echo "to the log $UNSET_VARIABLE"; false; false | true; export SEEN="$SEEN function"; }\n'
        "[[ -d /nowhere ]] && :\n"
    )
    script = SOURCE_JOB + 'read_site; choose_interpreter; echo "$SEEN $- $(set -o | grep pipefail)"; echo "$UNSET"'
    result = bash(script, VQDIST_SITE=str(site))
    assert result.returncode == 1, "-u is set again"
    seen, kind, flags, _, pipefail = result.stdout.split()
    assert (seen, kind, pipefail) == ("file", "function", "on")
    assert {"e", "u"} <= set(flags)
    assert "to the log" in result.stderr
    assert "warning: source" in result.stderr, "the file ended with an exit code"


def test_the_environment_is_entered_on_each_node(tmp_path: Path) -> None:
    site = tmp_path / "site.sh"
    site.write_text(f"site_environment() {{ export GREETING=here; echo entered >>'{tmp_path}/log'; }}\n")
    command = "exec slurm/on_node.sh bash -c 'kill -USR1 $$; echo $GREETING $1' - there"
    result = bash(command, VQDIST_SITE=str(site))
    assert (result.returncode, result.stdout) == (0, "here there\n")
    assert (tmp_path / "log").read_text() == "entered\n"


def test_python_runs_inside_the_container_of_srun(tmp_path: Path) -> None:
    add_program(tmp_path, "srun", 'echo srun "$@"')
    add_program(tmp_path, "python", 'echo host "$@"')
    script = SOURCE_JOB + "read_site; choose_interpreter; run_module vqdist.doctor --preflight"
    options = {"VQDIST_SITE": "/nowhere", "VQDIST_SRUN": "--container-image=a.sqsh --container-mounts=/data"}
    inside = bash(script, path=tmp_path, SLURM_JOB_ID="7", **options).stdout.split()
    assert inside[0] == "srun"
    assert inside[-6:] == [*options["VQDIST_SRUN"].split(), "python", "-m", "vqdist.doctor", "--preflight"]
    assert bash(script, path=tmp_path, **options).stdout == "host -m vqdist.doctor --preflight\n"


def test_a_new_job_has_the_options_of_the_one_that_cannot_be_requeued(tmp_path: Path) -> None:
    record = (
        RECORD.replace("MinMemoryNode=0", "MinMemoryNode=500M")
        + " Partition=gpu Account=mine QOS=(null) TimeLimit=01:00:00 Features=a100 StdOut=/out/a-7.log"
    )
    add_program(tmp_path, "scontrol", f"cat <<'END'\n{record} TresPerNode=gres/gpu:a100:4\nEND")
    add_program(tmp_path, "sbatch", f"printf '%s\\n' \"$@\" >'{tmp_path}/call'; echo '8;cluster'")
    (tmp_path / "stage").write_text("7 \n")
    job = JOB | {"SLURM_NTASKS": "2", "SLURM_MEM_PER_NODE": "500", "VQDIST_JOB_FILE": str(tmp_path / "stage")}
    script = (
        "home=$PWD; source slurm/job.sh; mapfile -t options < <(list_options); submit_again s.sbatch --config 'a b'"
    )
    result = bash(script, path=tmp_path, **job)
    assert (result.returncode, result.stdout) == (0, "8\n"), result.stderr
    assert (tmp_path / "stage").read_text() == "8\n"
    words = (tmp_path / "call").read_text().splitlines()
    assert words[:3] == ["--parsable", "--dependency=afterany:7", "--open-mode=append"]
    assert words[-3:] == ["s.sbatch", "--config", "a b"]
    assert set(words[3:-3]) == {
        *("--partition=gpu", "--account=mine", "--time=01:00:00", "--constraint=a100", "--output=/out/a-7.log"),
        *("--job-name=it", "--gres=gpu:a100:4", "--ntasks=2", "--nodes=2", "--mem=500"),
    }
    add_program(tmp_path, "sbatch", "exit 1")
    assert bash(script, path=tmp_path, **job).returncode == 1


@pytest.mark.parametrize(
    ("words", "code", "found"),
    [
        (["slurm/train.sbatch", "--config", "vqvae_debug"], 0, ""),
        (["slurm/train.sbatch", "--config", "vqvae_debug", "--optim.lrr", "1"], 2, "optim.lrr: an unknown key"),
        (["--ntasks=99", "slurm/train.sbatch", "--config", "vqvae_debug"], 2, "99 ranks"),
        (["slurm/command.sbatch", "vqdist.score", "--priro", "x"], 2, "--priro: an unknown option"),
        (["--no-check", "slurm/train.sbatch", "--optim.lrr", "1"], 0, ""),
        (["--dry-run", "slurm/train.sbatch", "--run.name", "a'b"], 2, "run.name: "),
        (["slurm/nosuch.sbatch"], 2, "SCRIPT: found no file slurm/nosuch.sbatch"),
        (["vqdist.train"], 2, "SCRIPT: found none"),
    ],
)
def test_a_job_is_checked_and_submitted_with_the_settings_of_the_site(
    tmp_path: Path, words: list[str], code: int, found: str
) -> None:
    site = tmp_path / "site.sh"
    site.write_text("export SBATCH_ACCOUNT=mine\n")
    add_program(tmp_path, "sbatch", f'echo "$SBATCH_ACCOUNT $*" >{tmp_path}/call')
    variables = {"VQDIST_SITE": str(site), "VQDIST_PYTHON": sys.executable}
    result = bash('exec slurm/submit.sh "$@"', *words, path=tmp_path, **variables)
    assert result.returncode == code, result.stderr
    assert found in result.stderr
    given = [word for word in words if word != "--no-check"]
    assert ((tmp_path / "call").read_text() if code == 0 else None) == (
        f"mine {' '.join(given)}\n" if code == 0 else None
    )
    assert (tmp_path / "call").exists() is (code == 0)


def test_a_job_is_shown_without_submitting_it(tmp_path: Path) -> None:
    words = ["--dry-run", "--comment=a b", "slurm/train.sbatch", "--config", "vqvae_debug"]
    result = bash('exec slurm/submit.sh "$@"', *words, VQDIST_SITE="/nowhere", VQDIST_PYTHON=sys.executable)
    assert (result.returncode, result.stdout) == (0, "sbatch '--comment=a b' slurm/train.sbatch --config vqvae_debug\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_demo_passes_a_signal_on_and_says_how_to_continue(tmp_path: Path, number: int) -> None:
    """The package is replaced by a module that waits for SIGTERM and ends as a stopped run does.

    It ends before the script waits for it again: the exit code is that of the module, not that of the signal.
    """
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    wait_in_kill = 'kill() { builtin kill "$@" || return; while builtin kill -0 "$child"; do sleep 0.1; done; }'
    (tmp_path / "launch" / "environment.sh").write_text(f'set -euo pipefail; cd "{tmp_path}"\n{wait_in_kill}\n')
    (tmp_path / "runs" / "demo-data").mkdir(parents=True)
    (tmp_path / "runs" / "demo-data" / "dataset.json").write_text('{"attributes": {}}')
    package = tmp_path / "package" / "vqdist"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "train.py").write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "pathlib.Path('started').touch()\n"
        "while True: time.sleep(0.05)\n"
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(package.parent)}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # bash cannot trap what is ignored when it starts
    demo = subprocess.Popen(
        ["bash", tmp_path / "launch" / "demo.sh"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, before)
    wait_for((tmp_path / "started").exists)
    demo.send_signal(number)
    _, stderr = demo.communicate(timeout=120)
    assert demo.returncode == 75
    assert "demo.sh: vqdist.train stopped with a checkpoint (exit code 75); run demo.sh again: it skips" in stderr
