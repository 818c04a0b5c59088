"""Where a model is published: a folder, or a repository on the Hugging Face hub."""

from collections.abc import Mapping
from pathlib import Path

from vqdist.config.publish_options import PublishOptions
from vqdist.foundation.atomic_files import find_output_problems, output_folder, reporting_storage_errors
from vqdist.foundation.errors import CheckpointError, Problem
from vqdist.foundation.model_names import HubModel
from vqdist.models.hub import LOGIN, reporting_hub_errors

_GIT_FILES = {".gitattributes", ".gitignore"}


def find_destination_problems(options: PublishOptions) -> list[Problem]:
    """Return why a model cannot be published there, as far as it is known without writing."""
    if options.hub is None:
        return find_output_problems(f"TARGET {options.target}", options.target, overwrite=options.overwrite)
    try:
        files = list_repository(options.hub)
    except CheckpointError as error:
        return error.problems
    if files and not options.overwrite:
        found = f"a repository with files, such as {files[0]}"
        return [Problem(str(options.hub), found, "an empty or new one, or --overwrite")]
    return []


def list_repository(model: HubModel) -> list[str]:
    """Return the files of a repository, none if it does not exist.

    Raises:
        CheckpointError: no token, no network, or no permission.
    """
    from huggingface_hub import HfApi, constants, errors, get_token

    if constants.HF_HUB_OFFLINE:
        raise CheckpointError.of(
            str(model), "HF_HUB_OFFLINE", "a network: unset HF_HUB_OFFLINE, or publish to a folder"
        )
    if get_token() is None:
        raise CheckpointError.of(str(model), "no token", f"one with write access: {LOGIN}; or publish to a folder")
    with reporting_hub_errors(str(model)):
        try:
            files = HfApi().list_repo_files(model.repository)
        except errors.RepositoryNotFoundError:
            return []
    return sorted(set(files) - _GIT_FILES)


def write_to_folder(folder: Path, contents: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Write the files of a published model to a folder, all or none."""
    with reporting_storage_errors(folder), output_folder(folder, overwrite=overwrite) as temporary:
        for name, content in contents.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)


def upload(model: HubModel, contents: Mapping[str, bytes], *, private: bool) -> str:
    """Upload the files of a published model as one commit; return its hash. Other files are removed.

    Raises:
        CheckpointError: no network, or no permission.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api, others = HfApi(), set(list_repository(model)) - contents.keys()
    operations = [
        *(CommitOperationAdd(name, content) for name, content in contents.items()),
        *(CommitOperationDelete(name) for name in sorted(others)),
    ]
    with reporting_hub_errors(str(model)):
        api.create_repo(model.repository, private=private, exist_ok=True)
        return api.create_commit(model.repository, operations, commit_message="Model saved by vqdist").oid
