"""The command line of every command: words to options, and options to `--help`, both from the fields of a section."""

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args, get_origin

from vqdist.config.key_suggestions import suggest
from vqdist.config.loading import parse_flag_value, shipped_configs
from vqdist.config.model_config import MODEL_CONFIGS, ModelConfig
from vqdist.config.schema import list_keys
from vqdist.config.section import TRUE_OR_FALSE, Bool, Key, Section, key, list_fields, validate
from vqdist.foundation.errors import Problem
from vqdist.foundation.help_text import OPTION_INDENT, wrap_text


class Options(Section):
    """The options of a command. Fields are flags, or positional arguments where `key` names one."""

    verbose: Bool = key(False, "show the traceback of an error")


OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True)
class CommandLine(Generic[OptionsT]):
    """What a command line contains.

    Attributes:
        options: None if a required option is missing or wrong.
        keys: (section.key, text) of the configuration, in order; only for commands that take a configuration.
        problems: everything that is wrong with the words.
    """

    options: OptionsT | None
    keys: list[tuple[str, str]]
    problems: list[Problem]


@dataclass
class _Words:
    """The words of a command line that have not been read yet."""

    left: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    keys: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def take_values(self, most: int) -> list[str]:
        taken: list[str] = []
        while self.left and len(taken) < most and not self.left[0].startswith("--"):
            taken.append(self.left.pop(0))
        return taken


def parse_options(
    command: str, description: str, kind: type[OptionsT], argv: Sequence[str], *, takes_config: bool = False
) -> CommandLine[OptionsT]:
    """Parse the words of a command line; `--help` prints the help and exits.

    Args:
        command: name of the command, for the usage line.
        description: what the command does.
        kind: the options.
        takes_config: also accept the keys of a run's configuration, `--section.key VALUE`.
    """
    if any(word in {"-h", "--help"} for word in argv):
        sys.stdout.write(build_help(command, description, kind, takes_config=takes_config))
        sys.exit(0)
    words = _Words(list(argv))
    positionals = [found.name for found in list_fields(kind) if found.positional]
    while words.left:
        word = words.left.pop(0)
        if word.startswith("--"):
            _read_flag(words, word, kind, takes_config=takes_config)
        elif positionals and _is_list(kind, positionals[0]):
            words.values.setdefault(positionals[0], []).append(word)
        elif positionals:
            words.values[positionals.pop(0)] = word
        else:
            words.problems.append(Problem("command line", repr(word), _expect_flag(word, takes_config=takes_config)))
    options, problems = validate(kind, words.values, lambda location: _flag(kind, str(location[0])))
    problems += options.find_conflicts() if options is not None else []
    return CommandLine(options, words.keys, words.problems + problems)


def _expect_flag(word: str, *, takes_config: bool) -> str:
    if not takes_config:
        return "an option such as --name VALUE"
    is_config = word.endswith((".yaml", ".yml")) or word in shipped_configs()
    return f"--config {word}" if is_config else "--section.key VALUE"


def _read_flag(words: _Words, word: str, kind: type[Options], *, takes_config: bool) -> None:
    flag, equals, text = word.partition("=")
    name = flag[2:].replace("-", "_")
    if name not in kind.model_fields or _flag(kind, name) != flag:
        if takes_config and ("." in flag or flag == "--task"):
            texts = [text] if equals else words.take_values(1)
            words.keys += [(flag[2:], value) for value in texts]
            if not texts:
                words.problems.append(Problem(flag, "no value", "a value after it"))
        else:
            words.problems.append(_unknown_flag(flag, kind, takes_config=takes_config))
            words.take_values(0 if equals else 1)
        return
    if kind.model_fields[name].annotation is bool and not equals:
        is_value = bool(words.left) and words.left[0] in TRUE_OR_FALSE
        words.values[name] = words.left.pop(0) if is_value else True
        return
    length = _list_length(kind, name)
    texts = [text] if equals else words.take_values(length)
    if not texts:
        words.problems.append(Problem(flag, "no value", "a value after it"))
    elif _is_list(kind, name) and len(texts) < length < sys.maxsize:
        example = show_value(kind.model_fields[name].default)
        expected = f"{length} values separated by spaces, such as {example}"
        words.problems.append(Problem(flag, repr(" ".join(texts)), expected))
    elif _is_list(kind, name):
        # A list of any length may be given by several flags.
        before = words.values.get(name, []) if length == sys.maxsize else []
        words.values[name] = before + texts
    else:
        words.values[name] = parse_flag_value(texts[0]) if texts[0] == "null" else texts[0]


