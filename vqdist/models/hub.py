"""Find the folder of a model by its name; download models from the Hugging Face hub into its cache.

The hub's own variables apply: HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from vqdist.foundation.errors import CheckpointError
from vqdist.foundation.model_names import (
    HUB_FORM,
    STARTER_FOLDER,
    VQVAE_FOLDER,
    VQVAE_PART,
    HubModel,
    is_hub_name,
    is_starter_name,
    parse_hub_name,
    show_model_name,
)

MODEL_FILES = ("config.json", "model.safetensors")
CARD = "README.md"
LOGIN = "`hf auth login` or HF_TOKEN"
_HTTP_CLIENTS = {"httpx", "httpx2", "requests"}
_COMMIT = re.compile(r"[0-9a-f]{40}")


def locate_model(path: str | Path) -> Path:
    """Return the folder that a path or the name of a model refers to; a model on the hub is downloaded.

    Raises:
        CheckpointError: a name that refers to no model.
    """
    if is_starter_name(path):
        if not (STARTER_FOLDER / "config.json").is_file():
            expected = "a model: this installation contains no starter pair; `bash launch/starter.sh` trains one"
            raise CheckpointError.of(str(path), "nothing", expected)
        folder, has_part = STARTER_FOLDER, str(path).endswith(VQVAE_PART)
    elif is_hub_name(path):
        if (model := parse_hub_name(path)) is None:
            raise CheckpointError.of(show_model_name(path), "an incomplete name", HUB_FORM)
        folder, has_part = download_model(model), model.has_part
    else:
        return Path(path)
    return folder / VQVAE_FOLDER if has_part else folder


@cache  # within a process, a branch stays at the commit that was read first
def download_model(model: HubModel) -> Path:
    """Return the folder of a model on the hub in the local cache, downloaded unless it is there.

    A commit that is in the cache is used without a network, any other revision without one if HF_HUB_OFFLINE is set or
    the hub does not answer.

    Raises:
        CheckpointError: no such repository or revision, no permission, or no network and no copy in the cache.
    """
    with reporting_hub_errors(str(model)):
        return _find_cached(model) or _download(model)


def _download(model: HubModel) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [CARD, *MODEL_FILES, *(f"{VQVAE_FOLDER}/{name}" for name in MODEL_FILES)]
    return Path(snapshot_download(model.repository, revision=model.revision, allow_patterns=patterns))


def _find_cached(model: HubModel) -> Path | None:
    """Return the folder of a commit, which never changes, if the cache holds a complete model of it."""
    from huggingface_hub import try_to_load_from_cache

    if model.revision is None or _COMMIT.fullmatch(model.revision) is None:
        return None
    parts = ("", f"{VQVAE_FOLDER}/") if model.has_part else ("",)
    names = [part + name for part in parts for name in MODEL_FILES]
    found = [try_to_load_from_cache(model.repository, name, revision=model.revision) for name in names]
    if not all(isinstance(path, str) for path in found):
        return None
    return Path(str(found[0])).parent


@contextmanager
def reporting_hub_errors(where: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub into a CheckpointError with exit code 2.

    Args:
        where: name of the repository in the error.
    """
    from huggingface_hub import errors

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings repeat what is reported here
    try:
        yield
    except errors.GatedRepoError as error:
        expected = f"one whose terms you have accepted on its page; then {LOGIN}"
        raise CheckpointError.of(where, "a gated repository", expected) from error
    except errors.RepositoryNotFoundError as error:
        found = "no such repository, or a private one that you may not read"
        raise CheckpointError.of(where, found, f"an existing one; for a private one {LOGIN}") from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError.of(where, "no such revision", "a branch, a tag or the hash of a commit") from error
    except errors.LocalTokenNotFoundError as error:
        raise CheckpointError.of(where, "no token", LOGIN) from error
    except errors.HfHubHTTPError as error:
        raise _describe_refusal(where, error) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError) as error:
        raise _describe_no_network(where) from error
    except Exception as error:
        if _is_network_error(error):
            raise _describe_no_network(where) from error
        if isinstance(error.__cause__, errors.HfHubHTTPError):  # of an upload
            raise _describe_refusal(where, error.__cause__) from error
        raise


def _is_network_error(error: BaseException | None) -> bool:
    """Return whether an error, or a cause of it, is one of the HTTP client, which differs with the hub's version."""
    while error is not None and type(error).__module__.partition(".")[0] not in _HTTP_CLIENTS:
        error = error.__cause__
    return error is not None


def _describe_no_network(where: str) -> CheckpointError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        found, way_out = "HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE, or run the command once where there is a network"
    else:
        found, way_out = f"no answer from {constants.ENDPOINT}", "a network; HF_HUB_OFFLINE=1 uses the cache alone"
    return CheckpointError.of(where, f"{found}, and no complete copy in {constants.HF_HUB_CACHE}", way_out)


def _describe_refusal(where: str, error: OSError) -> CheckpointError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        expected = f"a token that may do this: {LOGIN}"
        return CheckpointError.of(where, f"no permission (HTTP {status})", expected)
    message = " ".join(str(error).split())
    return CheckpointError.of(where, f"HTTP {status}: {message[:200]}", "an answer of the hub; try again later")
