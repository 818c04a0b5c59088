"""Whether W&B can be reached: an API key, and a server that answers."""

import netrc
import os
import shlex
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

ANSWER_LIMIT_S = 10.0
SYNC_SCRIPT = Path(__file__).parents[2] / "launch" / "wandb_sync.sh"  # not there where a wheel is installed


def decide_mode(asked: str, run_dir: str, notify: Callable[[str], None]) -> Literal["online", "offline"]:
    """Return `online` or `offline`: online needs a key and a server that answers; why not is said in one line.

    Args:
        asked: auto, online or offline.
        run_dir: the run's directory, for the notice.
        notify: writes a line for the user.
    """
    later = f"tracked offline; `{propose_sync(run_dir)}` sends it from a machine that can"
    if asked == "offline":
        return "offline"
    url = find_server_url()
    if not has_key(url, os.environ):
        notify(f"W&B: no API key found, `wandb login` stores one; {later}")
        return "offline"
    reason = probe_server(url, ANSWER_LIMIT_S)
    if reason:
        notify(f"W&B: {url} does not answer ({reason}); {later}")
        return "offline"
    return "online"


def propose_sync(run_dir: str) -> str:
    """Return the command that sends what W&B lacks of a run: the repository's script, or else W&B's own."""
    run = shlex.quote(run_dir)
    if not SYNC_SCRIPT.is_file():
        return f"wandb sync --include-online {run}/wandb/*run-*"
    here = Path.cwd()
    script = SYNC_SCRIPT.relative_to(here) if SYNC_SCRIPT.is_relative_to(here) else SYNC_SCRIPT
    return f"bash {shlex.quote(str(script))} {run}"


def find_server_url() -> str:
    """Return the address of the W&B server: the environment's, or that of W&B's own settings file."""
    if os.environ.get("WANDB_BASE_URL"):
        return os.environ["WANDB_BASE_URL"]
    import wandb

    return str(wandb.setup().settings.base_url)


def has_key(url: str, environ: Mapping[str, str]) -> bool:
    """Tell whether there is an API key for the server, in the environment or in netrc."""
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = Path(environ.get("NETRC") or Path.home() / ".netrc")
    try:
        entries = netrc.netrc(str(path))
    except (OSError, netrc.NetrcParseError):
        return False
    host = urllib.parse.urlsplit(url).netloc
    # W&B's own server has several names; `wandb login` files the key under one of them.
    names = {host, "api.wandb.ai"} if host.endswith((".wandb.ai", ".coreweave.com")) else {host}
    return any(name in entries.hosts for name in names)


def probe_server(url: str, limit_s: float) -> str:
    """Return why the server does not answer in time, or an empty text if it does; any answer will do."""
    outcome: list[str] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=limit_s):
                outcome.append("")
        except urllib.error.HTTPError as answer:
            answer.close()
            outcome.append("")
        except (OSError, ValueError) as error:
            outcome.append(str(getattr(error, "reason", error)))

    # The timeout of a socket does not bound name look-up, so the thread does.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit_s)
    return outcome[0] if outcome else f"no answer within {limit_s:.0f} s"
