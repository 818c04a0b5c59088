"""Load a saved VQ-VAE or PixelCNN for inference, and the VQ-VAE that encoded the codes of a PixelCNN."""

from pathlib import Path

from vqdist.foundation.errors import CheckpointError, check_option
from vqdist.foundation.model_names import show_model_name
from vqdist.foundation.progress import print_message
from vqdist.foundation.run_status import read_status
from vqdist.models.io import VQVAE_FOLDER, ModelFiles, build_model, read_model_files
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE


def report_failed_training(run: Path, files: ModelFiles) -> None:
    """Print a warning if the training of a run has failed after its model was saved.

    Args:
        run: the path of the model; only a run directory has a status.
    """
    status = read_status(run)
    if status.get("state") == "failed":
        model = "" if files.card.step is None else f"; the model is that of step {files.card.step:,}"
        print_message(f"WARNING: {show_model_name(run)}: its training failed at step {status.get('step')}{model}")


def read_vqvae_files(option: str, path: Path) -> ModelFiles:
    """Read the VQ-VAE that an option names, which problems name too."""
    return check_option(option, show_model_name(path), lambda: read_model_files(path, kind="vqvae"))


def read_vqvae_of(prior: ModelFiles) -> ModelFiles:
    """Read the VQ-VAE that is saved with a PixelCNN: the one that made its codes.

    Raises:
        CheckpointError: it is missing, or damaged.
    """
    if not (prior.folder / VQVAE_FOLDER).exists():
        expected = "the VQ-VAE of its codes: save_model(prior, folder, vqvae_dir=...) saves it with the prior"
        raise CheckpointError.of(str(prior.folder / VQVAE_FOLDER), "nothing", expected)
    return read_model_files(prior.folder / VQVAE_FOLDER, kind="vqvae")


def build_vqvae(files: ModelFiles) -> VQVAE:
    """Build a saved model that is a VQ-VAE."""
    model = build_model(files)
    assert isinstance(model, VQVAE), f"{files.folder} is a {files.card.kind}"
    return model


def build_pixelcnn(files: ModelFiles) -> PixelCNN:
    """Build a saved model that is a PixelCNN."""
    model = build_model(files)
    assert isinstance(model, PixelCNN), f"{files.folder} is a {files.card.kind}"
    return model
