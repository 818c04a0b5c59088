#!/usr/bin/env bash
# Runs lint, type checks and tests: bash launch/test.sh [PYTEST ARGUMENT ...]
# Installs the package with its `dev` extra first; see environment.sh.
EXTRAS=dev
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# The tests start many small processes; with several threads each they would compete for the cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

ruff check .
ruff format --check .
mypy
# Two processes: many tests wait for other processes, so that one alone leaves cores idle (-n 0: in this process).
python -m pytest -n 2 --dist loadscope --no-loadscope-reorder "$@"
