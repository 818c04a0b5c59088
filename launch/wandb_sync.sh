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
# files, but sends nothing. NEW_ID=1 gives the run a new id and sends all of its attempts: for a run that was deleted at
# the server, which never takes its id again.
set -euo pipefail
# shellcheck source=launch/usage.sh
source "$(dirname "$0")/usage.sh"
answer_help "$@"
(($# > 0)) || { print_usage "$0" >&2; exit 2; }

venv=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/python
python=${PYTHON:-$([[ -x $venv ]] && echo "$venv" || echo python)}
dry_run=${DRY_RUN:-0}
options=()
[[ ${NEW_ID:-0} != 1 ]] || options+=(--new-id)

# By default W&B repeats a request that the server refuses for hours, without showing the reason. These limits end it
# after a minute or two.
export WANDB_X_GRAPHQL_RETRY_MAX=${WANDB_X_GRAPHQL_RETRY_MAX:-4}
export WANDB_X_GRAPHQL_RETRY_WAIT_MIN_SECONDS=${WANDB_X_GRAPHQL_RETRY_WAIT_MIN_SECONDS:-1}
export WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS=${WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS:-8}
export WANDB_X_GRAPHQL_TIMEOUT_SECONDS=${WANDB_X_GRAPHQL_TIMEOUT_SECONDS:-20}
export WANDB_X_FILE_STREAM_RETRY_MAX=${WANDB_X_FILE_STREAM_RETRY_MAX:-6}
export WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS=${WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS:-8}
export WANDB_X_FILE_TRANSFER_RETRY_MAX=${WANDB_X_FILE_TRANSFER_RETRY_MAX:-6}
export WANDB_X_FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS=${WANDB_X_FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS:-8}

if [[ $dry_run != 1 ]]; then
    check='import sys; from vqdist.diagnosis.wandb_server import find_obstacle; sys.exit(find_obstacle())'
    "$python" -c "$check" || exit 2
fi

# Sends one file under an id. W&B exits with 0 and marks the file as sent even if it failed to send it: only its
# messages show the failure. For this reason files are sent one at a time.
send_file() { # RUN ID FILE
    local log=$1/wandb/sync.log reason
    if WANDB_DIR=$1 "$python" -m wandb sync --id "$2" --include-online --include-synced "$(dirname "$3")" \
        </dev/null 2>&1 | tee "$log" >&2 && ! grep -q 'wandb: ERROR' "$log"; then
        return 0
    fi
    rm -f "$3.synced"
    reason=$(grep -o 'HTTP [0-9]*: .*' "$log" | tail -n 1) || reason=$(tail -n 1 "$log")
    echo "$1: $3 was not sent: ${reason:-no answer}" >&2
    if [[ $reason == *delete* || $reason == 'HTTP 409:'* ]]; then
        echo "$1: the server takes no data for a deleted run. To send all of it as a new run, under a new id:" \
            "NEW_ID=1 bash $0 $1" >&2
    else
        echo "$1: run this again to send the rest" >&2
    fi
    return 1
}

failed=0
for run in "$@"; do
    files=$("$python" -m vqdist.tracking.prepare_sync "$run" ${options[@]+"${options[@]}"})
    sent=0
    while IFS=' ' read -r id file; do
        # W&B marks a file that it has sent; what was written after the mark is new.
        if [[ -z $file || (-e $file.synced && ! $file -nt $file.synced) ]]; then
            continue
        fi
        sent=$((sent + 1))
        if [[ $dry_run == 1 ]]; then
            echo "$file"
        elif ! send_file "$run" "$id" "$file"; then
            failed=1
            break # the later attempts of a run continue the earlier ones
        fi
    done <<<"$files"
    ((sent > 0)) || echo "$run: nothing new to send" >&2
done
exit "$failed"
