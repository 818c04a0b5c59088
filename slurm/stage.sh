#!/usr/bin/env bash
# Copies a data set to this node's own disk, whole or not at all. Usage: slurm/stage.sh FROM TO
set -euo pipefail
from=$1 to=$2

needed_kib=$(du -sk "$from" | cut -f 1)
mkdir -p "$(dirname "$to")"
free_kib=$(df -Pk "$(dirname "$to")" | awk 'NR == 2 { print $4 }')
if ((needed_kib + needed_kib / 10 > free_kib)); then
  echo "$(uname -n): $from needs $needed_kib KiB, $(dirname "$to") has $free_kib" >&2
  exit 1
fi
# A job that Slurm started again on this node finds what it copied before.
if [[ ! -e $to/dataset.json ]]; then
  partial=$to.partial-$(uname -n)
  rm -rf "$partial"
  cp -R "$from" "$partial"
  mv -T "$partial" "$to" 2>/dev/null || rm -rf "$partial" # a folder that nodes share: another was faster
fi
[[ -e $to/dataset.json ]]
echo "$(uname -n): $needed_kib KiB of $from in $to"
