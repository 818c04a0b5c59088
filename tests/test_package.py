"""The public names of the package, which are imported on first use."""

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vqdist
from vqdist import VQVAE, PixelCNN, VectorQuantizer, load_model, load_picture, save_model
from vqdist.config.model_config import PixelCNNConfig, QuantizerConfig, VQVAEConfig
from vqdist.config.section import Section


def test_importing_the_package_does_not_import_torch() -> None:
    script = "import sys, vqdist; print(vqdist.__version__, 'torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout.split() == [vqdist.__version__, "False"]


def test_the_public_names_exist() -> None:
    found = (VQVAE, PixelCNN, VectorQuantizer, load_model, load_picture, save_model)
    assert {item.__name__ for item in found} == set(vqdist.__all__)
    assert set(vqdist.__all__) <= set(dir(vqdist))


def test_the_console_script_is_a_function_of_the_package() -> None:
    scripts = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["vqdist"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'VQVEA'"):
        _ = vqdist.VQVEA


@pytest.mark.parametrize(
    ("part", "section", "required"),
    [
        (VQVAE, VQVAEConfig, set()),
        (PixelCNN, PixelCNNConfig, {"num_codes"}),
        (VectorQuantizer, QuantizerConfig, {"num_codes", "code_dim"}),
    ],
)
def test_constructors_have_the_defaults_of_the_configuration(
    part: type, section: type[Section], required: set[str]
) -> None:
    arguments = inspect.signature(part).parameters
    assert {name for name, found in arguments.items() if found.default is inspect.Parameter.empty} == required
    keys = {name: field.default for name, field in section.model_fields.items()}
    shared = (keys.keys() & arguments.keys()) - required
    assert {name: arguments[name].default for name in shared} == {name: keys[name] for name in shared}
    assert part is VectorQuantizer or keys.keys() <= arguments.keys()
