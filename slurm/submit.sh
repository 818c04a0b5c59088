#!/usr/bin/env bash
# Submits one job with the settings of slurm/site.sh, after a check of its arguments.
#
#     slurm/submit.sh [--dry-run|--no-check] [SBATCH-OPTION ...] SCRIPT [ARGUMENT ...]
#
#     slurm/submit.sh --nodes=2 --gpus-per-node=4 slurm/train.sbatch --config vqvae_oasis --data.path data/oasis
#     slurm/submit.sh slurm/command.sbatch vqdist.evaluate --run runs/vqvae_oasis
#     slurm/submit.sh --array=1-8%4 slurm/sweep.sbatch sweep.txt
#
#     SCRIPT       train.sbatch, command.sbatch or sweep.sbatch
#     --dry-run    check the arguments and print the call of sbatch without submitting
#     --no-check   submit without the check, for a login node on which vqdist cannot run
#
# The settings are not left in the shell that calls this script.
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/usage.sh
source "$home/launch/usage.sh"
# shellcheck source=slurm/interpreter.sh
source "$home/slurm/interpreter.sh"

fail() {
  echo "submit.sh: error: $*" >&2
  exit 2
}

answer_help "$@"
dry_run=0 check=1
while [[ ${1:-} == --dry-run || ${1:-} == --no-check ]]; do
  if [[ $1 == --dry-run ]]; then dry_run=1; else check=0; fi
  shift
done
script=
for word in "$@"; do [[ $word != *.sbatch ]] || { script=$word; break; }; done
[[ -n $script ]] || { print_usage "$0" >&2; fail "SCRIPT: found none; expected train.sbatch, command.sbatch or sweep.sbatch"; }
[[ -e $script ]] || fail "SCRIPT: found no file $script; expected $home/slurm/$(basename "$script")"
((dry_run)) || command -v sbatch >/dev/null || fail "found no sbatch on the PATH; expected a login node of a cluster with Slurm"

read_site
if ((check)) && [[ $script != *sweep.sbatch ]]; then
  ( # the environment of the check does not reach the job, which enters its own
    choose_interpreter
    run_module vqdist.doctor --help >/dev/null 2>&1 ||
      fail "\`${container[*]+${container[*]} }$VQDIST_PYTHON -m vqdist.doctor\` found no working environment; expected the" \
        "one of \`bash launch/environment.sh\`, or VQDIST_PYTHON; --no-check submits without it"
    echo "job: $(quote sbatch "$@")" | run_module vqdist.diagnosis.pipeline_plan /nonexistent >&2
  ) || { code=$?; echo "submit.sh: error: the job would fail: see above; nothing was submitted" >&2; exit "$code"; }
fi
if ((dry_run)); then
  quote sbatch "$@"
  exit 0
fi
exec sbatch "$@"
