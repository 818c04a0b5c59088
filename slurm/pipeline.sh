#!/usr/bin/env bash
# Submits the whole pipeline, from source images to new slices, as a chain of dependent jobs.
#
#     slurm/pipeline.sh [--dry-run] [OPTION VALUE ...] SOURCE OUT
#
#     SOURCE                 source of vqdist.shard: a folder, or `demo`
#     OUT                    folder for all results: slices, vqvae, codes, pixelcnn, evaluate-*.json, samples
#     --vqvae FILE           configuration of the first stage   (default: vqvae_oasis)
#     --pixelcnn FILE        configuration of the second stage  (default: pixelcnn_oasis)
#     --shard-args WORDS     extra arguments of a command, as one quoted word; also --vqvae-args, --pixelcnn-args,
#                            --evaluate-args, --sample-args
#     --encode-args WORDS    the same for vqdist.encode        (default: --views 4 --shift 4)
#     --dry-run              print the chain without submitting it
#
# Run it again to continue: finished stages are skipped and queued jobs are kept. If a job fails, Slurm cancels the jobs
# that depend on it (reason DependencyNeverSatisfied).
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
  sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
}

dry_run=0 vqvae=vqvae_oasis pixelcnn=pixelcnn_oasis places=()
declare -A words=([--encode-args]='--views 4 --shift 4')
while (($# > 0)); do
  case $1 in
  --dry-run) dry_run=1 ;;
  --vqvae) vqvae=${2?$1 needs a value}; shift ;;
  --pixelcnn) pixelcnn=${2?$1 needs a value}; shift ;;
  --shard-args | --vqvae-args | --encode-args | --pixelcnn-args | --evaluate-args | --sample-args)
    words[$1]=${2?$1 needs a value}; shift ;;
  -*) echo "pipeline.sh: found unknown option $1; expected one of:" >&2; usage ;;
  *) places+=("$1") ;;
  esac
  shift
