"""Configuration: merged once, validated once, all problems told together."""

from pathlib import Path

import pytest
import yaml

from vqdist.config.loading import find_config, load_config
from vqdist.config.model_config import PixelCNNConfig
from vqdist.config.schema import CONFIGS, dump_yaml, list_keys
from vqdist.foundation.errors import ConfigError


def load(text: str, *flags: tuple[str, str], tmp_path: Path) -> tuple[object, dict[str, str]]:
    path = tmp_path / "some_run.yaml"
    path.write_text(text)
    config, problems = load_config(path, flags)
    return config, {problem.where: f"{problem.found}; {problem.expected}" for problem in problems}


def test_flags_beat_the_file_and_the_file_beats_the_defaults(tmp_path: Path) -> None:
    config, problems = load("optim: {lr: 3e-4, warmup_steps: 7}", ("optim.lr", "5e-4"), tmp_path=tmp_path)
    assert problems == {}
    assert (config.optim.lr, config.optim.warmup_steps, config.optim.grad_clip) == (5e-4, 7, 1.0)
    assert config.run.name == "some_run"


def test_yaml_reads_an_exponent_without_a_dot_as_text_and_we_read_a_number(tmp_path: Path) -> None:
    assert yaml.safe_load("lr: 3e-4") == {"lr": "3e-4"}
    config, problems = load("optim:\n  lr: 3e-4\n", tmp_path=tmp_path)
    assert not problems
    assert config.optim.lr == 3e-4


def test_null_and_lists_are_read_from_flags(tmp_path: Path) -> None:
    flags = [("optim.grad_clip", "null"), ("tracking.tags", "[a, b]"), ("run.deterministic", "true")]
    config, problems = load("", *flags, tmp_path=tmp_path)
    assert not problems
    assert config.optim.grad_clip is None
    assert config.tracking.tags == ("a", "b")
    assert config.run.deterministic is True


@pytest.mark.parametrize(
    ("task", "key", "other"),
    [("vqvae", "model.condition", "pixelcnn"), ("pixelcnn", "model.num_codes", "vqvae")],
)
def test_a_key_of_the_other_task_is_named_as_such(task: str, key: str, other: str, tmp_path: Path) -> None:
    expected = f"an unknown key (task {task}); a known key; {key} is a key of task {other}"
    name = key.partition(".")[2]
    _, problems = load(f"task: {task}", (key, "2"), tmp_path=tmp_path)
    assert problems[key] == expected
    _, problems = load(f"task: {task}\nmodel: {{{name}: 2}}", tmp_path=tmp_path)
    assert problems[key] == expected


def test_every_problem_is_told_at_once_and_near_keys_are_named(tmp_path: Path) -> None:
    text = "model: {hiden: 3, num_codes: many}\noptim: {warmpu: 3}\ntrain: {lr: 2}\ndata: {global_batch_size: 0}\n"
    flags = [("run.seed", "true"), ("run.deterministic", "yes"), ("nosuch.key", "1"), ("optim.lr", "nan")]
    config, problems = load(text, *flags, tmp_path=tmp_path)
    assert "did you mean model.hidden?" in problems["model.hiden"]
    assert "did you mean optim.warmup_steps?" in problems["optim.warmpu"]
    assert "did you mean optim.lr?" in problems["train.lr"]
    assert problems.keys() == {
        "model.hiden",
        "model.num_codes",
        "optim.warmpu",
        "train.lr",
        "data.global_batch_size",
        "run.seed",
        "run.deterministic",
        "nosuch",
        "optim.lr",
    }
    assert config is not None, "what else is wrong can still be looked for"
    assert config.optim.lr == 1e-3


def test_the_python_spelling_is_read_from_flags() -> None:
    flags = [("train.patience", "None"), ("train.preview_every", "None"), ("train.compile", "True"), ("run.seed", "3")]
    config, problems = load_config(None, flags)
    assert not problems
    assert (config.train.patience, config.train.preview_every, config.train.compile) == (None, None, True)
    assert load_config(None, [("train.compile", "False")])[0].train.compile is False


def test_a_value_that_may_be_null_says_so() -> None:
    flags = [("train.patience", "none"), ("train.preview_every", "0"), ("optim.weight_ema", "x"), ("run.seed", "none")]
    _, problems = load_config(None, flags)
    assert sorted(map(str, problems)) == [
        "optim.weight_ema: found 'x'; expected float or null",
        "run.seed: found 'none'; expected int",
        "train.patience: found 'none'; expected int or null",
        "train.preview_every: found 0; expected at least 1 or null",
    ]
    _, problems = load_config(None, [("train.compile", "yes")])
    assert str(problems[0]) == "train.compile: found 'yes'; expected true or false"


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("data: 5", "data", "5; a section with keys"),
        ("data: [null]", "data", "[null]; a section with keys"),
        ("run: {name: 5}", "run.name", "5; text"),
        ("run: {seed: true}", "run.seed", "true; a number"),
        ("run: {seed: [null, a]}", "run.seed", '[null, "a"]; int'),
        ("optim: {lr: null}", "optim.lr", "null; float"),
        ("tracking: {tags: 5}", "tracking.tags", "5; a list"),
        ("model: {downsample: '99999999999999999999999'}", "model.downsample", "99999999999999999999999; int"),
        ("task: null", "task", "null; vqvae or pixelcnn"),
        ("5", "some_run.yaml", "a number; a mapping of sections"),
    ],
)
def test_messages_use_the_words_of_yaml_and_no_others(text: str, key: str, message: str, tmp_path: Path) -> None:
    _, problems = load(text, tmp_path=tmp_path)
    assert {Path(where).name: found for where, found in problems.items()} == {key: message}


