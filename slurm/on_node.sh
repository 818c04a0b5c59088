#!/usr/bin/env bash
# Runs a command after the function site_environment of slurm/site.sh. Usage: slurm/on_node.sh COMMAND [ARGUMENT ...]
#
# job.sh starts every task with it: srun passes on the variables of the job's first node, but what site_environment does
# to a node, for example unpacking an environment to its disk, has to be done on each.
set -euo pipefail
trap '' USR1 # it asks the ranks for a checkpoint, and may arrive before they run
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=slurm/interpreter.sh
source "$home/slurm/interpreter.sh"
read_site
enter_environment
exec "$@"
