#!/usr/bin/env bash
# Send runs that were tracked offline to W&B, from a machine that can reach the server (a login node).
#
#   bash launch/wandb_sync.sh RUN...        RUN: a run directory, for example runs/vqvae_oasis
#
# Every attempt of a run has a .wandb file in RUN/wandb/. Rows and previews that a killed process did not write are
# filled in from RUN/metrics.jsonl and RUN/previews/. Then the files are sent in the order of the attempts, under the
# one id of the run. Run this again at any time: only what is new is sent. An attempt that is still running is sent
# after it has ended.
#
# PYTHON is the interpreter (default: the .venv of the repository, else python). DRY_RUN=1 fills in and lists the
# files, but sends nothing.
set -euo pipefail

if (($# == 0)) || [[ $1 == -h || $1 == --help ]]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
venv=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/python
python=${PYTHON:-$([[ -x $venv ]] && echo "$venv" || echo python)}
dry_run=${DRY_RUN:-0}

if [[ $dry_run != 1 ]]; then
    check='import sys; from vqdist.diagnosis.wandb_server import find_obstacle; sys.exit(find_obstacle())'
    "$python" -c "$check" || exit 2
fi

for run in "$@"; do
    files=$("$python" -m vqdist.tracking.prepare_sync "$run")
    sent=0
    log=$run/wandb/sync.log
    while IFS= read -r file; do
        # W&B marks a file that it has sent; what was written after the mark is new.
        if [[ -z $file || (-e $file.synced && ! $file -nt $file.synced) ]]; then
            continue
        fi
        sent=$((sent + 1))
        if [[ $dry_run == 1 ]]; then
            echo "$file"
            continue
        fi
        # One file at a time, because `wandb sync` also marks a file that it failed to send, and exits with 0: only its
        # messages show the failure.
        if ! WANDB_DIR=$run "$python" -m wandb sync --include-online --include-synced "$(dirname "$file")" \
            </dev/null 2>&1 | tee "$log" >&2 || grep -q 'wandb: ERROR' "$log"; then
            rm -f "$file.synced"
            echo "$run: $file was not sent; run this again" >&2
            exit 1
        fi
    done <<<"$files"
    ((sent > 0)) || echo "$run: nothing new to send" >&2
done
