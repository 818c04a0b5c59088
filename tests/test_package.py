"""The package's front door: four names, and nothing heavy behind it until one of them is asked for."""

import subprocess
import sys

import pytest

import vqdist


def test_importing_the_package_does_not_import_torch() -> None:
    script = "import sys, vqdist; print(vqdist.__version__, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [vqdist.__version__, "False"]


def test_the_public_names_are_there() -> None:
    from vqdist import VQVAE, PixelCNN, VectorQuantizer, load_model

    assert {item.__name__ for item in (VQVAE, PixelCNN, VectorQuantizer, load_model)} == set(vqdist.__all__)
    assert set(vqdist.__all__) <= set(dir(vqdist))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'VQVEA'"):
        _ = vqdist.VQVEA
