"""Settings of the OpenMP threads of torch. They must be made before torch is loaded."""

import os
from collections.abc import MutableMapping

# Variables by which a user or a launcher sets the wait policy.
POLICY_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


def limit_spinning(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP threads wait for each other for a short time only before they sleep.

    By default a thread that waits occupies its core for milliseconds: libgomp for 300,000 rounds of a loop, LLVM's and
    Intel's libraries for 200 ms. If another process uses the same cores, the thread that is waited for may not run
    during that time. A setting of the user is kept.
    """
    if not any(name in environ for name in POLICY_VARIABLES):
        environ["GOMP_SPINCOUNT"] = "10000"
        environ["KMP_BLOCKTIME"] = "1"
