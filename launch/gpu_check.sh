#!/usr/bin/env bash
# Checks on one GPU what tests on CPUs cannot, in under 6 minutes: bash launch/gpu_check.sh [OPTIONS]
# Run it in the environment that vqdist is installed in. It prints a Markdown table to stderr, for launch/README.md,
# and the same as JSON to stdout; OUT has both and the logs. The exit code is 1 if a check fails.
#   --out OUT         folder for the results; replaced (default: gpu_check in the folder of temporary files)
#   --data DIR        datasets that --prepare has written; without it they are made first, which needs webdataset
#   --prepare DIR     only write these datasets, on a machine that has webdataset
#   --device cpu      compare the CPU with itself; with --small true, to test the script
#   --small true      tiny sizes; the figures mean nothing
# With --data it needs none of wandb, webdataset, nibabel, matplotlib and fsspec.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source-path=SCRIPTDIR
source "$here/usage.sh"
answer_help "$@"
export WANDB_MODE=disabled PYTHONPATH=$(realpath "$here/..")${PYTHONPATH:+:$PYTHONPATH}
exec python "$here/gpu_check" "$@"
