#!/usr/bin/env bash
# Submits the whole pipeline, from source images to new slices, as a chain of dependent jobs.
#
#     slurm/pipeline.sh [--dry-run|--no-check] [OPTION VALUE ...] SOURCE OUT
#
#     SOURCE                 source of vqdist.shard: a folder or tars, or `demo`
#     OUT                    folder for all results: slices, vqvae, codes, pixelcnn, evaluate-*.json, samples
#     --vqvae FILE           configuration of the first stage   (default: vqvae_oasis)
#     --pixelcnn FILE        configuration of the second stage  (default: pixelcnn_oasis)
#     --shard-args WORDS     extra arguments of a command, as one quoted word; also --vqvae-args, --pixelcnn-args,
#                            --evaluate-args, --sample-args
#     --encode-args WORDS    the same for vqdist.encode        (default: --views 4 --shift 4)
#     --dry-run              check every stage and print the chain without submitting it
#     --no-check             submit without the check
#
# --dry-run prints the settings of the site, the commands, and what is wrong with the arguments, configurations and ranks
# of each stage, and with the files of SOURCE (exit code 2). Datasets and runs that earlier stages will make may be
# missing. The same check runs before the chain is submitted; --no-check leaves it out, for a login node on which vqdist
# cannot run.
#
# Run it again to continue: finished stages are skipped and queued jobs are kept. If a job fails, Slurm cancels the jobs
# that depend on it (reason DependencyNeverSatisfied).
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# shellcheck source=launch/usage.sh
source "$home/launch/usage.sh"
# shellcheck source=slurm/interpreter.sh
source "$home/slurm/interpreter.sh"

fail() {
  echo "pipeline.sh: error: $*" >&2
  exit 2
}

