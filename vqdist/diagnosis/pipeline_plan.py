"""Check the jobs of slurm/pipeline.sh before they are submitted: python -m vqdist.diagnosis.pipeline_plan OUT <CHAIN.

CHAIN has a line per stage, as `slurm/pipeline.sh --dry-run` prints it: the name, then a call of sbatch with its flags,
the batch script and the arguments of the command. What earlier stages will write to OUT may be missing. A table goes to
stderr. Exit codes: 0 every stage can be submitted; 2 not, with what to fix.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vqdist.config.command_line import Options, parse_options
from vqdist.config.command_options import EncodeOptions, EvaluateOptions, SampleOptions, TrainOptions
from vqdist.config.loading import load_config
from vqdist.config.shard_options import ShardOptions
from vqdist.config.slice_options import CompleteOptions, ScoreOptions
from vqdist.data.sources.shard_source import find_source_problems
from vqdist.diagnosis.all_checks import run_preflight_checks
from vqdist.diagnosis.check import Check, checks_from_problems, is_ready, print_as_they_end
from vqdist.foundation.atomic_files import find_output_problems
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import Problem

COMMANDS: dict[str, type[Options]] = {
    "shard": ShardOptions,
    "encode": EncodeOptions,
    "evaluate": EvaluateOptions,
    "sample": SampleOptions,
    "complete": CompleteOptions,
    "score": ScoreOptions,
}
_NOT_READ = {"out", "figures"}  # options that name no input


@dataclass(frozen=True)
class Stage:
    """One job of the chain.

    Attributes:
        flags: the flags of sbatch.
        command: train, or another command of vqdist.
        arguments: the words after the command.
    """

    name: str
    flags: list[str]
    command: str
    arguments: list[str]


def parse_stage(line: str) -> Stage | None:
    """Return the stage of a line of the chain; None if it is done or queued and will not be submitted."""
    name, _, text = line.partition(": ")
    words = shlex.split(text)
    script = next((index for index, word in enumerate(words) if word.endswith(".sbatch")), None)
    if script is None or "sbatch" not in words:
        return None
    flags, rest = words[words.index("sbatch") + 1 : script], words[script + 1 :]
    if words[script].endswith("train.sbatch"):
        return Stage(name, flags, "train", rest)
    return Stage(name, flags, rest[0].removeprefix("vqdist."), rest[1:])


def count_ranks(flags: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of ranks that a job with these flags of sbatch will have, as slurm/job.sh starts them."""
    nodes = _last_number(flags, r"--nodes|-N") or 1
    if tasks := _last_number(flags, r"--ntasks|-n"):
        return tasks
    per_node = _last_number(flags, r"--ntasks-per-node")
    per_node = per_node or _last_number(flags, r"--gpus-per-node") or _last_number(flags, r"--gres", prefix="gpu")
    total = _last_number(flags, r"--gpus|-G")
    if not per_node and total:
        return total
    for name, prefix in (("SBATCH_GPUS_PER_NODE", ""), ("SBATCH_GRES", "gpu")):
        per_node = per_node or _last_number([f"{name}={environ.get(name, '')}"], name, prefix=prefix)
    return nodes * per_node if per_node else (_last_number([f"-G={environ.get('SBATCH_GPUS', '')}"], "-G") or nodes)


def _last_number(flags: Sequence[str], names: str, *, prefix: str = "") -> int:
    """Return the number that a flag gives last, 0 without it: `-N 2`, `-N2`, `--nodes=2-4`, `--gres=gpu:a100:4`."""
    found = re.findall(rf"(?:^| )(?:{names})[ =]?({prefix}[\w:.-]*)(?= |$)", " ".join(flags))
    numbers = re.findall(r"(?:^|:)(\d+)", found[-1]) if found else []
    return int(numbers[-1]) if numbers else 0


def check_train(stage: Stage, planned: Sequence[Path]) -> list[Check]:
    """Check the configuration, the run directory, the data and the number of ranks of a training stage."""
    parsed = parse_options("train", "", TrainOptions, stage.arguments, takes_config=True)
    config, problems = load_config(parsed.options.config if parsed.options else None, parsed.keys)
    problems = parsed.problems + problems
    if config is None or problems:
        return checks_from_problems("configuration", problems)
    ranks = count_ranks(stage.flags)
    checks = run_preflight_checks(config, planned=planned, world_size=ranks)
    return [Check("configuration", "ok", f"valid, ranks: {ranks}"), *checks]


def check_command(stage: Stage, out: Path) -> list[Check]:
    """Check the options of another command, and that its inputs are there or will be written to OUT."""
    if (kind := COMMANDS.get(stage.command)) is None:  # a command that checks itself within seconds
        return [Check("arguments", "ok", f"not checked, of vqdist.{stage.command}")]
    parsed = parse_options(stage.command, "", kind, stage.arguments)
    problems = list(parsed.problems)
    if isinstance(parsed.options, ShardOptions):
        problems += find_output_problems(
            f"OUT {parsed.options.out}", parsed.options.out, overwrite=parsed.options.overwrite
        )
        problems += find_source_problems(parsed.options)
    for name in kind.model_fields if parsed.options is not None else ():
        value = getattr(parsed.options, name)
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path) and name not in _NOT_READ and not path.is_relative_to(out) and not path.exists():
                problems.append(Problem(f"--{name}", f"{path}, which does not exist", "an existing file or folder"))
    return checks_from_problems("arguments", problems) or [Check("arguments", "ok", "valid")]


def check_stage(stage: Stage, out: Path) -> list[Check]:
    """Return what to fix in a stage; one line that it is ready if there is nothing."""
    planned = [path for path in (out / "slices", out / "codes") if not (path / "dataset.json").exists()]
    checks = check_train(stage, planned) if stage.command == "train" else check_command(stage, out)
    wrong = [check for check in checks if check.state == "fix"]
    to_fix = [replace(check, name=stage.name, found=f"{check.name}: {check.found}") for check in wrong]
    return to_fix or [Check(stage.name, "ok", "; ".join(check.found for check in checks[:3]))]


def main(argv: Sequence[str]) -> int:
    """Check the chain on stdin; return the exit code."""
    stages = [stage for line in sys.stdin if (stage := parse_stage(line.strip())) is not None]
    found = (check for stage in stages for check in check_stage(stage, Path(argv[0])))
    checks = print_as_they_end(found, name_columns=max((len(stage.name) for stage in stages), default=0))
    return 0 if is_ready(checks) else 2


if __name__ == "__main__":
    sys.exit(run_command(main))
