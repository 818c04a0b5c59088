"""Whether W&B is used online: the configured mode, an API key, and a server that answers."""

import http.client
import netrc
import os
import shlex
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from vqdist.foundation.errors import ConfigError

Mode = Literal["auto", "online", "offline", "disabled"]
ANSWER_LIMIT_S = 10.0
SYNC_SCRIPT = Path(__file__).parents[2] / "launch" / "wandb_sync.sh"  # not part of an installed wheel
_MODES: dict[str, Mode] = {"auto": "auto", "online": "online", "offline": "offline", "disabled": "disabled"}
_MODES |= {"run": "online", "dryrun": "offline"}  # other names that WANDB_MODE may have


def resolve_mode(flag: str | None, environ: Mapping[str, str], file: str | None) -> Mode:
    """Return the mode: `--tracking.mode` beats WANDB_MODE, which beats the configuration file; each may be absent.

    Raises:
        ConfigError: the value that wins is not a mode.
    """
    is_disabled = environ.get("WANDB_DISABLED", "").lower() in {"true", "1"}
    env = "disabled" if is_disabled else environ.get("WANDB_MODE") or None
    for where, value in (("tracking.mode", flag), ("WANDB_MODE", env), ("tracking.mode", file)):
        if value in _MODES:
            return _MODES[value]
        if value is not None:
            raise ConfigError.of(where, repr(value), "auto, online, offline or disabled")
    return "auto"


def find_obstacle() -> str | None:
    """Return why W&B cannot be used online; None if it can."""
    url = find_server_url()
    if not has_key(url, os.environ):
        return f"no API key for {url}, `wandb login` stores one"
    reason = probe_server(url, ANSWER_LIMIT_S)
    return f"{url} does not answer ({reason})" if reason else None


def propose_sync(run_dir: Path) -> str:
    """Return the command that sends the rest of a run: the repository's script if installed, else W&B's own."""
    run = shlex.quote(str(run_dir))
    if not SYNC_SCRIPT.is_file():
        return f"wandb sync --include-online {run}/wandb/*run-*"
    script = SYNC_SCRIPT.relative_to(Path.cwd()) if SYNC_SCRIPT.is_relative_to(Path.cwd()) else SYNC_SCRIPT
    return f"bash {shlex.quote(str(script))} {run}"


def find_server_url() -> str:
    """Return the URL of the W&B server, from the environment or from W&B's settings file."""
    if os.environ.get("WANDB_BASE_URL"):
        return os.environ["WANDB_BASE_URL"]
    import wandb

    return str(wandb.setup().settings.base_url)


def has_key(url: str, environ: Mapping[str, str]) -> bool:
    """Return whether the environment or netrc has an API key for the server."""
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        hosts = netrc.netrc(environ.get("NETRC") or str(Path.home() / ".netrc")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    host = urllib.parse.urlsplit(url).netloc
    # W&B's own server has several names; `wandb login` stores the key under one of them.
    return host in hosts or (host.endswith((".wandb.ai", ".coreweave.com")) and "api.wandb.ai" in hosts)


def probe_server(url: str, limit_s: float) -> str:
    """Return why the server does not answer within `limit_s` seconds, empty if it does; any HTTP status is an answer."""
    try:
        urllib.request.urlopen(url, timeout=limit_s).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error))
    return ""
