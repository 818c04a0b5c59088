# Sourced by the batch scripts: environment, rendezvous, ranks and data staging of a job.
# $home is the folder that contains slurm/ and launch/.
# shellcheck shell=bash disable=SC2154

[[ -n ${SLURM_JOB_ID:-} ]] || { echo "error: SLURM_JOB_ID: found none; expected a job of Slurm: use sbatch" >&2; exit 2; }
# shellcheck source=slurm/interpreter.sh
source "$home/slurm/interpreter.sh"
# shellcheck source=slurm/outer_job.sh
source "$home/slurm/outer_job.sh"
clear_outer_job

# In the last task of an array SLURM_JOB_ID is the ID of the whole array.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

log() { echo "[$(date '+%F %T') job $job] $*"; }

field() { # FILE KEY: print a value of a JSON object, or nothing if it is missing
  [[ -e $1 ]] || return 0
  run_python -c '
import json, sys
value = json.load(sys.stdin).get(sys.argv[1])
print("" if value is None else value)' "$2" <"$1"
}

# Applies the settings of the site, finds the interpreter and clears launcher variables of the submitting shell.
prepare() {
  ((${#cleared[@]} == 0)) || log "notice: cleared variables of the job in which sbatch was called: $(describe_cleared)"
  unset RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT SRUN_CPUS_PER_TASK
  unset TORCHELASTIC_RUN_ID ACCELERATE_MIXED_PRECISION VQDIST_STAGED_DATA
  # With sbatch --export=NONE it would keep the variables that are set here from the ranks.
  unset SLURM_EXPORT_ENV
  local site
  read_site
  choose_interpreter
  # In Slurm 22.05 to 23.02 srun does not inherit --cpus-per-task.
  [[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  local per_node
  per_node=$(ranks_per_node) || per_node=
  if [[ ${ACCELERATE_USE_CPU:-} == true ]] && ((${SLURM_GPUS_ON_NODE:-0})); then
    log "notice: ACCELERATE_USE_CPU=true is set in the environment: the GPUs of this job are not used"
  fi
  if [[ -n $per_node ]] && ((per_node < ${SLURM_GPUS_ON_NODE:-0})); then
    log "warning: ranks per node: found $per_node for $SLURM_GPUS_ON_NODE GPUs, of which the others are idle; expected" \
      "one per GPU: submit without --ntasks and --ntasks-per-node, or with --ntasks-per-node=$SLURM_GPUS_ON_NODE"
  fi
  share_gpus "$per_node"
}

# With --gpus-per-task each task would see its own GPU only, which hides the others from NCCL, and the launcher of a node
# would get the GPU of one task. Instead every task sees all GPUs of the job on its node.
share_gpus() { # RANKS_PER_NODE: empty if nodes differ, whose tasks keep their own GPU
  local shared=()
  [[ -n ${SLURM_GPUS_PER_TASK:-} || ${SLURM_TRES_PER_TASK:-} == *gpu* ]] || return 0
  [[ -n $1 && -n ${SLURM_GPUS_ON_NODE:-} ]] || return 0
  unset SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK SLURM_GPU_BIND SLURM_TRES_BIND
  shared=(--gpus-per-node="$SLURM_GPUS_ON_NODE")
  # It unsets CUDA_VISIBLE_DEVICES; without device cgroups the ranks would then also see the GPUs of other jobs.
  [[ ! $(scontrol show config 2>/dev/null) =~ ConstrainDevices[[:space:]]*=[[:space:]]*yes ]] || shared+=(--gpu-bind=none)
  run_flags=("${shared[@]}" ${run_flags[@]+"${run_flags[@]}"})
}

# Prints the number of ranks per node: the requested tasks, else one per GPU, else one.
ranks_per_node() {
  local tasks=${SLURM_TASKS_PER_NODE:-1}
  if [[ -n ${SLURM_NTASKS:-} ]]; then
    [[ $tasks =~ ^([0-9]+)(\(x[0-9]+\))?$ ]] || return 1
    echo "${BASH_REMATCH[1]}"
  else
    echo "${SLURM_GPUS_ON_NODE:-1}"
  fi
}

# Sets MASTER_ADDR to the first node and MASTER_PORT to a free port of it. Each job has its own range of ten ports;
# otherwise two jobs that start at the same time could choose the same one.
set_rendezvous() {
  MASTER_ADDR=${VQDIST_MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)}
  local first=$((10000 + SLURM_JOB_ID % 2000 * 10))
  for ((MASTER_PORT = first; MASTER_PORT < first + 10; MASTER_PORT++)); do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$MASTER_PORT") 2>/dev/null; then
      export MASTER_ADDR MASTER_PORT
      return
    fi
  done
  log "error: ports $first to $((first + 9)) of $(uname -n): found all in use; expected a free one for the rendezvous"
  exit 2
}

# start_ranks MODULE ARGUMENTS: starts srun in the background, so that traps run at once, and sets $ranks to its PID.
start_ranks() {
  local per_node flags=(--kill-on-bad-exit=1 ${run_flags[@]+"${run_flags[@]}"}) on_node=()
  in_srun_container || on_node=("$home/slurm/on_node.sh") # the environment of a container needs no modules of the node
  set_rendezvous
  if [[ ${VQDIST_LAUNCH:-rank} == accelerate ]]; then
    if ! per_node=$(ranks_per_node); then
      log "error: SLURM_TASKS_PER_NODE: found $SLURM_TASKS_PER_NODE; expected the same on each node: set --ntasks-per-node"
      exit 2
    fi
    # The launcher of a node gets all CPUs and GPUs of the job there.
    unset SRUN_CPUS_PER_TASK SLURM_CPUS_PER_GPU
    flags+=(--ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE")
    RANKS=$per_node srun "${flags[@]}" ${on_node[@]+"${on_node[@]}"} "$home/launch/node.sh" "$@" &
  else
    if [[ -z ${SLURM_NTASKS:-} ]]; then
      per_node=$(ranks_per_node)
      if ((SLURM_CPUS_ON_NODE < per_node)); then
        log "error: CPUs per node: found $SLURM_CPUS_ON_NODE for $per_node GPUs; expected one or more per GPU: --cpus-per-gpu=8"
        exit 2
      fi
      unset SLURM_CPUS_PER_GPU # conflicts with the --cpus-per-task set below
      flags+=(--ntasks=$((per_node * SLURM_JOB_NUM_NODES)) --ntasks-per-node="$per_node")
      flags+=(--cpus-per-task=$((SLURM_CPUS_ON_NODE / per_node)))
    fi
    srun "${flags[@]}" ${on_node[@]+"${on_node[@]}"} "$home/launch/rank.sh" "$@" &
  fi
  ranks=$!
}

# Waits for the ranks and returns their exit code, also if signals arrive. If $warned is 1, sends USR1 to the ranks
# every 5 s, because a rank that is still importing torch ignores it.
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

show_logs() { # FOLDER: print the last lines of the first eight rank logs
  local log
  for log in $(find "$1" -name 'rank-*.log' | sort -V | head -n 8); do
    echo "--- $log"
    tail -n 16 "$log"
  done
}

# Copies a dataset to every node; prints the folder, or nothing if it does not fit on all nodes.
stage_data() { # FOLDER
  [[ -n ${VQDIST_SCRATCH:-} && -e $1/dataset.json ]] || return 0
  local copy=$VQDIST_SCRATCH/vqdist-$SLURM_JOB_ID
  if srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \
    "$home/slurm/stage.sh" "$1" "$copy" >&2; then
    echo "$copy"
  else
    log "$1 was not staged and is read in place" >&2
  fi
}

unstage_data() { # FOLDER
  [[ -z $1 ]] || srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 rm -rf "$1" || true
}

# Prints the options of sbatch with which this job was submitted, one per line, from its record and variables.
list_options() {
  local record field variable
  record=$(scontrol --oneliner show job "$SLURM_JOB_ID" 2>/dev/null) || return 1
  local -A fields=([Partition]=partition [Account]=account [QOS]=qos [TimeLimit]=time [Features]=constraint
    [Reservation]=reservation [JobName]=job-name [StdOut]=output)
  local -A variables=([SLURM_NTASKS]=ntasks [SLURM_NTASKS_PER_NODE]=ntasks-per-node [SLURM_CPUS_PER_TASK]=cpus-per-task
    [SLURM_GPUS]=gpus [SLURM_GPUS_PER_NODE]=gpus-per-node [SLURM_GPUS_PER_TASK]=gpus-per-task
    [SLURM_CPUS_PER_GPU]=cpus-per-gpu [SLURM_MEM_PER_NODE]=mem [SLURM_MEM_PER_CPU]=mem-per-cpu
    [SLURM_MEM_PER_GPU]=mem-per-gpu [SLURM_JOB_NUM_NODES]=nodes)
  for field in "${!fields[@]}"; do
    [[ -z $(field_of "$field") ]] || echo "--${fields[$field]}=$(field_of "$field")"
  done
  for variable in "${!variables[@]}"; do
    [[ -z ${!variable:-} ]] || echo "--${variables[$variable]}=${!variable}"
  done
  field=$(field_of TresPerNode)
  [[ -z $field || -n ${SLURM_GPUS_PER_NODE:-} ]] || echo "--gres=${field//gres[:\/]/}"
}

submit_again() { # SCRIPT ARGUMENT...: submit a job with $options, to start after this one; print its ID
  local id
  ((${#options[@]})) || return 1
  id=$(sbatch --parsable --dependency="afterany:$SLURM_JOB_ID" --open-mode=append "${options[@]}" "$@") || return 1
  id=${id%%;*}
  [[ ! -e ${VQDIST_JOB_FILE:-} ]] || echo "$id" >"$VQDIST_JOB_FILE" # pipeline.sh then knows the job of the stage
  echo "$id"
}
