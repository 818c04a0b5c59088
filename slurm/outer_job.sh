# Sourced by job.sh: clears the variables of another job in which sbatch was called.
#
# sbatch passes its environment on. In a step of a job (srun --pty bash, Jupyter) or in an salloc shell that environment
# describes the outer job: SLURM_NTASKS=1 would start one rank, SLURM_MEM_PER_CPU beside --mem makes srun fail. Slurm
# replaces only the variables of options that the new job uses, so each is compared with the record of the job.
# shellcheck shell=bash

# Variables that only the tasks of a step have, and that a batch script therefore never has.
list_step_variables() {
  compgen -A variable | grep -E '^(SLURM_(STEP_|STEPID$|SRUN_|PTY_|LAUNCH_NODE_IPADDR$)|OMPI_COMM_WORLD_|PMI_(RANK|SIZE)$|MV2_COMM_WORLD_)' || true
}

field_of() { # FIELD: print its value in $record; nothing if it is not set
  local value
  [[ $record =~ (^|[[:space:]])"$1"=([^[:space:]]*) ]] || return 0
  value=${BASH_REMATCH[2]}
  [[ $value == '(null)' || $value == N/A ]] || echo "$value"
}

drop() { # VARIABLE...: unset those that are set, and add them to $cleared
  local name
  for name in "$@"; do
    [[ -n ${!name+set} ]] || continue
    cleared+=("$name=${!name}")
    unset "$name"
  done
}

drop_unless_equal() { # VALUE VARIABLE...: nothing is dropped if the value is empty, because the record lacks it
  local name value=$1
  for name in "${@:2}"; do
    [[ -z $value || ${!name:-$value} == "$value" ]] || drop "$name"
  done
}

count_tasks() { # print the sum of Slurm's "4(x2),3"
  local group times=1 sum=0
  for group in ${SLURM_TASKS_PER_NODE//,/ }; do
    times=1
    [[ $group != *x* ]] || { times=${group#*x}; times=${times%)}; }
    group=${group%%[(]*}
    sum=$((sum + times * group))
  done
  echo "$sum"
}

# Clears what the job's record contradicts. Sets $cleared to the assignments that were removed.
clear_outer_job() {
  local record steps per_node restarts gpus=0
  cleared=(${cleared[@]+"${cleared[@]}"})
  record=$(scontrol --oneliner --details show job "$SLURM_JOB_ID" 2>/dev/null | grep "^JobId=$SLURM_JOB_ID ") || true
  steps=$(list_step_variables)
  if [[ -z $record ]]; then
    [[ -z $steps ]] || {
      echo "error: ${steps//$'\n'/, }: found variables of the job in which sbatch was called, and no answer from" \
        "scontrol; expected none: submit it again with \`env -u SLURM_NTASKS ... sbatch\` or from a login shell" >&2
      exit 2
    }
    return 0
  fi
  # shellcheck disable=SC2086 # one name per word
  drop $steps

  per_node=$(field_of NtasksPerN:B:S:C)
  per_node=${per_node%%:*}
  [[ ${SLURM_NTASKS:-} == "$(count_tasks)" ]] || drop_unless_equal "$(field_of NumTasks)" SLURM_NTASKS SLURM_NPROCS
  drop_unless_equal "$per_node" SLURM_NTASKS_PER_NODE
  drop_unless_equal "$(field_of CPUs/Task)" SLURM_CPUS_PER_TASK
  [[ -n $(field_of MinMemoryCPU) ]] || drop SLURM_MEM_PER_CPU
  [[ $(field_of MinMemoryNode) == [1-9]* ]] || drop SLURM_MEM_PER_NODE
  [[ -n $(field_of MemPerTres) ]] || drop SLURM_MEM_PER_GPU
  [[ -n $(field_of CpusPerTres) ]] || drop SLURM_CPUS_PER_GPU
  [[ -n $(field_of TresPerJob) ]] || drop SLURM_GPUS
  [[ -n $(field_of TresPerNode) ]] || drop SLURM_GPUS_PER_NODE
  [[ -n $(field_of TresPerSocket) ]] || drop SLURM_GPUS_PER_SOCKET
  [[ -n $(field_of TresPerTask) ]] || drop SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK
  [[ ! $record =~ (TresPer[A-Za-z]+|GRES)=[^[:space:]]*gpu ]] || gpus=1
  ((gpus)) || drop SLURM_GPUS_ON_NODE SLURM_JOB_GPUS
  # shellcheck disable=SC2046 # one name per word
  [[ -n $(field_of ArrayJobId) ]] || drop $(compgen -A variable SLURM_ARRAY_ || true)
  # shellcheck disable=SC2046
  [[ -n $(field_of HetJobId) ]] || drop $(compgen -A variable SLURM_HET_ || true)
  restarts=$(field_of Restarts)
  [[ ${SLURM_RESTART_COUNT:-0} == "${restarts:-0}" ]] || {
    drop SLURM_RESTART_COUNT
    export SLURM_RESTART_COUNT=${restarts:-0}
  }
  if [[ -n $steps ]]; then
    # Options of the outer srun, which the record does not show.
    # shellcheck disable=SC2046
    drop $(compgen -A variable SLURM_CPU_BIND || true) $(compgen -A variable SLURM_MEM_BIND || true) SLURM_DISTRIBUTION \
      SLURM_OVERCOMMIT SLURM_OVERLAP SLURM_EXACT SLURM_THREADS_PER_CORE SLURM_HINT SLURM_NTASKS_PER_CORE \
      SLURM_NTASKS_PER_SOCKET SLURM_NTASKS_PER_GPU SLURM_MPI_TYPE
  fi
  # In the record a job without a number of tasks has one per node, like the outer job. With GPUs it has one per GPU.
  if ((gpus && ${#cleared[@]})) && [[ ${per_node:-0} == 0 && ${SLURM_NTASKS:-} == "$SLURM_JOB_NUM_NODES" ]]; then
    drop SLURM_NTASKS SLURM_NPROCS
  fi
}

describe_cleared() { # print $cleared: at most five, and how many more
  local shown
  shown=$(printf ', %s' "${cleared[@]:0:5}")
  echo "${shown:2}$( ((${#cleared[@]} <= 5)) || echo " and $((${#cleared[@]} - 5)) more")"
}
