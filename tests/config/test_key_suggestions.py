"""The key that was probably meant by an unknown one."""

import pytest

from vqdist.config import key_suggestions
from vqdist.config.key_suggestions import suggest
from vqdist.config.model_config import MODEL_CONFIGS
from vqdist.config.schema import list_keys

KEYS = {task: [key.name for key in list_keys(task)] for task in MODEL_CONFIGS}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("optim.learning_rate", "optim.lr"),
        ("learning-rate", "optim.lr"),
        ("train.lr", "optim.lr"),
        ("batch_size", "data.global_batch_size"),
        ("train.epochs", "train.max_steps"),
        ("model.codebook_size", "model.num_codes"),
        ("model.hiden", "model.hidden"),
        ("run.root", "run.dir"),
        ("run.path", "run.dir"),
        ("root", "data.path"),
        ("nothing.like_it", None),
    ],
)
def test_the_name_the_meaning_and_the_spelling_count_in_this_order(name: str, expected: str | None) -> None:
    assert suggest(name, KEYS["vqvae"]) == expected


def test_every_proposed_key_exists() -> None:
    every = {name for names in KEYS.values() for name in names}
    assert {key for keys in key_suggestions._MEANINGS.values() for key in keys} <= every
    assert suggest("model.num_layers", KEYS["pixelcnn"]) == "model.layers"
    assert suggest("model.num_layers", KEYS["vqvae"]) == "model.residual_layers"
