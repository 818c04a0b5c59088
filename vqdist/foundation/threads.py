"""Settings of the OpenMP threads of torch. They must be made before torch is loaded."""

import os
from collections.abc import MutableMapping

SPIN_COUNT = "10000"  # a lower one makes a step slower on cores without other work; see launch/README.md
# Variables by which a user or a launcher sets the wait policy.
POLICY_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def limit_spinning(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let the threads of libgomp wait for each other for a short time only before they sleep.

    By default a thread that waits occupies its core for 300,000 rounds of a loop, some milliseconds. If another process
    uses the same cores, the thread that is waited for may not run during that time. Other OpenMP libraries, such as
    that of torch on macOS, ignore the variable. A setting of the user is kept.
    """
    if not any(name in environ for name in POLICY_VARIABLES):
        environ["GOMP_SPINCOUNT"] = SPIN_COUNT
