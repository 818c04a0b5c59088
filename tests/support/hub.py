"""The Hugging Face hub in tests: a server on the loopback, an empty cache and no token of the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer

from vqdist.models.hub import download_model


@contextmanager
def running_hub(folder: Path, *, token: str | None = TOKEN) -> Iterator[HubServer]:
    """Yield a server to which huggingface_hub leads in this process, with a cache in a folder."""
    with HubServer() as server, pytest.MonkeyPatch.context() as patch:
        leave_hub(patch, folder, url=server.url)
        if token is not None:
            patch.setenv("HF_TOKEN", token)
        yield server


def leave_hub(patch: pytest.MonkeyPatch, folder: Path, *, url: str = "http://127.0.0.1:9") -> None:
    """Lead huggingface_hub to a URL without a token; by default nothing answers there."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        patch.delenv(name, raising=False)
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    download_model.cache_clear()
