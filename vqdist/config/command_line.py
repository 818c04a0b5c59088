"""The command line of the commands that take a whole configuration: train and doctor."""

from collections.abc import Sequence

from vqdist.config.schema import CONFIGS, Key, list_keys
from vqdist.foundation.command import show
from vqdist.foundation.errors import Problem


def parse_arguments(
    argv: Sequence[str], switches: Sequence[str] = ("--verbose",)
) -> tuple[str | None, list[tuple[str, str]], list[Problem]]:
    """Return (config file, key-value flags, what is wrong with the words); switches take no value and are left out."""
    path: str | None = None
    flags, problems = [], []
    words = [word for word in argv if word not in switches]
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
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


def build_help(module: str, text: str, switches: Sequence[str] = ()) -> str:
    """Return the text of --help: every key with its type, unit and default.

    Args:
        module: as `python -m` takes it.
        text: what the command does.
        switches: a line for each switch of this command alone.
    """
    shipped = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
    lines = [
        f"usage: python -m {module} [--config FILE] [--section.key VALUE ...] [--verbose]",
        "",
        text.strip(),
        "",
        "  --config FILE    a YAML file of the keys below, or the name of a shipped one (path, default: null):",
        f"                   {shipped}",
        "  --verbose        show the traceback of an error (switch, default: false)",
        *(f"  {line}" for line in switches),
        "",
        "Keys (flags beat the file, the file beats these defaults; none is null, booleans are true or false):",
    ]
    for title, rows in _key_groups():
        lines += ["", f"  {title}:"] if title else [""]
        for name, kind, unit, default, help in rows:
            facts = ", ".join([kind, *([unit] if unit else []), f"default: {show(default)}"])
            lines.append(f"  --{name}\n        {help} ({facts})")
    return "\n".join(lines) + "\n"


def describe_keys() -> str:
    """Return every key as a Markdown table; the README holds it."""
    lines = ["| key | type | default | what it is for |", "|---|---|---|---|"]
    for title, rows in _key_groups():
        if title:
            lines.append(f"| **{title}** | | | |")
        for name, kind, unit, default, help in rows:
            kind = kind.replace("|", " \\| ") + (f", {unit}" if unit else "")
            lines.append(f"| `{name}` | {kind} | `{show(default)}` | {help} |")
    return "\n".join(lines) + "\n"


def _key_groups() -> list[tuple[str, list[Key]]]:
    """Return the keys of both tasks, the shared ones first."""
    shared = [row for row in list_keys("vqvae") if not row[0].startswith("model.")]
    own = {task: [row for row in list_keys(task) if row[0].startswith("model.")] for task in ("vqvae", "pixelcnn")}
    return [("", shared), *((f"with --task {task}", rows) for task, rows in own.items())]
