"""The `vqdist` command: `vqdist COMMAND ...` runs `python -m vqdist.COMMAND ...`."""

import importlib
import sys
from collections.abc import Sequence

import vqdist
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import ConfigError
from vqdist.foundation.help_text import wrap_text

COMMANDS = {
    "shard": "convert pictures, volumes or synthetic brains to a dataset",
    "train": "train a VQ-VAE, or a PixelCNN over its codes",
    "encode": "encode the images of a dataset to code maps",
    "sample": "sample new slices from a PixelCNN",
    "complete": "fill in regions of slices with a PixelCNN",
    "score": "measure how likely slices are, and map where they are unusual",
    "evaluate": "evaluate a trained model, its samples, or your own pictures",
    "publish": "pass a trained model on, to a folder or the Hugging Face hub",
    "doctor": "check a machine or a Slurm allocation for a configuration",
    "bench": "measure the speed of vqdist and of other packages on this machine",
}


def build_help() -> str:
    """Return the list of commands in pipeline order."""
    lines = ["usage: vqdist COMMAND [options]", "", (vqdist.__doc__ or "").strip(), ""]
    lines += ["Commands (vqdist COMMAND --help lists the options):"]
    lines += [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    lines += ["", "With several processes: accelerate launch -m vqdist.COMMAND [options]"]
    return wrap_text("\n".join(lines)) + "\n"


def main(argv: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    if not argv or argv[0] in {"-h", "--help"}:
        sys.stdout.write(build_help())
        return 0 if argv else 2
    if argv[0] == "--version":
        sys.stdout.write(f"vqdist {vqdist.__version__}\n")
        return 0
    if argv[0] not in COMMANDS:
        return run_command(lambda _: _refuse(argv[0]), argv)
    return run_command(importlib.import_module(f"vqdist.{argv[0]}").main, argv[1:])


def _refuse(command: str) -> int:
    raise ConfigError.of("command", repr(command), f"one of {', '.join(COMMANDS)}")


def entry_point() -> int:
    """Run the command line of this process; the console script calls this."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(entry_point())
