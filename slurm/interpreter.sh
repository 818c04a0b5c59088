# Sourced by job.sh, on_node.sh, pipeline.sh and submit.sh: the settings of the site, and how to run python. $home
# contains slurm/.
# shellcheck shell=bash disable=SC2154

# Runs code of the site without -e, -u and pipefail, under which modules and conda's activate scripts fail. What it
# prints goes to stderr.
run_site_code() { # COMMAND...
  local before=$- pipefail=0 code=0
  [[ ! -o pipefail ]] || pipefail=1
  set +eu +o pipefail
  "$@" >&2
  code=$?
  ((!pipefail)) || set -o pipefail
  [[ $before != *u* ]] || set -u
  [[ $before != *e* ]] || set -e
  ((code == 0)) || echo "$(uname -n): warning: $*: found exit code $code; expected 0" >&2
}

# Sources slurm/site.sh, or the file that VQDIST_SITE names. Sets $site to its path, empty if there is none.
read_site() {
  site=${VQDIST_SITE:-$home/slurm/site.sh}
  [[ -e $site ]] || { site=; return 0; }
  # shellcheck disable=SC1090
  run_site_code source "$site"
}

enter_environment() { ! declare -F site_environment >/dev/null || run_site_code site_environment; }

in_srun_container() { [[ ${VQDIST_SRUN:-} == *--container-* ]]; } # of pyxis, which only srun enters

# Runs the function site_environment, finds the interpreter, and splits the command of the container into $container.
choose_interpreter() {
  enter_environment
  if [[ -z ${VQDIST_PYTHON:-} && -z ${VQDIST_CONTAINER:-} ]] && ! in_srun_container; then
    VQDIST_PYTHON=$(command -v python || command -v python3 || true)
    [[ ! -x $home/.venv/bin/python ]] || VQDIST_PYTHON=$home/.venv/bin/python
  fi
  VQDIST_PYTHON=${VQDIST_PYTHON:-python}
  export VQDIST_PYTHON VQDIST_CONTAINER=${VQDIST_CONTAINER:-} PYTHONUNBUFFERED=1
  export PYTHONPATH=$home${PYTHONPATH:+:$PYTHONPATH}
  read -ra container <<<"$VQDIST_CONTAINER"
  read -ra run_flags <<<"${VQDIST_SRUN:-}"
}

run_python() { # ARGUMENTS: run one process where the ranks run: in the container, if there is one
  local step=()
  if in_srun_container && [[ -n ${SLURM_JOB_ID:-} ]]; then
    step=(srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --quiet "${run_flags[@]}")
  fi
  ${step[@]+"${step[@]}"} ${container[@]+"${container[@]}"} "$VQDIST_PYTHON" "$@"
}

run_module() { run_python -m "$@"; } # MODULE ARGUMENTS

quote() { # WORD...: print a command line that a shell reads back; most words need no quotes
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[[:alnum:]_@%+=:,./-]+$ ]] || word=${word@Q}
    line+="$word "
  done
  echo "${line% }"
}
