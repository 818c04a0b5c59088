# Sourced by the scripts that have a --help: prints the comment at the top of a script.
# shellcheck shell=bash

print_usage() { # SCRIPT
  sed -n '2,/^[^#]/{/^[^#]/d;/^$/d;/^# shellcheck/d;s/^# \{0,1\}//;p}' "$1"
}

# Prints the usage of the calling script to stdout and exits if the first argument asks for it.
answer_help() { # [ARGUMENT ...]
  [[ ${1:-} != -h && ${1:-} != --help ]] || { print_usage "$0"; exit 0; }
}
