"""model.condition: lists of names, and the words of earlier versions."""

import pytest

from vqdist.config.condition_key import CONDITION_WORDS, list_names
from vqdist.config.loading import load_config
from vqdist.config.model_config import PixelCNNConfig
from vqdist.config.schema import dump_yaml


@pytest.mark.parametrize(
    ("value", "expected", "names"),
    [
        ("none", "none", ()),
        ([], "none", ()),
        (["none"], "none", ()),
        ("label+slice", "label+slice", ("label", "slice")),
        (["slice", "label"], "label+slice", ("label", "slice")),
        (["slice"], "slice", ("slice",)),
        (["age", "slice", "sex"], ("slice", "age", "sex"), ("slice", "age", "sex")),
        ("slice+age", ("slice", "age"), ("slice", "age")),
        ("age", ("age",), ("age",)),
    ],
)
def test_old_words_stay_and_lists_are_names(value: object, expected: object, names: tuple[str, ...]) -> None:
    found = PixelCNNConfig(condition=value).condition
    assert found == expected
    assert list_names(found) == names


def test_old_words_are_what_they_were() -> None:
    assert [PixelCNNConfig(condition=word).condition for word in CONDITION_WORDS] == list(CONDITION_WORDS)


@pytest.mark.parametrize("value", [["age", "age"], ["age", "none"], [3], "", ["subject"], 5, ["age", ""]])
def test_what_is_no_list_of_names_is_named(value: object) -> None:
    with pytest.raises(ValueError, match="a list of"):
        PixelCNNConfig(condition=value)


def test_a_flag_and_the_saved_configuration_give_the_same_names(tmp_path) -> None:
    flags = [("task", "pixelcnn"), ("data.path", "codes"), ("model.condition", "[slice, age, sex]")]
    config, problems = load_config(None, flags)
    assert problems == []
    assert config is not None
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    again, problems = load_config(tmp_path / "config.yaml", [])
    assert problems == []
    assert again.model == config.model
    assert again.model.condition == ("slice", "age", "sex")
