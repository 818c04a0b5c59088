# Sourced by job.sh and pipeline.sh: the settings of the site, and how to run python. $home contains slurm/.
# shellcheck shell=bash disable=SC2154

# Sources slurm/site.sh, or the file that VQDIST_SITE names. Sets $site to its path, empty if there is none.
read_site() {
  site=${VQDIST_SITE:-$home/slurm/site.sh}
  [[ -e $site ]] || { site=; return 0; }
  # shellcheck disable=SC1090
  source "$site"
}

# Runs the function site_environment, finds the interpreter, and splits the command of the container into $container.
choose_interpreter() {
  ! declare -F site_environment >/dev/null || site_environment
  if [[ -z ${VQDIST_PYTHON:-} && -z ${VQDIST_CONTAINER:-} ]]; then
    VQDIST_PYTHON=$(command -v python || command -v python3 || true)
    [[ ! -x $home/.venv/bin/python ]] || VQDIST_PYTHON=$home/.venv/bin/python
  fi
  VQDIST_PYTHON=${VQDIST_PYTHON:-python}
  export VQDIST_PYTHON VQDIST_CONTAINER=${VQDIST_CONTAINER:-} PYTHONUNBUFFERED=1
  export PYTHONPATH=$home${PYTHONPATH:+:$PYTHONPATH}
  read -ra container <<<"$VQDIST_CONTAINER"
}

run_module() { # MODULE ARGUMENTS: run one process on this node
  ${container[@]+"${container[@]}"} "$VQDIST_PYTHON" -m "$@"
}
