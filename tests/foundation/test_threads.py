"""The wait policy of OpenMP threads reaches the library that torch loads; a setting of the user is kept."""

import os
import subprocess
import sys

import pytest

from vqdist.foundation.threads import POLICY_VARIABLES, SPIN_COUNT, limit_spinning

COMMAND = "from vqdist.foundation.command import run_command; run_command(lambda _: int(not __import__('torch')), [])"


@pytest.mark.skipif(sys.platform != "linux", reason="torch has libgomp on Linux only")
@pytest.mark.parametrize(("given", "rounds"), [({}, SPIN_COUNT), ({"GOMP_SPINCOUNT": "77"}, "77")])
def test_a_command_limits_the_spinning_of_libgomp(given: dict[str, str], rounds: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in POLICY_VARIABLES}
    environment |= {"OMP_DISPLAY_ENV": "verbose"} | given
    done = subprocess.run([sys.executable, "-c", COMMAND], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"GOMP_SPINCOUNT = '{rounds}'" in done.stderr


@pytest.mark.parametrize("name", POLICY_VARIABLES)
def test_a_policy_of_the_user_is_kept(name: str) -> None:
    environ = {name: "active"}
    limit_spinning(environ)
    assert environ == {name: "active"}