BAD_FILES = ["task: [", "- a\n- b", "optim: {lr: 1, lr: 2}", "task: vae", "task: [vqvae]", "at: 2001-99-99", "1: 2"]
BAD_FILES += ["run: foo", *(f"run: {{name: {name}}}" for name in ("a/b", "a b", ".", "..", "''", "123"))]


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_file_that_is_no_configuration_is_a_problem(text: str, tmp_path: Path) -> None:
    config, problems = load(text, tmp_path=tmp_path)
    assert len(problems) == 1
    assert config.run_dir == Path("runs/some_run"), "what else is wrong can still be looked for"


@pytest.mark.parametrize(
    ("file", "name"), [("a.b.yaml", "a.b"), ("sp ace/my (first) run.yaml", "my-first-run"), ("...yaml", "run")]
)
def test_a_run_is_named_after_its_file(file: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("run:\n")
    config, problems = load_config(path, [])
    assert problems == []
    assert config.run.name == name


@pytest.mark.parametrize("key", ["run.dir", "data.path", "data.cache_dir", "checkpoint.resume"])
def test_an_empty_path_is_not_the_working_directory(key: str) -> None:
    config, problems = load_config(None, [(key, "")])
    assert [problem.where for problem in problems] == [key]
    assert config == load_config(None, [])[0]


def test_keys_that_do_not_fit_each_other_are_problems(tmp_path: Path) -> None:
    text = "task: pixelcnn\nmodel: {kernel: 4}\ncheckpoint: {every_steps: null, every_minutes: null}\n"
    text += "data: {mirror: rows, crop: 64}\n"
    _, problems = load(text, tmp_path=tmp_path)
    assert problems.keys() == {"model.kernel", "data.path", "data.mirror", "data.crop", "checkpoint.every_steps"}


FORMER_MIRRORS = {"true": "left-right", "false": "none", "rows": "up-down", "columns": "left-right"}


@pytest.mark.parametrize(("value", "mirror"), [*FORMER_MIRRORS.items(), ("up-down", "up-down"), ("auto", "auto")])
def test_a_mirroring_has_the_names_of_earlier_versions_too(value: str, mirror: str, tmp_path: Path) -> None:
    config, problems = load(f"data: {{mirror: {value}}}\n", tmp_path=tmp_path)
    assert not problems
    assert config.data.mirror == mirror
    assert load_config(None, [("data.mirror", value)])[0].data.mirror == mirror


def test_the_symmetry_of_earlier_versions_is_read(tmp_path: Path) -> None:
    text = "task: pixelcnn\ndata: {path: codes}\nmodel: {symmetry: rows}\n"
    config, problems = load(text, tmp_path=tmp_path)
    assert not problems
    assert config.model.symmetry == "up-down"


def test_an_unknown_mirroring_or_crop_is_a_problem(tmp_path: Path) -> None:
    _, problems = load("data: {mirror: sideways}\n", tmp_path=tmp_path)
    assert "auto, none, up-down or left-right" in problems["data.mirror"]
    for value in ("0", "big", "-3", "1.5", "true", "[8]"):
        _, problems = load(f"data: {{crop: {value}}}\n", tmp_path=tmp_path)
        assert "a number of at least 1, auto or null" in problems["data.crop"], value


@pytest.mark.parametrize(("value", "crop"), [("32", 32), ("auto", "auto"), ("null", None)])
def test_a_crop_is_a_number_or_chosen_for_the_images(value: str, crop: int | str | None, tmp_path: Path) -> None:
    config, problems = load(f"data: {{crop: {value}}}\n", tmp_path=tmp_path)
    assert not problems
    assert config.data.crop == crop
    assert load_config(None, [("data.crop", value)])[0].data.crop == crop


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_is_sound_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config, problems = load_config(path.stem, [])
    assert problems == []
    assert config.run.name == path.stem
    (tmp_path / "again.yaml").write_text(dump_yaml(config))
    assert load_config(tmp_path / "again.yaml", []) == (config, [])


def test_the_paper_configuration_has_the_layers_of_the_paper() -> None:
    model = load_config("vqvae_paper", [])[0].model
    assert (model.hidden, model.residual_hidden, model.residual_layers, model.downsample) == (128, 32, 2, 4)
    assert (model.num_codes, model.code_dim, model.commitment_weight, model.codebook) == (512, 64, 0.25, "grad")


def test_without_a_file_the_defaults_are_the_demo() -> None:
    config, problems = load_config(None, [])
    assert problems == []
    assert (config.task, config.run.name, config.data.path) == ("vqvae", "demo", None)


def test_a_missing_file_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="vqvae_oasis"):
        find_config("nosuch")
    with pytest.raises(ConfigError, match=r"; did you mean vqvae_debug\?$"):
        find_config("vqvae_debg")


