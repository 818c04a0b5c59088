#!/usr/bin/env bash
# Starts one rank of a run: sets the variables that torch and Accelerate read, then executes
# `python -m MODULE ARGUMENT ...`.
#
#   under Slurm, one task per rank (slurm/train.sbatch does this):
#       srun launch/rank.sh vqdist.train --config FILE
#   without Slurm, once per rank on each machine (LOCAL_RANK counts from 0 on each):
#       RANK=3 LOCAL_RANK=1 WORLD_SIZE=4 MASTER_ADDR=host1 MASTER_PORT=29500 launch/rank.sh vqdist.train --config FILE
#   under mpirun, here Open MPI (MPICH and Intel MPI: PMI_RANK, PMI_SIZE and MPI_LOCALRANKID):
#       mpirun -n 4 -x MASTER_ADDR=host1 -x MASTER_PORT=29500 bash -c 'RANK=$OMPI_COMM_WORLD_RANK \
#           LOCAL_RANK=$OMPI_COMM_WORLD_LOCAL_RANK WORLD_SIZE=$OMPI_COMM_WORLD_SIZE \
#           exec launch/rank.sh vqdist.train --config FILE'
#   under `accelerate launch`: launch/node.sh does this.
#
# VQDIST_PYTHON: the interpreter. VQDIST_CONTAINER: command to put before it. VQDIST_LOG_DIR: folder for rank-N.log.
set -euo pipefail
folder=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=launch/network.sh
source "$folder/network.sh"
# shellcheck source=launch/usage.sh
source "$folder/usage.sh"
answer_help "$@"
(($# > 0)) || fail "MODULE: found nothing; expected launch/rank.sh MODULE [ARGUMENT ...]"

tasks_here() { # print this node's number of tasks, from Slurm's "4(x2),3"
  local counts=() group times
  for group in ${SLURM_STEP_TASKS_PER_NODE//,/ }; do
    times=1
    [[ $group != *x* ]] || { times=${group#*x}; times=${times%)}; }
    for ((; times > 0; times--)); do counts+=("${group%%(*}"); done
  done
  echo "${counts[$SLURM_NODEID]}"
}

if [[ -z ${RANK:-} && -n ${SLURM_STEP_NUM_TASKS:-} ]]; then
  export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_STEP_NUM_TASKS LOCAL_WORLD_SIZE
  LOCAL_WORLD_SIZE=$(tasks_here)
  # slurm/train.sbatch sets both; in an salloc shell they are derived from the allocation.
  [[ -n ${MASTER_ADDR:-} ]] || MASTER_ADDR=$(scontrol show hostnames "$SLURM_STEP_NODELIST" | sed -n 1p)
  export MASTER_ADDR MASTER_PORT=${MASTER_PORT:-$((10000 + SLURM_JOB_ID % 2000 * 10 + SLURM_STEP_ID % 10))}
fi

if [[ -n ${VQDIST_LOG_DIR:-} ]]; then
  exec >>"$VQDIST_LOG_DIR/rank-${RANK:-0}.log" 2>&1
  echo "--- $(date '+%F %T') rank ${RANK:-0} of ${WORLD_SIZE:-1} on $(uname -n), attempt $((${SLURM_RESTART_COUNT:-0} + 1)): $*"
fi

if ((${WORLD_SIZE:-1} > 1)); then
  check_main_address
  if ((${LOCAL_WORLD_SIZE:-1} < WORLD_SIZE)); then
    mapfile -t peers < <(scontrol show hostnames "${SLURM_STEP_NODELIST:-}" 2>/dev/null | head -n 4)
    choose_interface "$MASTER_ADDR" "${peers[@]}"
  else
    export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-lo} # one machine: its own name may not resolve
  fi
  has_gpu || export ACCELERATE_USE_CPU=true # Accelerate then uses gloo; without it each process would run on its own
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
else
  unset RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE # a single process needs no process group
fi

# USR1 must not kill the process before training handles it; slurm/job.sh repeats the signal.
trap '' USR1
read -ra container <<<"${VQDIST_CONTAINER:-}"
[[ -z ${TORCHELASTIC_RUN_ID:-} ]] || container=() # node.sh has already entered it
exec ${container[@]+"${container[@]}"} "${VQDIST_PYTHON:-python}" -m "$@"
