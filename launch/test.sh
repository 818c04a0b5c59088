#!/usr/bin/env bash
# Lint, types and tests, in an environment of their own: bash launch/test.sh [pytest arguments]
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

ruff check .
ruff format --check .
mypy
python -m pytest "$@"
