"""Between a shell and click's completion: the script of each shell, and what a script asks slurm-tf.

The scripts are click's own, changed where click's break a value: one with a comma, spaces or "*" in it, or "=" and ":",
at which bash begins a new word. No space follows "NAME=" and a folder.
"""

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

PROGRAM, VARIABLE = "slurm-tf", "_SLURM_TF_COMPLETE"

# `$2`: what bash replaces, the end of the word that is typed; `head`: the rest of this word.
_BASH = """\
%(complete_func)s() {
    local line=${COMP_LINE:0:COMP_POINT} type value
    local before=${line%%"$2"}
    local head=${before##*[[:space:]]}
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                # readline quotes a file name as the word that is typed is quoted
                [[ $value == *[^A-Za-z0-9_./:=@%%+,-]* ]] && compopt -o filenames
                [[ $value == *[=/] ]] && compopt -o nospace
                COMPREPLY+=("${value#*"$head"}")
                ;;
        esac
    done < <(env COMP_WORDS="$line" %(complete_var)s=bash_complete "$1" 2> /dev/null)
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s 2> /dev/null ||
    complete -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a response completions with_help open
    local type key descr
    (( ! $+commands[%(prog_name)s] )) && return 1

    response=("${(@f)$(env COMP_WORDS="${words[1,CURRENT]}" %(complete_var)s=zsh_complete \\
%(prog_name)s 2> /dev/null)}")
    for type key descr in "${response[@]}"; do
        if [[ $type == dir ]]; then
            _path_files -/
        elif [[ $type == file ]]; then
            [[ $PREFIX == --*=* ]] && compset -P 1 '*='
            _path_files -f
        elif [[ $type == plain && $key == *[=/] ]]; then
            open+=("$key")
        elif [[ $type == plain && $descr == _ ]]; then
            completions+=("$key")
        elif [[ $type == plain ]]; then
            with_help+=("$key:$descr")
        fi
    done

    (( $#with_help )) && _describe -V unsorted with_help -U
    (( $#completions )) && compadd -U -V unsorted -a completions
    (( $#open )) && compadd -U -S '' -V unsorted -a open
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    # from a folder of fpath: called for the first time
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \\
%(prog_name)s 2> /dev/null)
    for completion in $response
        set -l metadata (string split --max 1 "," -- $completion)
        switch $metadata[1]
            case dir
                __fish_complete_directories $metadata[2]
            case file
                __fish_complete_path $metadata[2]
            case plain
                printf '%%s\\n' $metadata[2]
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""

# Stands where the cursor is.
_CURSOR = "\ue000"


class _Asked(ShellComplete):
    """What the script of any shell asks: the line up to the cursor, in COMP_WORDS."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor without the program's, and the one that is being typed."""
        *words, last = split_arg_string(os.environ["COMP_WORDS"] + _CURSOR)
        return words[1:], last.removesuffix(_CURSOR)

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return what may stand in place of `incomplete`; click leaves --OPTION= out."""
        items = super().get_completions(args.copy(), incomplete)
        if "--" in args or not incomplete.startswith("--") or "=" not in incomplete:
            return items
        option = incomplete.partition("=")[0]
        return [
            CompletionItem(f"{option}={each.value}" if each.type == "plain" else each.value, each.type, each.help)
            for each in items
        ]


class _Bash(_Asked, BashComplete):
    source_template = _BASH

    def source(self) -> str:
        """Return the script; click's own method starts a bash to ask for its version."""
        return ShellComplete.source(self)


class _Zsh(_Asked, ZshComplete):
    source_template = _ZSH


class _Fish(_Asked, FishComplete):
    source_template = _FISH


SHELLS = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def answer_quietly() -> None:
    """Have click answer what a script asks, if one does; then nothing but the answer gets into the user's prompt."""
    if not os.environ.get(VARIABLE, "").endswith("_complete"):
        return
    for shell in SHELLS.values():
        add_completion_class(shell)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
