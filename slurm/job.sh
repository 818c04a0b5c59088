# Sourced by the batch scripts: what every job of vqdist does around its ranks.
# $home is the folder that holds slurm/ and launch/.
# shellcheck shell=bash disable=SC2154

# Of an array's last task the plain number would mean the whole array.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

say() { echo "[$(date '+%F %T') job $job] $*"; }

field() { # FILE KEY: a value of a JSON object, nothing where there is none
  [[ -e $1 ]] || return 0
  ${container[@]+"${container[@]}"} "$VQDIST_PYTHON" -c '
import json, sys
value = json.load(sys.stdin).get(sys.argv[1])
print("" if value is None else value)' "$2" <"$1"
}

# The site's settings, the interpreter, and nothing of a launcher that the submitting shell may have had.
prepare() {
  unset RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT
  local site=${VQDIST_SITE:-$home/slurm/site.sh}
  # shellcheck disable=SC1090
  [[ ! -e $site ]] || source "$site"
  ! declare -F site_environment >/dev/null || site_environment
  if [[ -z ${VQDIST_PYTHON:-} && -z ${VQDIST_CONTAINER:-} ]]; then
    VQDIST_PYTHON=$(command -v python || command -v python3)
    [[ ! -x $home/.venv/bin/python ]] || VQDIST_PYTHON=$home/.venv/bin/python
  fi
  VQDIST_PYTHON=${VQDIST_PYTHON:-python}
  export VQDIST_PYTHON VQDIST_CONTAINER=${VQDIST_CONTAINER:-} PYTHONUNBUFFERED=1
  export PYTHONPATH=$home${PYTHONPATH:+:$PYTHONPATH}
  # Slurm 22.05 to 23.02 does not hand --cpus-per-task on to srun.
  [[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  read -ra run_flags <<<"${VQDIST_SRUN:-}"
  read -ra container <<<"$VQDIST_CONTAINER"
}

vqdist() { # MODULE ARGUMENTS: one process on this node
  ${container[@]+"${container[@]}"} "$VQDIST_PYTHON" -m "$@"
}

# Ranks of each node: as asked, else one per GPU, else one.
ranks_per_node() {
  local tasks=${SLURM_TASKS_PER_NODE:-1}
  if [[ -n ${SLURM_NTASKS:-} ]]; then
    [[ $tasks =~ ^([0-9]+)(\(x[0-9]+\))?$ ]] || return 1
    echo "${BASH_REMATCH[1]}"
  else
    echo "${SLURM_GPUS_ON_NODE:-1}"
  fi
}

# The first node and a port that nobody there listens on. Each job has ten ports for itself: two that start together
# would else find the same one free.
set_rendezvous() {
  MASTER_ADDR=${VQDIST_MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)}
  local first=$((10000 + SLURM_JOB_ID % 2000 * 10))
  for ((MASTER_PORT = first; MASTER_PORT < first + 10; MASTER_PORT++)); do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$MASTER_PORT") 2>/dev/null; then
      export MASTER_ADDR MASTER_PORT
      return
    fi
  done
  say "error: ports $first to $((first + 9)) of $(uname -n) are all taken; expected a free one for the ranks to meet"
  exit 2
}

# start_ranks MODULE ARGUMENTS: in the background, so that traps are not delayed; its process is $ranks.
start_ranks() {
  local per_node flags=(--kill-on-bad-exit=1 ${run_flags[@]+"${run_flags[@]}"})
  set_rendezvous
  if [[ ${VQDIST_LAUNCH:-rank} == accelerate ]]; then
    per_node=$(ranks_per_node) || { say "error: as many ranks on each node, please: --ntasks-per-node"; exit 2; }
    # The launcher of a node gets all that the job has there.
    unset SRUN_CPUS_PER_TASK SLURM_CPUS_PER_GPU
    flags+=(--ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE")
    RANKS=$per_node srun "${flags[@]}" "$home/launch/node.sh" "$@" &
  else
    if [[ -z ${SLURM_NTASKS:-} ]]; then
      per_node=$(ranks_per_node)
      unset SLURM_CPUS_PER_GPU # srun takes it for another wish than the share that each rank gets here
      flags+=(--ntasks=$((per_node * SLURM_JOB_NUM_NODES)) --ntasks-per-node="$per_node")
      flags+=(--cpus-per-task=$((SLURM_CPUS_ON_NODE > per_node ? SLURM_CPUS_ON_NODE / per_node : 1)))
    fi
    srun "${flags[@]}" "$home/launch/rank.sh" "$@" &
  fi
  ranks=$!
}

# Waits for the ranks, through any signal that this shell gets. Once $warned is 1 the ranks are told, and told
# again, since one that still imports torch does not listen.
wait_ranks() {
  local code=0 pause
  while kill -0 "$ranks" 2>/dev/null; do
    code=0
    if ((warned && !terminated)); then
      scancel --signal=USR1 "$job" || true
      sleep 5 &
      pause=$!
      wait -n "$ranks" "$pause" || code=$?
      kill "$pause" 2>/dev/null || true
    else
      wait "$ranks" || code=$?
    fi
  done
  return "$code"
}

show_logs() { # FOLDER: how each rank ended, the first few of them
  local log
  for log in $(find "$1" -name 'rank-*.log' | sort -V | head -n 8); do
    echo "--- $log"
    tail -n 8 "$log"
  done
}

# Copies a data set to every node; prints the folder, or nothing where it does not fit on all of them.
stage_data() { # FOLDER
  [[ -n ${VQDIST_SCRATCH:-} && -e $1/dataset.json ]] || return 0
  local copy=$VQDIST_SCRATCH/vqdist-$SLURM_JOB_ID
  if srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \
    "$home/slurm/stage.sh" "$1" "$copy" >&2; then
    echo "$copy"
  else
    say "not staged: reading $1 itself" >&2
  fi
}

unstage_data() { # FOLDER
  [[ -z $1 ]] || srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 rm -rf "$1" || true
}
