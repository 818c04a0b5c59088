#!/usr/bin/env bash
# Copies a dataset to a disk of this node, atomically. Usage: slurm/stage.sh FROM TO
set -euo pipefail
from=$1 to=$2

needed_kib=$(du -sk "$from" | cut -f 1)
mkdir -p "$(dirname "$to")"
free_kib=$(df -Pk "$(dirname "$to")" | awk 'NR == 2 { print $4 }')
if ((needed_kib + needed_kib / 10 > free_kib)); then
  echo "$(uname -n): $(dirname "$to"): found $free_kib KiB free; expected $needed_kib KiB and 10 % for $from" >&2
  exit 1
fi
# A requeued job that returns to this node finds its earlier copy.
if [[ ! -e $to/dataset.json ]]; then
  partial=$to.partial-$(uname -n)
  rm -rf "$partial"
  cp -R "$from" "$partial"
  mv -T "$partial" "$to" 2>/dev/null || rm -rf "$partial" # a folder shared by nodes: another node was first
fi
[[ -e $to/dataset.json ]]
echo "$(uname -n): $needed_kib KiB of $from are in $to"
