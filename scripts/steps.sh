# shellcheck shell=bash
# Runs steps and says how many seconds each took, with or without a terminal. Sourced by ./dev, after install.sh.

# shellcheck disable=SC2034 # for those who source this
readonly STARTED=$EPOCHREALTIME

# since INSTANT: the seconds since, such as 12.3.
since() {
    local now=$EPOCHREALTIME
    local tenths=$(((${now/[.,]/} - ${1/[.,]/}) / 100000))
    printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# What takes no time is not worth a line.
step_took() {
    local took
    took=$(since "$2")
    [[ $took == 0.0 ]] || say "$(printf "  %-24s %6s s" "$1" "$took")"
}

# timed NAME COMMAND…: a step on its own, in this shell.
timed() {
    local name=$1 began=$EPOCHREALTIME
    shift
    "$@"
    step_took "$name" "$began"
}

# Where the steps that go on have their logs, by their process ids; each leads a process group of its own.
step_logs=
declare -A step_names=()

# side_by_side NAME COMMAND NAME COMMAND …: all at once; a command is one word. What cargo said beside its progress is
# shown when it ends; when a step fails, all that it said, and the others are ended.
side_by_side() {
    local began=$EPOCHREALTIME pid
    step_logs=$(mktemp -d)
    trap steps_end EXIT
    while (($# > 1)); do
        set -m
        "$2" >"$step_logs/$1" 2>&1 </dev/null &
        set +m
        step_names[$!]=$1
        shift 2
    done
    local shown=$SECONDS
    while ((${#step_names[@]} > 0)); do
        for pid in "${!step_names[@]}"; do
            kill -0 "$pid" 2>/dev/null || step_ended "$pid" "$began"
        done
        sleep 0.05
        ((SECONDS == shown)) || { steps_show "$began"; shown=$SECONDS; }
    done
    rm -rf "$step_logs"
    trap - EXIT
}

# step_ended PID BEGAN
step_ended() {
    local name=${step_names[$1]} failed=
    unset "step_names[$1]"
    wait "$1" || failed=1
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
    # Nothing is lost: what goes on is said by steps_show.
    tr '\r' '\n' <"$step_logs/$name" |
        grep -vE '^ *(Blocking|Building|Compiling|Downloaded|Downloading|Executable|Finished|Fetch|Updating)\b|^ *$' >&2 || true
    [[ -z $failed ]] || die "$name failed after $(since "$2") s"
    step_took "$name" "$2"
}

# What goes on: every second in one place of a terminal, otherwise a line every ten seconds.
steps_show() {
    local pid name built text=
    [[ -t 2 ]] || ((SECONDS % 10 == 0)) || return 0
    for pid in "${!step_names[@]}"; do
        name=${step_names[$pid]}
        # Of cargo's bar, how many of how many are built.
        built=$(tail -c 400 "$step_logs/$name" | tr '\r' '\n' | grep -oE '\] [0-9]+/[0-9]+' | tail -n 1) || true
        text+="${text:+ · }$name${built:+ (${built#* })}"
    done
    [[ -n $text ]] || return 0
    if [[ -t 2 ]]; then
        printf '\r\033[K  %s … %s s' "$text" "$(since "$1")" >&2
    else
        say "  $text … $(since "$1") s"
    fi
}

# The steps that go on end with the script.
steps_end() {
    local pid
    for pid in "${!step_names[@]}"; do
        kill -TERM -- "-$pid" 2>/dev/null || true
    done
    rm -rf "$step_logs"
}
