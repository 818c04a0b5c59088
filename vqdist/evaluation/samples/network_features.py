"""FID and KID from the features of a network that the user has as a file; nothing is downloaded.

The formulas are those of clean-fid (Parmar et al. 2022), so that the same features give the same figures.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.foundation.errors import DataError, UserError
from vqdist.foundation.progress import print_message

INPUT_SIZE = 299
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for the weights of torchvision

Values = npt.NDArray[np.float64]
Network = Callable[[Tensor], Tensor]


def load_network(path: Path, device: torch.device) -> Network:
    """Load a network from images (B, 3, 299, 299) to features (B, F).

    Args:
        path: `.safetensors`: weights of torchvision's Inception v3 by its names, which needs torchvision. Any other
            file: TorchScript, whose input has values from 0 to 255, as that of clean-fid. TorchScript is a program: it
            can execute any code that its author has put there, so use files of a source that you trust.
    Raises:
        UserError: the file cannot be loaded, or torchvision is missing.
    """
    if path.suffix == ".safetensors":
        return _load_inception(path, device)
    print_message(f"WARNING: {path} is a program (TorchScript) and is executed; use only files of a source you trust")
    try:
        with warnings.catch_warnings():
            # torch recommends torch.export for new files; the files of networks for FID are TorchScript.
            warnings.simplefilter("ignore", FutureWarning)
            module = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        found = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError.of(f"--features {path}", found, "a .safetensors or TorchScript file") from error
    return lambda images: module(images * 255)


def _load_inception(path: Path, device: torch.device) -> Network:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        from torchvision.models import inception_v3
    except ImportError as error:
        expected = "torchvision, which has the network of these weights: install the extra `bench`"
        raise UserError.of(f"--features {path}", "no torchvision", expected) from error
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError.of(f"--features {path}", str(error)[:200], "a whole safetensors file") from error
    network = inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=False)
    network.fc = nn.Identity()
    wanted = network.state_dict()
    used = {name: tensor for name, tensor in weights.items() if not name.startswith(("fc.", "AuxLogits."))}
    wrong = sorted(name for name in wanted if name not in used or used[name].shape != wanted[name].shape)
    if wrong:
        expected = "the weights of torchvision's inception_v3"
        raise UserError.of(f"--features {path}", f"no {wrong[0]} of shape {tuple(wanted[wrong[0]].shape)}", expected)
    network.load_state_dict({name: used[name] for name in wanted})
    network = network.to(device).eval()
    mean, deviation = (torch.tensor(values, device=device)[:, None, None] for values in (_MEAN, _DEVIATION))
    return lambda images: network((images - mean) / deviation)


def measure_features(network: Network, images: Tensor) -> Values:
    """Return the features of images, (B, C, H, W) in [0, 1], as (B, F).

    Grey images become colour images of equal channels. They are resized by bicubic interpolation with antialiasing and
    are not rounded, as clean-fid does.

    Raises:
        DataError: the network does not return one row of numbers per image.
    """
    colour = images if images.shape[1] == 3 else images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    resized = F.interpolate(colour, size=(INPUT_SIZE, INPUT_SIZE), mode="bicubic", antialias=True).clamp(0, 1)
    features = network(resized)
    if not isinstance(features, Tensor) or features.shape[0] != len(images):
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise DataError.of("--features", f"{found} for {len(images)} images", "features (B, F)")
    return features.flatten(1).cpu().double().numpy()


def compare_network_features(features: Mapping[str, Values]) -> dict[str, Any]:
    """Return FID and KID of samples to test and to train, and of train to test, as JSON values.

    FID depends on the number of slices: compare only figures of as many.

    Args:
        features: of "train", "test" and "samples", (N, F).
    """
    pairs: Iterable[tuple[str, str]] = (("samples", "test"), ("samples", "train"), ("train", "test"))
    return {
        name: {f"{one}_{other}": distance(features[one], features[other]) for one, other in pairs}
        for name, distance in (("fid", frechet_distance), ("kid", kernel_distance))
    }


def frechet_distance(first: Values, second: Values) -> float:
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the means and covariances (Heusel et al. 2017).

    tr (S1 S2)^(1/2) is the sum of the square roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric.

    Args:
        first, second: (N, F) and (M, F).
    """
    covariances = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (first, second)]
    eigenvalues, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(eigenvalues, 0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ covariances[1] @ root)
    means = first.mean(axis=0) - second.mean(axis=0)
    traces = np.trace(covariances[0]) + np.trace(covariances[1])
    return float(means @ means + traces - 2 * np.sqrt(np.maximum(mixed, 0)).sum())


def kernel_distance(first: Values, second: Values, *, seed: int = 0) -> float:
    """Return the unbiased squared maximum mean discrepancy of the kernel (x y / F + 1)^3 (Binkowski et al. 2018).

    The mean over KID_SUBSETS random subsets of at most KID_SUBSET_SIZE slices of each set.
    """
    rng = np.random.default_rng(seed)
    size = min(len(first), len(second), KID_SUBSET_SIZE)
    total = 0.0
    for _ in range(KID_SUBSETS):
        x = first[rng.choice(len(first), size, replace=False)]
        y = second[rng.choice(len(second), size, replace=False)]
        kernels = [(one @ other.T / first.shape[1] + 1) ** 3 for one, other in ((x, x), (y, y), (x, y))]
        within = sum(kernel.sum() - np.trace(kernel) for kernel in kernels[:2]) / (size - 1)
        total += (within - 2 * kernels[2].sum() / size) / size
    return total / KID_SUBSETS
