"""The job around a run: Slurm's limits, the way to the first node, W&B."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping

from vqdist.config.schema import RunConfig
from vqdist.config.tracking_mode import resolve_mode
from vqdist.diagnosis.report import Check, of_problems
from vqdist.diagnosis.wandb_server import ANSWER_LIMIT_S, find_server_url, has_key, probe_server
from vqdist.foundation.errors import ConfigError


def check_main_address(environ: Mapping[str, str] = os.environ) -> Check:
    """See that the address where the ranks will meet resolves; one that does not hangs them in silence."""
    name, host = "meeting point", environ.get("MASTER_ADDR")
    if host is None:
        return Check(name, "ok", "none set: the launcher will, or one process needs none")
    try:
        address = socket.getaddrinfo(host, None)[0][4][0]
    except socket.gaierror as error:
        return Check(name, "mend", f"MASTER_ADDR {host!r} does not resolve: {error.strerror}", "a host of the job")
    nodes = int(environ.get("SLURM_JOB_NUM_NODES", "1"))
    found = f"{host} is {address}, port {environ.get('MASTER_PORT', 'not set')}"
    if nodes > 1 and str(address).startswith("127.") and "GLOO_SOCKET_IFNAME" not in environ:
        return Check(name, "note", found, "GLOO_SOCKET_IFNAME, as launch/rank.sh sets it: gloo would take the loopback")
    return Check(name, "ok", found)


def check_slurm(environ: Mapping[str, str] = os.environ) -> Check:
    """Read the job's limits; figures: time_limit_s, none where there is no limit."""
    name, job = "Slurm", environ.get("SLURM_JOB_ID")
    if job is None:
        there = shutil.which("sbatch") is not None
        return Check(name, "ok", "not inside a job" if there else "not here")
    facts = _show_job(job)
    if facts is None:
        return Check(name, "note", f"job {job}; scontrol does not answer", "requeue needs scontrol on the first node")
    limit_s = parse_time(facts.get("TimeLimit", ""))
    figures = {} if limit_s is None else {"time_limit_s": float(limit_s)}
    limit = facts.get("TimeLimit", "unknown")
    found = f"job {job} on {facts.get('NodeList')}, time limit {limit}, start {int(facts.get('Restarts', 0)) + 1}"
    if facts.get("Requeue") == "0":
        return Check(name, "note", found, "sbatch --requeue, or a lost node ends the run", figures)
    return Check(name, "ok", found, figures=figures)


def _show_job(job: str) -> dict[str, str] | None:
    try:
        answer = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(re.findall(r"(\S+?)=(\S*)", answer.stdout.splitlines()[0]))


def parse_time(text: str) -> int | None:
    """Return the seconds of Slurm's `D-HH:MM:SS`; None for no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def check_tracking(flag: str | None, config: RunConfig, environ: Mapping[str, str] = os.environ) -> Check:
    """Say what W&B will do with this run, and wait for its server if the run would use it.

    Args:
        flag: `--tracking.mode` of the command line, which beats the environment; None where it is not given.
    """
    name = "W&B"
    try:
        asked = resolve_mode(flag, environ, config.tracking.mode)
    except ConfigError as error:
        return of_problems(name, error.problems, "")[0]
    if asked in {"disabled", "offline"}:
        return Check(name, "ok", f"{asked}, as asked")
    url = find_server_url()
    if not has_key(url, environ):
        return Check(name, "note", "no API key: offline", "`wandb login`, or --tracking.mode offline")
    reason = probe_server(url, ANSWER_LIMIT_S)
    if reason:
        return Check(name, "note", f"{url} does not answer ({reason}): offline", "a proxy, or --tracking.mode offline")
    return Check(name, "ok", f"online, {url} answers")
