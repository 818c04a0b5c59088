"""The files of `vqdist score`: scores.jsonl, maps/KEY.png and .npy, restored/KEY.png."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqdist.data.sources.nifti_files import write_like
from vqdist.inference.anomaly.maps import to_map
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.picture_frame import PictureFrame
from vqdist.inference.scoring import ScoredSlice
from vqdist.inference.slice_source import VolumeSlices
from vqdist.plotting.image_grids import save_png, to_uint8

SCORES = "scores.jsonl"


def write_slice(scored: ScoredSlice, out: Path, method: ScoringMethod) -> dict[str, Any]:
    """Write map and restored slice in the size of the picture; return the line of scores.jsonl."""
    frame = PictureFrame(scored.shape, scored.parts.image.shape[-1])
    anomaly = to_map(scored.excess, scored.parts.brain, method)
    in_picture, restored = (
        frame.from_model(values[None])[0].contiguous() for values in (anomaly[None], scored.parts.restored)
    )
    key = scored.info.key
    for name in ("maps", "restored"):
        (out / name).mkdir(exist_ok=True)
    save_png(to_uint8(in_picture), out / "maps" / f"{key}.png")
    np.save(out / "maps" / f"{key}.npy", in_picture[0].clamp(0, 1).numpy().astype(np.float32), allow_pickle=False)
    save_png(to_uint8(restored), out / "restored" / f"{key}.png")
    return {
        "key": key,
        "bits": scored.bits,
        "bits_per_code": scored.bits / scored.parts.bits.numel(),
        "score": scored.score,
        "flagged": scored.flagged,
        "p_value": scored.p_value,
        "subject": scored.info.subject,
        "slice": scored.number,
        "source": scored.info.source,
    }


def write_volume_map(maps: Sequence[Tensor], volume: VolumeSlices, out: Path) -> Path:
    """Write the anomaly maps of the slices of a volume as `maps/NAME`, with the voxels and the affine of the volume.

    Args:
        maps: (S, S) in [0, 1] of each slice; the map is 0 outside of them.
    """
    values = volume.sliced.frame.restore(torch.stack(list(maps)).numpy(), volume.planes.start)
    return write_like(values, volume.path, out / "maps" / volume.path.name, dtype=np.float32)


def append_line(line: dict[str, Any], out: Path) -> None:
    """Append a line to scores.jsonl."""
    with (out / SCORES).open("a") as file:
        file.write(json.dumps(line) + "\n")