dry_run=0 check=1 places=() arguments=("$@")
declare -A configs=([--vqvae]=vqvae_oasis [--pixelcnn]=pixelcnn_oasis)
declare -A words=([--encode-args]='--views 4 --shift 4')
while (($# > 0)); do
  case $1 in
  --dry-run) dry_run=1 ;;
  --no-check) check=0 ;;
  -h | --help) answer_help "$1" ;;
  --vqvae | --pixelcnn) (($# > 1)) || fail "$1: found no value; expected a configuration"; configs[$1]=$2; shift ;;
  --shard-args | --vqvae-args | --encode-args | --pixelcnn-args | --evaluate-args | --sample-args)
    (($# > 1)) || fail "$1: found no value; expected arguments of the command, as one quoted word"
    words[$1]=$2; shift ;;
  -*) fail "$1: found an unknown option; expected one that \`slurm/pipeline.sh --help\` lists" ;;
  *) places+=("$1") ;;
  esac
  shift
done
((${#places[@]} == 2)) || { print_usage "$0" >&2; fail "found ${#places[@]} of the two arguments; expected SOURCE and OUT"; }
source=${places[0]}
if ((!dry_run && !check)) && [[ $source != demo && ! -d $source && ! -e ${places[1]}/slices/dataset.json ]]; then
  fail "SOURCE: found no folder $source; expected a source of vqdist.shard: a folder, or demo"
fi
out=$(realpath --canonicalize-missing "${places[1]}")
if ! ((dry_run)); then
  command -v sbatch >/dev/null || fail "found no sbatch on the PATH; expected a login node of a cluster with Slurm"
  ((!check)) || "$home/slurm/pipeline.sh" --dry-run "${arguments[@]}" >/dev/null || exit
  mkdir -p "$out/jobs"
fi

PIPELINE_TRAIN=() PIPELINE_OTHER=()
read_site

finished() { grep -q '"state": *"finished"' "$1/status.json" 2>/dev/null; }
queued() { [[ -n $(squeue --noheader --jobs "$1" --states PENDING,RUNNING,COMPLETING,REQUEUED,SUSPENDED 2>/dev/null) ]]; }

known() { # IDS ID...: succeed if every ID is in IDS
  local ids=" $1 " id
  for id in "${@:2}"; do [[ $ids == *" $id "* ]] || return 1; done
}

report() { # LINE: print what becomes of a stage, in a dry run after the checks
  if ((dry_run)); then chain+=("$1"); else echo "$1"; fi
}

# stage NAME DONE AFTER... -- SBATCH-FLAGS... SCRIPT ARGUMENTS: submits a stage unless DONE succeeds, to run after the
# stages AFTER, and sets waits[NAME] to its job. $submit is the command that submits it.
declare -A waits=()
chain=() submit=(sbatch)
stage() {
  local name=$1 done=$2 after=() dependency old='' id
  shift 2
  while [[ $1 != -- ]]; do after+=(${waits[$1]:+"${waits[$1]}"}); shift; done
  shift
  if $done; then report "$name: done"; return; fi
  [[ ! -e $out/jobs/$name ]] || old=$(<"$out/jobs/$name")
  if [[ -n $old ]] && queued "${old%% *}"; then
    # A job that depends on a job which has been resubmitted would never start: replace it.
    if known "${old#* }" "${after[@]}"; then
      report "$name: job ${old%% *} is queued or running"
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
    chain+=("$name: $(quote "${submit[@]}" "$@")")
    return
  fi
  id=$(VQDIST_JOB_FILE=$out/jobs/$name "${submit[@]}" "$@")
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

# Sets an array to the words of an option; quotes are honoured, nothing is executed.
read_words() { # OPTION ARRAY
  local lines
  [[ -n ${words[$1]:-} ]] || return 0
  lines=$(xargs -n 1 printf '%s\n' <<<"${words[$1]}" 2>/dev/null) || fail "$1: found ${words[$1]}; expected closed quotes"
  mapfile -t "$2" <<<"$lines"
}
shard_args=() vqvae_args=() encode_args=() pixelcnn_args=() evaluate_args=() sample_args=()
for name in shard vqvae encode pixelcnn evaluate sample; do read_words "--$name-args" "${name}_args"; done

# The shard job needs no GPU. Sets $shard_flags to flags of sbatch without those that ask for GPUs.
drop_gpu_flags() { # FLAG...
  shard_flags=()
  while (($# > 0)); do
    case $1 in
    --gres=*) [[ $1 == *gpu* ]] || shard_flags+=("$1") ;;
    --gres) [[ ${2:-} == *gpu* ]] || shard_flags+=("$1" "${2:-}"); shift ;;
    --gpus*=* | --gpu-*=* | --cpus-per-gpu=* | --mem-per-gpu=* | -G?*) ;;
    --gpus* | --gpu-* | --cpus-per-gpu | --mem-per-gpu | -G) shift ;;
    *) shard_flags+=("$1") ;;
    esac
    (($# == 0)) || shift
  done
}

# Sets $shard_submit to a call of sbatch that does not read the site's variables for GPUs.
drop_gpu_variables() {
  local variable
  shard_submit=()
  for variable in $(compgen -A export SBATCH_ || true); do
    [[ ! $variable =~ ^SBATCH_(GPU|CPUS_PER_GPU|MEM_PER_GPU) && "$variable=${!variable}" != SBATCH_GRES=*gpu* ]] ||
      shard_submit+=(-u "$variable")
  done
  ((${#shard_submit[@]} == 0)) || shard_submit=(env "${shard_submit[@]}")
  shard_submit+=(sbatch)
}

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

drop_gpu_flags "${PIPELINE_OTHER[@]}"
drop_gpu_variables
submit=("${shard_submit[@]}")
stage shard shard_done -- "${shard_flags[@]}" --nodes=1 --ntasks=1 "$home/slurm/command.sbatch" \
  vqdist.shard "$source" "$out/slices" "${shard_args[@]}"
submit=(sbatch)
stage vqvae vqvae_done shard -- "${PIPELINE_TRAIN[@]}" "$home/slurm/train.sbatch" \
  --config "${configs[--vqvae]}" --run.dir "$out" --run.name vqvae --data.path "$out/slices" "${vqvae_args[@]}"
one_shot encode encode_done vqvae -- vqdist.encode \
  --run "$out/vqvae" --data "$out/slices" --out "$out/codes" "${encode_args[@]}"
stage pixelcnn pixelcnn_done encode -- "${PIPELINE_TRAIN[@]}" "$home/slurm/train.sbatch" \
  --config "${configs[--pixelcnn]}" --run.dir "$out" --run.name pixelcnn --data.path "$out/codes" "${pixelcnn_args[@]}"
one_shot evaluate-vqvae evaluate_vqvae_done vqvae -- vqdist.evaluate \
  --run "$out/vqvae" --data "$out/slices" --split test --out "$out/evaluate-vqvae.json" "${evaluate_args[@]}"
one_shot evaluate-pixelcnn evaluate_pixelcnn_done pixelcnn -- vqdist.evaluate \
  --run "$out/pixelcnn" --data "$out/codes" --split test --out "$out/evaluate-pixelcnn.json" "${evaluate_args[@]}"
one_shot sample sample_done pixelcnn -- vqdist.sample \
  --prior "$out/pixelcnn" --out "$out/samples" --num 64 "${sample_args[@]}"

((dry_run)) || exit 0
show_settings() {
  local variable
  echo "settings of the site: ${site:-none, no slurm/site.sh}"
  for variable in $(compgen -A export SBATCH_ || true) $(compgen -A variable VQDIST_ || true); do
    echo "  $variable=$(quote "${!variable}")"
  done
  echo "  PIPELINE_TRAIN=($(quote "${PIPELINE_TRAIN[@]}"))"
  echo "  PIPELINE_OTHER=($(quote "${PIPELINE_OTHER[@]}"))"
}
show_settings >&2
code=0
choose_interpreter
run_module vqdist.doctor --help >/dev/null 2>&1 ||
  fail "\`${container[*]+${container[*]} }$VQDIST_PYTHON -m vqdist.doctor\` found no working environment; expected the one" \
    "of \`bash launch/environment.sh\`, or VQDIST_PYTHON; --no-check submits without it"
printf '%s\n' "${chain[@]}" # before the table of problems, which has to stay on the screen
printf '%s\n' "${chain[@]}" | run_module vqdist.diagnosis.pipeline_plan "$out" >&2 || code=$?
((code == 0)) || echo "pipeline.sh: error: the stages cannot be submitted like this: see the table above" >&2
exit "$code"
