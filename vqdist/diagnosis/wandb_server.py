"""Whether W&B can be used online from here: an API key, and a server that answers."""

import http.client
import netrc
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

ANSWER_LIMIT_S = 10.0


def find_obstacle() -> str | None:
    """Return why W&B cannot be used online, None if it can."""
    url = find_server_url()
    if not has_key(url, os.environ):
        return f"W&B: found no API key for {url}; expected WANDB_API_KEY or a key stored by `wandb login`"
    reason = probe_server(url, ANSWER_LIMIT_S)
    return f"W&B: found no answer from {url} ({reason}); expected a server that can be reached" if reason else None


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
    """Return why the server does not answer, empty if it does. Any HTTP status is an answer.

    Args:
        url: the URL of the server.
        limit_s: how long to wait for the connection and for each part of the answer, in seconds.
    """
    try:
        urllib.request.urlopen(url, timeout=limit_s).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error))
    return ""