def _unknown_flag(flag: str, kind: type[Options], *, takes_config: bool) -> Problem:
    known = [_flag(kind, found.name) for found in list_fields(kind) if not found.positional]
    if takes_config:
        known += [f"--{found.name}" for task in MODEL_CONFIGS for found in list_keys(task)]
    near = difflib.get_close_matches(flag, known, n=1, cutoff=0.8)
    near = near or [found for found in (suggest(flag[2:], [name[2:] for name in known]),) if found]
    hint = f"; did you mean --{near[0].removeprefix('--')}?" if near else ""
    return Problem(flag, "an unknown option", f"an option that --help lists{hint}")


def _flag(kind: type[Options], name: str) -> str:
    """Return the name of an option in messages: its flag, or the name of a positional argument."""
    if name not in kind.model_fields:
        return name
    extra = kind.model_fields[name].json_schema_extra
    positional = str(extra.get("positional", "")) if isinstance(extra, dict) else ""
    return positional or "--" + name.replace("_", "-")


def _is_list(kind: type[Options], name: str) -> bool:
    return get_origin(kind.model_fields[name].annotation) is tuple


def _list_length(kind: type[Options], name: str) -> int:
    """Return the largest number of words that an option takes."""
    annotation = kind.model_fields[name].annotation
    if get_origin(annotation) is not tuple:
        return 1
    args = get_args(annotation)
    return sys.maxsize if args[-1] is ... else len(args)


def build_help(command: str, description: str, kind: type[Options], *, takes_config: bool = False) -> str:
    """Return the text of `--help`, wrapped to the terminal: every option with its type, unit and default."""
    found = list(list_fields(kind))
    places = [
        f"[{key.positional} ...]" if _is_list(kind, key.name) else key.positional for key in found if key.positional
    ]
    required = [f"{_flag(kind, key.name)} {key.type.upper()}" for key in found if key.required and not key.positional]
    rest = ["[--section.key VALUE ...]"] if takes_config else []
    lines = [" ".join(["usage: vqdist", command, *places, *required, "[options]", *rest]), "", description.strip(), ""]
    lines += ["Options (booleans take true or false, a flag alone means true; no value is null):"]
    found.sort(key=lambda key: (not key.positional, not key.required, key.name == "verbose"))
    lines += [line for key in found for line in _describe(key, key.positional or _flag(kind, key.name))]
    if takes_config:
        lines += ["", f"Shipped configurations: {', '.join(shipped_configs())}", ""]
        lines += ["Configuration keys (flags override the file, the file overrides these defaults):"]
        for title, keys in _key_groups():
            lines += [f"\n  {title}:"] if title else []
            lines += [line for key in keys for line in _describe(key, f"--{key.name}")]
    return wrap_text("\n".join(lines)) + "\n"


def _describe(key: Key, name: str) -> list[str]:
    default = "required" if key.required else f"default: {show_value(key.default)}"
    facts = ", ".join([key.type, *([key.unit] if key.unit else []), default])
    return [f"  {name}", f"{' ' * OPTION_INDENT}{key.help} ({facts})"]


def show_value(value: Any) -> str:
    """Return a value as the command line spells it: null, true, false, lists with spaces."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " ".join(map(show_value, value)) or "[]"
    return str(value)


def describe_keys() -> str:
    """Return every configuration key as a Markdown table; configs/README.md contains it."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for title, keys in _key_groups():
        if title:
            lines.append(f"| **{title}** | | | |")
        for found in keys:
            kind = found.type.replace("|", " \\| ") + (f", {found.unit}" if found.unit else "")
            lines.append(f"| `{found.name}` | {kind} | `{show_value(found.default)}` | {found.help} |")
    return "\n".join(lines) + "\n"


def _key_groups(models: Mapping[str, type[ModelConfig]] = MODEL_CONFIGS) -> list[tuple[str, list[Key]]]:
    """Return the shared keys, then those of each task."""
    shared = [key for key in list_keys(next(iter(models))) if not key.name.startswith("model.")]
    own = {task: [key for key in list_keys(task) if key.name.startswith("model.")] for task in models}
    return [("", shared), *((f"with --task {task}", keys) for task, keys in own.items())]
