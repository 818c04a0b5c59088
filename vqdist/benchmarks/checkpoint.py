"""Saving and loading a checkpoint, with fsync and verification, against Accelerate."""

import os
import tempfile
from pathlib import Path

from vqdist.benchmarks.measure import Bench, Result, compare
from vqdist.benchmarks.training_sessions import build_paper_session, make_batch, make_images
from vqdist.config.schema import CheckpointSection
from vqdist.distributed.process_group import Ranks
from vqdist.runs.checkpoint import load_checkpoint, save_checkpoint
from vqdist.training.state import capture
from vqdist.training.step import RankRequests, train_step


def run(bench: Bench) -> list[Result]:
    """Measure the VQ-VAE of van den Oord et al. 2017 with its optimizer."""
    ranks = Ranks(0, 1, 0, bench.device)
    session = build_paper_session(ranks, image_size=32, batch_size=2, precision="fp32", hidden=bench.size(128, 8))
    train_step(session, [make_batch(make_images(2, 32))], RankRequests())  # creates the moments of the optimizer
    with tempfile.TemporaryDirectory(dir=Path.cwd() if os.access(".", os.W_OK) else None) as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "accelerate")

        def save() -> None:
            tensors, state = capture(session)
            state |= {"data_fingerprint": ""}
            save_checkpoint(ours, 1, tensors=tensors, state=state, keep=2, check_owner=lambda: None)

        works = {
            "save": save,
            "load": lambda: load_checkpoint(ours / "step-00000001"),
            "accelerate save": lambda: session.accelerator.save_state(str(theirs)),
            "accelerate load": lambda: session.accelerator.load_state(str(theirs)),
        }
        times_ms = {name: seconds * 1e3 for name, seconds in bench.time_in_turn(works).items()}
        size_mib = sum(path.stat().st_size for path in ours.rglob("*") if path.is_file()) / 2**20
    case = f"{size_mib:.1f} MiB, synced and verified"
    share = 100 * times_ms["save"] / 1e3 / (60 * (CheckpointSection().every_minutes or 15.0))
    return [
        *compare("checkpoint", f"save, {case}", "ms", times_ms["save"], {"accelerate": times_ms["accelerate save"]}),
        *compare("checkpoint", f"load, {case}", "ms", times_ms["load"], {"accelerate": times_ms["accelerate load"]}),
        *compare("checkpoint", "share of the wall time at the default minutes", "%", share, {"goal": 1.0}),
    ]
