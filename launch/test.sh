#!/usr/bin/env bash
# Lint, types and tests, in an environment of their own: bash launch/test.sh [pytest arguments]
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# Tests start many small processes: threads of one that wait for another's core would make them crawl.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

ruff check .
ruff format --check .
mypy
python -m pytest "$@"
