"""Names of models that are not folders: models on the Hugging Face hub, and the starter pair of the package.

hf://ORG/NAME              the newest version of a repository; hf://ORG/NAME@REVISION a branch, tag or commit
starter                    the PixelCNN in the package
hf://ORG/NAME/vqvae        the VQ-VAE that is saved with a PixelCNN; also starter/vqvae
"""

import re
from dataclasses import dataclass
from pathlib import Path

STARTER = "starter"
STARTER_FOLDER = Path(__file__).parents[1] / STARTER
# In a dataset of codes, and beside the weights of a PixelCNN: the VQ-VAE that encoded the codes.
VQVAE_FOLDER = "vqvae"
VQVAE_PART = f"/{VQVAE_FOLDER}"
HUB_FORM = "hf://ORG/NAME or hf://ORG/NAME@REVISION"
# A Path has a single slash after the colon.
_HUB = re.compile(r"hf:/{1,2}")
_PART = r"[A-Za-z0-9_](?:[\w-]|\.(?!\.))*"
_REPOSITORY = re.compile(rf"({_PART}/{_PART})(?:@([\w.+/-]+?))?({VQVAE_PART})?", re.ASCII)


@dataclass(frozen=True)
class HubModel:
    """A model on the Hugging Face hub.

    Attributes:
        repository: ORG/NAME.
        revision: branch, tag or commit; None for the main branch.
        has_part: the VQ-VAE that is saved with the PixelCNN of the repository.
    """

    repository: str
    revision: str | None = None
    has_part: bool = False

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.repository}{revision}{VQVAE_PART * self.has_part}"


def is_hub_name(path: str | Path) -> bool:
    """Return whether a path begins like the name of a model on the hub."""
    return _HUB.match(str(path)) is not None


def is_starter_name(path: str | Path) -> bool:
    """Return whether a path is the name of the starter pair, and no file or folder."""
    return str(path) in (STARTER, STARTER + VQVAE_PART) and not Path(path).exists()


def is_model_name(path: str | Path) -> bool:
    """Return whether a path is the name of a model and not that of a folder."""
    return is_hub_name(path) or is_starter_name(path)


def parse_hub_name(path: str | Path) -> HubModel | None:
    """Return the model that a name refers to; None if the name is not complete."""
    match = _REPOSITORY.fullmatch(_HUB.sub("", str(path), count=1))
    return None if match is None else HubModel(match[1], match[2], match[3] is not None)


def show_model_name(path: str | Path) -> str:
    """Return a path as it is written on the command line."""
    return _HUB.sub("hf://", str(path), count=1) if is_hub_name(path) else str(path)
