"""Completion: scripts for the shells, and the hidden command that they all ask.

``rota __complete WORD…`` gets the words up to the cursor, the last one perhaps empty, and prints a
candidate a line, with what it is after a tab. It has to be fast and must never complain: whoever
presses the tab key did not ask for an error.
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from rota.cli.candidates import candidates
from rota.errors import RotaError

if TYPE_CHECKING:
    # What completing a command's name need not wait for.
    from rota.cli.screen import Screen

BASH = r"""# bash completion for rota; in ~/.bashrc: eval "$(rota completion bash)"
_rota() {
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}") cur line
    # Bash cuts words at '=' and ':'; glue them together again.
    _rota_words "$@"
    COMPREPLY=()
    while IFS= read -r line; do
        line=${line%%$'\t'*}
        [[ -n $_rota_prefix ]] && line=${line#"$_rota_prefix"}
        COMPREPLY+=("$line")
    done < <(rota __complete "${_rota_line[@]}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == :file ]]; then
        COMPREPLY=()
        compopt -o default
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace
    fi
}
_rota_words() {
    local text=${COMP_LINE:0:COMP_POINT} word
    _rota_line=() _rota_prefix=
    read -ra _rota_line <<<"$text"
    _rota_line=("${_rota_line[@]:1}")
    [[ $text == *[[:space:]] ]] && _rota_line+=("")
    word=${_rota_line[${#_rota_line[@]}-1]}
    word=${word//[\'\"]/}
    _rota_line[${#_rota_line[@]}-1]=$word
    [[ $word == *[=:]* ]] && _rota_prefix=${word%"${word##*[=:]}"}
}
complete -F _rota rota
"""

ZSH = r"""#compdef rota
# zsh completion for rota; in ~/.zshrc: eval "$(rota completion zsh)"
_rota() {
    local -a found
    local line
    for line in "${(@f)$(rota __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -z $line ]] && continue
        if [[ $line == :file* ]]; then
            _files
            return
        fi
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    _describe -V rota found
}
compdef _rota rota
"""

FISH = r"""# fish completion for rota; rota completion fish >~/.config/fish/completions/rota.fish
function __rota_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (rota __complete $words[2..-1] 2>/dev/null)
        if string match -q ':file*' -- $line
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c rota -f -a '(__rota_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def completion(args: Namespace, screen: Screen) -> int:
    """Print a shell's completion script."""
    screen.text(SCRIPTS[args.shell])
    return 0


def complete(args: Namespace, screen: Screen) -> int:
    """Print candidates for the last word."""
    return complete_words(args.words, {})


def complete_words(words: list[str], given: dict[str, str]) -> int:
    """Print candidates for the last of ``words``, each with its meaning after a tab."""
    try:
        for value, meaning in candidates(words, given):
            print(f"{value}\t{meaning}")
    except RotaError:
        return 0
    return 0
