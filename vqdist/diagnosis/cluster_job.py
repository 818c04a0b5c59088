"""Checks of the job around a run: the address of rank 0, the limits of Slurm, the W&B server."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping

from vqdist.config.schema import RunConfig
from vqdist.config.tracking_mode import resolve_mode
from vqdist.diagnosis.check import Check, checks_from_problems
from vqdist.diagnosis.wandb_server import ANSWER_LIMIT_S, find_server_url, has_key, probe_server
from vqdist.foundation.errors import ConfigError
from vqdist.tracking.tracker import describe_offline


def check_rendezvous(environ: Mapping[str, str] = os.environ) -> Check:
    """Check that MASTER_ADDR resolves; otherwise the ranks would wait for each other until the timeout."""
    name, host = "rendezvous", environ.get("MASTER_ADDR")
    if host is None:
        return Check(name, "ok", "MASTER_ADDR is not set: the launcher sets it, a single process does not need it")
    if environ.get("WORLD_SIZE") == "1":
        return Check(name, "ok", "one process: MASTER_ADDR is not used")
    try:
        address = str(socket.getaddrinfo(host, None)[0][4][0])
    except socket.gaierror as error:
        return Check(
            name,
            "fix",
            f"MASTER_ADDR {host!r} does not resolve: {error.strerror}",
            "set MASTER_ADDR to the host name of rank 0",
        )
    nodes = int(environ.get("SLURM_JOB_NUM_NODES", "1"))
    found = f"{host} is {address}, port {environ.get('MASTER_PORT', 'not set')}"
    if nodes > 1 and address.startswith("127.") and "GLOO_SOCKET_IFNAME" not in environ:
        fix = "set GLOO_SOCKET_IFNAME, as launch/rank.sh does: otherwise gloo uses the loopback interface"
        return Check(name, "note", found, fix)
    return Check(name, "ok", found)


def check_slurm(environ: Mapping[str, str] = os.environ) -> Check:
    """Read the limits of the Slurm job. `figures` has time_limit_s if there is a limit."""
    name, job = "Slurm", environ.get("SLURM_JOB_ID")
    if job is None:
        return Check(name, "ok", "not installed" if shutil.which("sbatch") is None else "not inside a job")
    fields = _show_job(job)
    if fields is None:
        return Check(
            name,
            "note",
            f"job {job}; scontrol does not answer",
            "make scontrol work on the first node: a requeue needs it",
        )
    limit = fields.get("TimeLimit", "unknown")
    limit_s = parse_time_limit(limit)
    figures = {} if limit_s is None else {"time_limit_s": float(limit_s)}
    attempt = int(fields.get("Restarts", 0)) + 1
    found = f"job {job} on {fields.get('NodeList', 'unknown nodes')}, time limit {limit}, attempt {attempt}"
    if fields.get("Requeue") == "0":
        return Check(
            name, "note", found, "submit with sbatch --requeue: otherwise the loss of a node ends the run", figures
        )
    return Check(name, "ok", found, figures=figures)


def _show_job(job: str) -> dict[str, str] | None:
    """Return the fields of `scontrol show job`, None if it fails."""
    try:
        answer = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(re.findall(r"(\S+?)=(\S*)", answer.stdout.splitlines()[0]))


def parse_time_limit(text: str) -> int | None:
    """Convert a time limit of Slurm, `D-HH:MM:SS`, to seconds; None if there is no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def check_tracking(flag: str | None, config: RunConfig, environ: Mapping[str, str] = os.environ) -> Check:
    """Check the W&B mode of the run and, if it is online, the API key and the server.

    Args:
        flag: `--tracking.mode` of the command line, which overrides the environment; None if not given.
    """
    name = "W&B"
    try:
        mode = resolve_mode(flag, environ, config.tracking.mode)
    except ConfigError as error:
        return checks_from_problems(name, error.problems)[0]
    if mode in {"disabled", "offline"}:
        return Check(name, "ok", f"{mode}, as configured")
    url = find_server_url()
    if not has_key(url, environ):
        missing = f"no API key for {url} (`wandb login` stores one)"
        return Check(name, "ok", describe_offline(missing, config.run_dir))
    if reason := probe_server(url, ANSWER_LIMIT_S):
        return Check(
            name,
            "note",
            describe_offline(f"no answer from {url} ({reason})", config.run_dir),
            "set HTTPS_PROXY, or pass --tracking.mode offline",
        )
    return Check(name, "ok", f"online, {url} answers")
