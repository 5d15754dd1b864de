# Completions of agentctl for bash: agentctl itself says what fits.

_agentctl() {
    # Bash ends words at = and : too, agentctl does not: what no space parts is one word again.
    local rest=${COMP_LINE:0:COMP_POINT} words=() word i n=-1
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if ((i < COMP_CWORD)); then
            word=${COMP_WORDS[i]}
        else
            word=${rest#"${rest%%[![:space:]]*}"}
        fi
        if ((n < 0)) || [[ $rest == [[:space:]]* ]]; then
            n=$((n + 1))
            words[n]=
        fi
        words[n]+=$word
        rest=${rest#*"$word"}
    done

    mapfile -t COMPREPLY < <(
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$n AGENTCTL_COMPLETE=bash agentctl -- "${words[@]}" 2>/dev/null
    )

    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    # Bash inserts only what follows the last = or :.
    local cut=${words[n]%"$2"}
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}

complete -o bashdefault -o nosort -F _agentctl agentctl
