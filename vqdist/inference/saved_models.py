"""Load a saved VQ-VAE or PixelCNN for inference, and the VQ-VAE that encoded the codes of a PixelCNN."""

from vqdist.models.io import VQVAE_FOLDER, ModelFiles, build_model, read_model_files
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE


def read_vqvae_of(prior: ModelFiles) -> ModelFiles:
    """Read the VQ-VAE that is saved with a PixelCNN: the one that made its codes."""
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
