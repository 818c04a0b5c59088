"""Train a VQ-VAE, or a PixelCNN over its codes.

    accelerate launch -m vqdist.train [--config FILE] [--section.key VALUE ...]

Without --config it is the demo: a VQ-VAE on slices that the package makes up under run.dir. Without a launcher
it runs on one device. Exit codes: 0 finished; 75 stopped with a checkpoint, run again to go on; 2 something to
mend in command, configuration or data; 1 anything else.
"""

import sys
from collections.abc import Sequence

from vqdist.config import CONFIGS, list_keys, load_config
from vqdist.entry import run_command, show
from vqdist.errors import ConfigError, Problem


def main(argv: Sequence[str]) -> int:
    """Run the command; see the module's docstring."""
    if any(word in {"-h", "--help"} for word in argv):
        sys.stdout.write(build_help())
        return 0
    path, flags, problems = parse_arguments(argv)
    config, more = load_config(path, flags)
    problems += more
    if config is None:
        raise ConfigError(problems)

    # Torch is imported from here on, so that --help answers at once.
    from vqdist.training.launch import run
    from vqdist.training.ranks import end_ranks
    from vqdist.training.setup import find_problems, resolve

    config = resolve(config)
    problems += find_problems(config)
    if problems:
        raise ConfigError(problems)
    try:
        return run(config)
    finally:
        end_ranks()


def parse_arguments(argv: Sequence[str]) -> tuple[str | None, list[tuple[str, str]], list[Problem]]:
    """Return (config file, key-value flags, what is wrong with the words)."""
    path: str | None = None
    flags, problems = [], []
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if word == "--verbose":
            continue
        if not word.startswith("--") or not name:
            problems.append(Problem("command line", repr(word), "--section.key VALUE or --section.key=VALUE"))
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                problems.append(Problem(f"--{name}", "no value", "a value after it"))
                continue
            value = words.pop(0)
        if name == "config":
            path = value
        else:
            flags.append((name, value))
    return path, flags, problems


def build_help() -> str:
    """Return the text of --help: every key with its type, unit and default."""
    shipped = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
    lines = [
        "usage: python -m vqdist.train [--config FILE] [--section.key VALUE ...] [--verbose]",
        "",
        (__doc__ or "").strip(),
        "",
        "  --config FILE    a YAML file of the keys below, or the name of a shipped one:",
        f"                   {shipped}",
        "  --verbose        show the traceback of an error",
        "",
        "Keys (flags beat the file, the file beats these defaults; none is null, booleans are true or false):",
    ]
    for title, task, wanted in (
        ("", "vqvae", lambda name: not name.startswith("model.")),
        ("with --task vqvae:", "vqvae", lambda name: name.startswith("model.")),
        ("with --task pixelcnn:", "pixelcnn", lambda name: name.startswith("model.")),
    ):
        lines += ["", f"  {title}"] if title else [""]
        for name, kind, unit, default, text in list_keys(task):
            if wanted(name):
                facts = ", ".join([kind, *([unit] if unit else []), f"default: {show(default)}"])
                lines.append(f"  --{name}\n        {text} ({facts})")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_command(main))
