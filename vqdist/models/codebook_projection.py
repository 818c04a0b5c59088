"""The first weights of a PixelCNN from the codebook of the VQ-VAE: similar codes have similar weights."""

import math

from torch import Tensor, nn


def project_codebook(codebook: Tensor, size: int) -> Tensor:
    """Standardise a codebook (K, D) and map it to (K, size) by a random orthogonal matrix, scaled to keep its variance.

    The matrix is drawn from torch's global generator.
    """
    vectors = codebook - codebook.mean(0)
    vectors = vectors / vectors.std().clamp(min=1e-6)
    D = vectors.shape[1]
    matrix = nn.init.orthogonal_(vectors.new_empty(D, size))
    return vectors @ matrix * math.sqrt(max(size / D, 1.0))
