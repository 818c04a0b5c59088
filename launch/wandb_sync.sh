#!/usr/bin/env bash
# Send runs that were tracked offline to W&B, from a machine that reaches the server (a login node).
#
#   bash launch/wandb_sync.sh RUN...        RUN: a run's directory, for example runs/vqvae_oasis
#
# Every start of a run has left a piece in RUN/wandb/. What a killed process never wrote is filled in from
# RUN/metrics.jsonl, then the pieces go out in the order of their starts, under the run's one id. It can be
# run again at any time: only what is new is sent. What a running start writes goes out when it has ended.
#
# PYTHON chooses the interpreter (default: the .venv of the repository, else python). DRY_RUN=1 fills in and lists the pieces, and sends nothing.
set -euo pipefail

if (($# == 0)) || [[ $1 == -h || $1 == --help ]]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
venv=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/python
python=${PYTHON:-$([[ -x $venv ]] && echo "$venv" || echo python)}

check=true
[[ ${DRY_RUN:-0} == 1 ]] && check=false

for run in "$@"; do
    listing=$("$python" -m vqdist.tracking.sync --check-server "$check" "$run")
    if [[ -z $listing ]]; then
        echo "$run: nothing new to send" >&2
        continue
    fi
    log=$run/wandb/sync.log
    while IFS= read -r piece; do
        if [[ ${DRY_RUN:-0} == 1 ]]; then
            echo "$piece"
            continue
        fi
        # One at a time: a piece belongs behind those of earlier starts. wandb marks what it failed to send as
        # sent and ends with 0, so its messages decide.
        if ! WANDB_DIR=$run "$python" -m wandb sync --include-online --include-synced "$(dirname "$piece")" \
            </dev/null 2>&1 | tee "$log" >&2 || grep -q 'wandb: ERROR' "$log"; then
            rm -f "$piece.synced"
            echo "$run: $piece was not sent; run this again" >&2
            exit 1
        fi
    done <<<"$listing"
done
