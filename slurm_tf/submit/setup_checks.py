"""Shell code with which a batch script ends if a line before the program fails: it would run on another Python."""

# Begins the line of the job's output that says which line has ended the script.
STOPPED = "slurm-tf: the program does not start: "

# A script sources it first. Not `set -e`, errtrace or `set -u`: what a line sources or calls (conda's and modules' own
# scripts) has lines that fail. Seen with bash 5.2: an ERR trap fires in sourced files, and not in functions.
SHELL = r"""# The program does not start after a line of the script's own that fails, or that ends the script.
slurm_tf_stop() {
  local lines
  ((BASH_SUBSHELL || $# > 2)) && return # not in what a line sources
  trap - EXIT
  mapfile -t lines <"$0"
  echo "STOPPEDexit code $1 of line $2 of the script: ${lines[$2 - 1]-}" >&2
  echo 'HINT: "|| true" after a line lets it fail; "trap - ERR" before lines lets all of them fail' >&2
  exit "$1"
}
trap 'slurm_tf_stop $? $LINENO "${BASH_SOURCE[@]:1}"' ERR
trap 'code=$?
  echo "STOPPEDthe script was ended at: $BASH_COMMAND" >&2
  exit $((code ? code : 1))' EXIT

# Environment Modules before 4 report success where they load nothing.
slurm_tf_check_modules() {
  [[ $(type -t module) = function && -z ${LMOD_CMD-}${MODULES_CMD-} ]] || return 0
  eval "slurm_tf_$(declare -f module)"
  module() {
    slurm_tf_module "$@" || return
    [[ $1 = load || $1 = add ]] || return 0
    local name
    for name in "${@:2}"; do
      [[ :${LOADEDMODULES-}: = *:"$name"[:/]* ]] || return 1
    done
  }
}
""".replace("STOPPED", STOPPED)
