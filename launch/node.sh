#!/usr/bin/env bash
# Starts all ranks of one machine through `accelerate launch`. Run the same command on every machine of a run.
#
#   under Slurm, one task per node (VQDIST_LAUNCH=accelerate does this):
#       srun --ntasks-per-node=1 launch/node.sh vqdist.train --config FILE
#   without Slurm, on two machines with four GPUs each:
#       NODES=2 NODE=0 RANKS=4 MASTER_ADDR=host1 launch/node.sh vqdist.train --config FILE    (on host1)
#       NODES=2 NODE=1 RANKS=4 MASTER_ADDR=host1 launch/node.sh vqdist.train --config FILE    (on host2)
#
# RANKS is the number of ranks on this machine. Without a GPU they run on the CPU, with the gloo backend.
set -euo pipefail
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/network.sh
source "$folder/network.sh"
# shellcheck source=launch/usage.sh
source "$folder/usage.sh"
answer_help "$@"
(($# > 0)) || fail "MODULE: found nothing; expected launch/node.sh MODULE [ARGUMENT ...]"

nodes=${NODES:-${SLURM_STEP_NUM_NODES:-1}}
node=${NODE:-${SLURM_NODEID:-0}}
ranks=${RANKS:-1}
export MASTER_ADDR=${MASTER_ADDR:-127.0.0.1} MASTER_PORT=${MASTER_PORT:-29500}
((nodes == 1)) || [[ $MASTER_ADDR != 127.* ]] || fail "MASTER_ADDR: found $MASTER_ADDR; expected the host name of the first machine"
check_main_address
unset RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE

flags=(--num_processes "$((nodes * ranks))" --no_python)
if ((nodes > 1)); then
  config=nodes
  flags+=(--num_machines "$nodes" --machine_rank "$node" --main_process_ip "$MASTER_ADDR")
elif ((ranks > 1)); then
  config=node
elif has_gpu || [[ $(uname) == Darwin ]]; then
  config=gpu
else
  config=cpu
fi
flags+=(--main_process_port "$MASTER_PORT" --config_file "$folder/accelerate/$config.yaml")
((nodes * ranks == 1)) || has_gpu || export ACCELERATE_USE_CPU=true

# USR1 requests a checkpoint from the ranks. It would kill the launcher, which inherits that it is ignored here.
trap '' USR1
read -ra container <<<"${VQDIST_CONTAINER:-}"
exec ${container[@]+"${container[@]}"} "${VQDIST_PYTHON:-python}" -m accelerate.commands.launch \
  "${flags[@]}" "$folder/rank.sh" "$@"