def test_shipped_names_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("vqvae_debug", "vqvae_debug.yaml", "configs/vqvae_debug.yaml"):
        assert find_config(name) == CONFIGS / "vqvae_debug.yaml"


@pytest.mark.parametrize("path", ["", ".", "/", "nosuchdir/vqvae_debug.yaml", "vqvae_debug.json", "x" * 300])
def test_a_file_that_is_not_there_hides_no_other_problem(path: str) -> None:
    _, problems = load_config(path, [("optim.lr", "x"), ("task", "[vqvae]")])
    assert len(problems) == 3
    assert {problem.where for problem in problems[1:]} == {"optim.lr", "task"}


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    (tmp_path / "a.yaml").touch()
    _, problems = load_config(tmp_path / "a.yaml", [])
    assert "Permission denied" in str(problems)


@pytest.mark.parametrize("task", ["vqvae", "pixelcnn"])
def test_every_key_has_a_help_text(task: str) -> None:
    rows = list_keys(task)
    assert all(row.help for row in rows), [row for row in rows if not row.help]
    assert len({row.name for row in rows}) == len(rows)


def test_a_configuration_cannot_be_changed() -> None:
    config, _ = load_config("pixelcnn_debug", [])
    assert isinstance(config.model, PixelCNNConfig)
    with pytest.raises(ValueError, match="frozen"):
        config.model.hidden = 3


def test_dotted_keys_of_a_file_belong_to_their_sections(tmp_path: Path) -> None:
    config, problems = load("optim.lr: 3e-4\noptim: {warmup_steps: 7}\nmodel.hidden: 64\n", tmp_path=tmp_path)
    assert problems == {}
    assert (config.optim.lr, config.optim.warmup_steps, config.model.hidden) == (3e-4, 7, 64)
    assert config.find_file("optim.lr") == str(tmp_path / "some_run.yaml")
    _, problems = load("optim.lr: 1\noptim: {lr: 2}\nrun: 3\nrun.seed: 4\noptim.lrr: 5\n", tmp_path=tmp_path)
    assert problems[str(tmp_path / "some_run.yaml")] == "key 'optim.lr' twice; each key once"
    assert problems["run.seed"].startswith("run is not a section")
    assert "did you mean optim.lr?" in problems["optim.lrr"]


@pytest.mark.parametrize("key", ["data.path", "data.cache_dir", "run.dir", "checkpoint.resume"])
def test_home_and_variables_of_paths_are_expanded(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv("SCRATCH", "/scratch")
    section, name = key.split(".")

    def value(text: str) -> object:
        config, problems = load_config(None, [(key, text)])
        assert problems == []
        return getattr(getattr(config, section), name)

    assert [value(text) for text in ("~/a", "${SCRATCH}/~a$b", "s3://bucket/a")] == [
        "/home/anna/a",
        "/scratch/~a$b",
        "s3://bucket/a",
    ]
    _, problems = load_config(None, [(key, "${NOT_SET}/a")])
    assert [str(problem) for problem in problems] == [
        f"{key}: found '${{NOT_SET}}/a'; expected environment variables that are set; NOT_SET is not"
    ]


@pytest.mark.parametrize(
    ("path", "flags", "name", "shown"),
    [
        (None, [], "demo-s1-r1", "Shown"),
        ("vqvae_debug", [], "vqvae_debug-s1-r1", "Shown"),
        (None, [("run.name", "mine")], "mine", None),
        (None, [("tracking.name", "Ours")], "demo-s1-r1", "Ours"),
    ],
)
def test_a_run_without_a_name_is_named_by_the_sweep_and_shown_by_wandb_name(
    monkeypatch: pytest.MonkeyPatch, path: str | None, flags: list[tuple[str, str]], name: str, shown: str | None
) -> None:
    for variable, value in {"SWEEP_ID": "s1", "RUN_ID": "r1", "NAME": "Shown"}.items():
        monkeypatch.setenv(f"WANDB_{variable}", value)
    config, problems = load_config(path, flags)
    assert problems == []
    assert config is not None
    assert (config.run.name, config.tracking.name) == (name, shown)


def test_a_run_outside_a_sweep_is_named_by_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    config, _ = load_config("vqvae_debug", [])
    assert config is not None
    assert config.run.name == "vqvae_debug"
