# Sourced by the launch scripts: selects the network interface and checks the main address before torch starts.
# shellcheck shell=bash

fail() {
  echo "$(basename "$0"): error: $*" >&2
  exit 2
}

address_of() { # HOST: print its first IPv4 address, or nothing
  getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }' || true
}

# Prints the interface with the route to the first of the given hosts that is another machine. A machine's own name
# often resolves to 127.0.1.1; gloo would then listen on the loopback, where no peer can reach it.
interface_to() { # HOST...
  local host address interface
  for host in "$@"; do
    address=$(address_of "$host")
    [[ -n $address ]] || continue
    interface=$(ip -4 route get "$address" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    if [[ $interface == lo ]]; then # an address of this machine: the interface that has it, if any
      interface=$(ip -4 -oneline address show to "$address" | awk '$2 != "lo" { print $2; exit }')
    fi
    [[ -z $interface ]] || { echo "$interface"; return; }
  done
  ip -4 -oneline address show scope global up | awk '{ print $2; exit }'
}

# Sets the interface for gloo, unless the environment already does. NCCL chooses by itself, because it finds the fast
# networks of a node, of which the one that leads to MASTER_ADDR often is none.
choose_interface() { # HOST...
  command -v ip >/dev/null || return 0
  local interface
  interface=$(interface_to "$@")
  [[ -n $interface ]] || return 0
  export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$interface}
}

# If MASTER_ADDR does not resolve, torch waits without a message until its timeout.
check_main_address() {
  command -v getent >/dev/null || return 0
  [[ -n $(getent ahosts "$MASTER_ADDR" || true) ]] ||
    fail "MASTER_ADDR: found '$MASTER_ADDR', which does not resolve on $(uname -n); expected a host name that resolves on every node"
}

has_gpu() { # [DEVICES]: an NVIDIA or AMD device is visible; DEVICES: the folder of device files
  local devices=${1:-/dev} listed
  [[ ${CUDA_VISIBLE_DEVICES-all} != "" && ${CUDA_VISIBLE_DEVICES-all} != -1* ]] || return 1
  [[ ! -e $devices/kfd ]] || return 0
  # Containers may have the device files without nvidia-smi. Where it is installed its answer counts, because the device
  # files are also there if the job was given no GPU.
  command -v nvidia-smi >/dev/null || { [[ -e $devices/nvidiactl ]]; return; }
  listed=$(nvidia-smi --list-gpus 2>/dev/null) || true # not piped: grep -q would end nvidia-smi with SIGPIPE
  [[ $listed == *GPU* ]]
}