done
((${#places[@]} == 2)) || usage
source=${places[0]}
if [[ $source != demo && ! -d $source && ! -e ${places[1]}/slices/dataset.json ]]; then
  echo "pipeline.sh: SOURCE: found no folder $source; expected a source of vqdist.shard: a folder, or demo" >&2
  exit 2
fi
((dry_run)) || mkdir -p "${places[1]}/jobs"
out=$(realpath --canonicalize-missing "${places[1]}")

PIPELINE_TRAIN=() PIPELINE_OTHER=()
site=${VQDIST_SITE:-$home/slurm/site.sh}
# shellcheck disable=SC1090
[[ ! -e $site ]] || source "$site"

finished() { grep -q '"state": *"finished"' "$1/status.json" 2>/dev/null; }
queued() { [[ -n $(squeue --noheader --jobs "$1" --states PENDING,RUNNING,COMPLETING,REQUEUED,SUSPENDED 2>/dev/null) ]]; }

known() { # IDS ID...: succeed if every ID is in IDS
  local ids=" $1 " id
  for id in "${@:2}"; do [[ $ids == *" $id "* ]] || return 1; done
}

# stage NAME DONE AFTER... -- SBATCH-FLAGS... SCRIPT ARGUMENTS: submits a stage unless DONE succeeds, to run after the
# stages AFTER, and sets waits[NAME] to its job.
declare -A waits=()
stage() {
  local name=$1 done=$2 after=() dependency old='' id
  shift 2
  while [[ $1 != -- ]]; do after+=(${waits[$1]:+"${waits[$1]}"}); shift; done
  shift
  if $done; then echo "$name: done"; return; fi
  [[ ! -e $out/jobs/$name ]] || old=$(<"$out/jobs/$name")
  if [[ -n $old ]] && queued "${old%% *}"; then
    # A job that depends on a job which has been resubmitted would never start: replace it.
    if known "${old#* }" "${after[@]}"; then
      echo "$name: job ${old%% *} is queued or running"
      waits[$name]=${old%% *}
      return
    fi
    ((dry_run)) || scancel "${old%% *}"
  fi
  dependency=$(IFS=:; echo "${after[*]}")
  set -- --parsable --job-name="$name" --output="$out/jobs/$name-%j.log" --kill-on-invalid-dep=yes \
    ${dependency:+--dependency="afterok:$dependency"} "$@"
  if ((dry_run)); then
    waits[$name]="<$name>"
    echo "$name: sbatch $*"
    return
  fi
  id=$(sbatch "$@")
  id=${id%%;*}
  echo "$id ${after[*]}" >"$out/jobs/$name"
  waits[$name]=$id
  echo "$name: job $id${dependency:+, after $dependency}"
}

one_shot() { # NAME DONE AFTER... -- MODULE ARGUMENTS
  local front=()
  while [[ $1 != -- ]]; do front+=("$1"); shift; done
  shift
  stage "${front[@]}" -- "${PIPELINE_OTHER[@]}" "$home/slurm/command.sbatch" "$@"
}

extra_arguments() { # OPTION: print its arguments, one per line; quotes are honoured
  [[ -z ${words[$1]:-} ]] || xargs -n 1 printf '%s\n' <<<"${words[$1]}"
}
mapfile -t shard_args < <(extra_arguments --shard-args)
mapfile -t vqvae_args < <(extra_arguments --vqvae-args)
mapfile -t encode_args < <(extra_arguments --encode-args)
mapfile -t pixelcnn_args < <(extra_arguments --pixelcnn-args)
mapfile -t evaluate_args < <(extra_arguments --evaluate-args)
mapfile -t sample_args < <(extra_arguments --sample-args)

# shellcheck disable=SC2317
{
  shard_done() { [[ -e $out/slices/dataset.json ]]; }
  vqvae_done() { finished "$out/vqvae"; }
  encode_done() { [[ -e $out/codes/dataset.json ]]; }
  pixelcnn_done() { finished "$out/pixelcnn"; }
  evaluate_vqvae_done() { [[ -s $out/evaluate-vqvae.json ]]; }
  evaluate_pixelcnn_done() { [[ -s $out/evaluate-pixelcnn.json ]]; }
  sample_done() { [[ -e $out/samples/samples.json ]]; }
}

stage shard shard_done -- "${PIPELINE_OTHER[@]}" --nodes=1 --ntasks=1 "$home/slurm/command.sbatch" \
  vqdist.shard "$source" "$out/slices" "${shard_args[@]}"
stage vqvae vqvae_done shard -- "${PIPELINE_TRAIN[@]}" "$home/slurm/train.sbatch" \
  --config "$vqvae" --run.dir "$out" --run.name vqvae --data.path "$out/slices" "${vqvae_args[@]}"
one_shot encode encode_done vqvae -- vqdist.encode \
  --run "$out/vqvae" --data "$out/slices" --out "$out/codes" "${encode_args[@]}"
stage pixelcnn pixelcnn_done encode -- "${PIPELINE_TRAIN[@]}" "$home/slurm/train.sbatch" \
  --config "$pixelcnn" --run.dir "$out" --run.name pixelcnn --data.path "$out/codes" "${pixelcnn_args[@]}"
one_shot evaluate-vqvae evaluate_vqvae_done vqvae -- vqdist.evaluate \
  --run "$out/vqvae" --data "$out/slices" --out "$out/evaluate-vqvae.json" "${evaluate_args[@]}"
one_shot evaluate-pixelcnn evaluate_pixelcnn_done pixelcnn -- vqdist.evaluate \
  --run "$out/pixelcnn" --data "$out/codes" --out "$out/evaluate-pixelcnn.json" "${evaluate_args[@]}"
one_shot sample sample_done pixelcnn -- vqdist.sample \
  --prior "$out/pixelcnn" --out "$out/samples" --num 64 "${sample_args[@]}"
