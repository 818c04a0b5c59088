"""The run directory: the path of every file in it, its owner, its status and its record."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqdist.foundation.atomic_files import clear_leftovers, write_atomic, write_atomic_json
from vqdist.foundation.errors import ConfigError, OwnershipError
from vqdist.foundation.json_lines import read_json_lines
from vqdist.foundation.run_status import CONFIG_FILE, STATUS_FILE
from vqdist.foundation.shown_values import show_type
from vqdist.runs.run_owner import RunOwner

OWNER_RETRIES_S = (0.1, 0.5, 1.0)


@dataclass(frozen=True)
class RunDir:
    """The files of a run.

    `RunDir(path)` is for readers. `RunDir.claim(path)` makes this process the owner, which alone may write.

    Attributes:
        path: the run directory.
        token: identifies the owner, the same on all of its ranks; empty for a reader.
    """

    path: Path
    token: str = ""

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / CONFIG_FILE

    @property
    def status(self) -> Path:
        """State (running, stopped, finished or failed) and step; of a failed run also the error."""
        return self.path / STATUS_FILE

    @property
    def owner(self) -> Path:
        """The token of the process that may write."""
        return self.path / "owner.json"

    @property
    def metrics(self) -> Path:
        """The record of the run: one line per train or validate report."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The saved model."""
        return self.path / "model"

    @property
    def previews(self) -> Path:
        """The folder of the preview images."""
        return self.path / "previews"

    @property
    def figures(self) -> Path:
        """The folder of the plots."""
        return self.path / "figures"

    @property
    def ledgers(self) -> Path:
        """The folder of the ledgers."""
        return self.path / "ledger"

    @property
    def wandb(self) -> Path:
        """The folder of the W&B files."""
        return self.path / "wandb"

    @property
    def stop_file(self) -> Path:
        """A file that a user creates to stop the run."""
        return self.path / "STOP"

    def ledger(self, rank: int) -> Path:
        """The keys of the samples that a rank trained on, one line per step."""
        return self.ledgers / f"rank-{rank}.jsonl"

    def preview(self, step: int) -> Path:
        """The preview image of a step."""
        return self.previews / f"step-{step:08d}.png"

    @classmethod
    def claim(cls, path: Path) -> "RunDir":
        """Create the directory if necessary and become its owner. Earlier owners can no longer write."""
        run_dir = cls(path, uuid.uuid4().hex)
        path.mkdir(parents=True, exist_ok=True)
        for folder in (path, run_dir.ledgers):
            clear_leftovers(folder)
        write_atomic(run_dir.owner, RunOwner.of_this_process(run_dir.token).to_json())
        return run_dir

    def check_owner(self) -> None:
        """Raise OwnershipError if a newer process owns the directory, or if owner.json cannot be read."""
        owner = self._read_owner()
        if owner.token != self.token:
            raise OwnershipError(
                f"{self.path}: a newer process owns this run; this process stops writing: found {owner} in owner.json, "
                "which continues the run from its last checkpoint. Let it run, or stop it (touch "
                f"{self.stop_file}) and run this command again; to train a second run, pass another --run.name"
            )

    def _read_owner(self) -> RunOwner:
        pauses_s = iter(OWNER_RETRIES_S)  # a network file system may fail for a moment
        while True:
            try:
                return RunOwner.read(self.owner)
            except (OSError, ValueError) as error:
                pause_s = next(pauses_s, None)
                if pause_s is None or isinstance(error, FileNotFoundError):
                    found = f"{self.owner}: cannot read which process owns this run ({error!r})"
                    raise OwnershipError(f"{found}; this process stops writing") from error
                time.sleep(pause_s)

    def write_status(self, state: str, step: int, **details: Any) -> None:
        """Write status.json: state is running, stopped, finished or failed."""
        self.check_owner()
        write_atomic_json(self.status, {"state": state, "step": step, **details})

    def write_config(self, text: str) -> None:
        """Write the resolved configuration."""
        self.check_owner()
        write_atomic(self.config, text.encode())

    def truncate_records(self, step: int, *, eval_due: bool) -> None:
        """Remove the lines after a step from metrics.jsonl and all ledgers, so that they match the checkpoint.

        Args:
            step: the step of the checkpoint that training continues from.
            eval_due: the evaluation of that step will be repeated, so its validate line is removed too.
        """
        self.check_owner()
        for path in [self.metrics, *sorted(self.ledgers.glob("rank-*.jsonl"))]:
            if path.exists():
                kept = (
                    line
                    for line, record in read_json_lines(path)
                    if record["step"] < step + (not eval_due or record.get("split") != "validate")
                )
                write_atomic(path, b"".join(kept))


def read_run_config(path: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run directory.

    Raises:
        ConfigError: config.yaml cannot be read or is not a mapping.
    """
    import yaml

    file = RunDir(path).config
    try:
        values = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError.of(str(file), error, "the configuration of a run") from error
    if not isinstance(values, dict):
        raise ConfigError.of(str(file), show_type(values), "the configuration of a run")
    return values
