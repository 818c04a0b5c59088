"""Score and complete new synthetic brains with the models of the demo: python launch/use_models.py [FOLDER].

FOLDER is that of `bash launch/demo.sh`, by default runs. The brains belong to subjects that the demo does not have.
Each gets a dark lesion for `vqdist score`, and a mask of the same place for `vqdist complete`.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from vqdist.data.sources.phantom import phantom_slice
from vqdist.models.io import read_model_card

SUBJECTS = range(1000, 1004)
PLACES = (1 / 4, 5 / 8)  # of the slices of a volume
RESTORATIONS = 5
LESION_GREY = 60


def write_pictures(folder: Path, image_size: int, num_slices: int) -> None:
    """Write slices with lesions to folder/pictures and the masks of the lesions to folder/masks."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:image_size, :image_size]
    for name in ("pictures", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for subject in SUBJECTS:
        for number in (int(place * num_slices) for place in PLACES):
            image = phantom_slice(subject, number, num_slices=num_slices, image_size=image_size)
            row, column = rng.choice(np.argwhere(image > 2 * LESION_GREY))
            mask = (np.hypot(rows - row, columns - column) < image_size * rng.uniform(0.03, 0.05)) & (image > 0)
            stem = f"subject_{subject}_slice_{number}"
            Image.fromarray(np.where(mask, np.uint8(LESION_GREY), image)).save(folder / "pictures" / f"{stem}.png")
            Image.fromarray(mask).save(folder / "masks" / f"{stem}.png")


def main(runs: Path, prior: Path | None = None, data: Path | None = None) -> None:
    """Write the pictures, and run the two commands.

    Args:
        runs: the folder of the demo.
        prior, data: a PixelCNN and a dataset of healthy slices, instead of those of the demo.
    """
    prior, data, out = prior or runs / "pixelcnn_demo", data or runs / "demo-data", runs / "use"
    (height, _) = read_model_card(prior / "model" / "vqvae").data.image_size or (128, 128)
    write_pictures(out, height, read_model_card(prior / "model").model["num_slices"])
    shared = ["--prior", prior, "--pictures", out / "pictures"]
    score = ["--masks", out / "masks", "--healthy", f"{data}:validate", "--restorations", RESTORATIONS]
    commands = {
        "score": [*shared, *score, "--out", out / "scores"],
        "complete": [*shared, "--mask", out / "masks", "--out", out / "completions"],
    }
    for command, words in commands.items():
        done = subprocess.run([sys.executable, "-m", f"vqdist.{command}", *map(str, words)], stdout=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
