"""The files of `vqdist score`: scores.jsonl, maps/KEY.png and .npy, restored/KEY.png."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vqdist.inference.anomaly.maps import to_map
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.picture_frame import PictureFrame
from vqdist.inference.scoring import ScoredSlice
from vqdist.plotting.image_grids import save_png, to_uint8

SCORES = "scores.jsonl"


def write_slice(scored: ScoredSlice, out: Path, method: ScoringMethod) -> dict[str, Any]:
    """Write map and restored slice in the size of the picture; return the line of scores.jsonl."""
    frame = PictureFrame(scored.shape, scored.parts.image.shape[-1])
    anomaly = to_map(scored.excess, method)
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


def append_line(line: dict[str, Any], out: Path) -> None:
    """Append a line to scores.jsonl."""
    with (out / SCORES).open("a") as file:
        file.write(json.dumps(line) + "\n")
