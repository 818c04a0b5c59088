"""The files of `vqdist score`: scores.jsonl, maps/KEY.png and .npy, restored/KEY.png; NIfTI files of a volume."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

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
    voxels = scored.info.voxels
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
    } | ({} if voxels is None else {"voxel_axis": voxels.axis, "voxel_slice": voxels.number})


@dataclass(frozen=True)
class VolumeResults:
    """The anomaly maps and the restored slices of a volume, collected slice by slice.

    Attributes:
        maps, restored: (n, S, S) in [0, 1].
    """

    volume: VolumeSlices
    maps: npt.NDArray[np.float32]
    restored: npt.NDArray[np.float32]

    @classmethod
    def create(cls, volume: VolumeSlices) -> Self:
        """Return empty results for all slices of a volume."""
        shape = (len(volume.planes), *[volume.sliced.frame.image_size] * 2)
        return cls(volume, np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def add(self, index: int, scored: ScoredSlice, method: ScoringMethod) -> None:
        """Keep the map and the restored slice, the mean over its channels, of slice `index`."""
        self.maps[index] = to_map(scored.excess, scored.parts.brain, method).numpy()
        self.restored[index] = scored.parts.restored.mean(dim=0).numpy()

    def write(self, out: Path) -> None:
        """Write `maps/NAME` and `restored/NAME`, with the shape and the affine of the volume NAME.

        The map is in [0, 1], and 0 outside of the slices. The restored volume has the grey values and the voxel type
        of the volume, and is black outside of the slices.
        """
        sliced, path, start = self.volume.sliced, self.volume.path, self.volume.planes.start
        write_like(sliced.frame.restore(self.maps, start), path, out / "maps" / path.name, dtype=np.float32)
        write_like(sliced.restore_values(self.restored, start), path, out / "restored" / path.name)


def append_line(line: dict[str, Any], out: Path) -> None:
    """Append a line to scores.jsonl."""
    with (out / SCORES).open("a") as file:
        file.write(json.dumps(line) + "\n")
