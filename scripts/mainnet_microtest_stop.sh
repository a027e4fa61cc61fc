#!/bin/sh
# Stops the bot of a state folder and verifies on the venue that nothing is left (docs/runbook.md, "Stop").
#
#   scripts/mainnet_microtest_stop.sh --account 0x… --network mainnet [--url URL] [--env-var NAME | --file F | --keystore F]
#
# Note state -> SIGINT (cancel, flatten, verify) -> SIGTERM (gives up flattening) -> SIGKILL -> `hip3 flatten` where a key is
# given and something is left -> `hip3 flatten --verify`. HIP3_STATE_DIR names the folder as for `hip3 run`.
# Exit code 0: no such process, and the venue shows nothing; 2: wrong use; 4: something is left, or not known;
# 5: the process does not end, not even by SIGKILL.
set -u
WAIT_INT_S=${WAIT_INT_S:-45}   # settle 2 s, flatten 20 s, last looks 5 s (END-1), and as much again for a slow machine
WAIT_TERM_S=${WAIT_TERM_S:-15}
WAIT_KILL_S=${WAIT_KILL_S:-5}
HIP3=${HIP3:-"$(dirname "$0")/../.venv/bin/python -m hip3"}

usage() { sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }
say() { printf '%s stop: %s\n' "$(date -u +%H:%M:%S)" "$*"; }

account='' key='' where=''
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
        --account) account=$2 ;;
        --network | --url) where="$where $1 $2" ;;
        --env-var | --file | --keystore) key="$1 $2" ;;
        *) usage ;;
    esac
    shift 2
done
[ -n "$account" ] && [ -n "$where" ] || usage

if [ -n "${HIP3_STATE_DIR:-}" ]; then state=$HIP3_STATE_DIR
elif [ -n "${XDG_STATE_HOME:-}" ]; then state=$XDG_STATE_HOME/hip3
else state=$HOME/.local/state/hip3; fi

# Only a process that is a bot is ever signalled: a pid file that was left behind may name anything by now.
is_bot() { ps -p "$1" -o stat= -o args= 2>/dev/null | grep -v '^Z' | grep 'hip3' | grep -q 'run'; }

# Waits until process $1 is gone, at most $2 s.
gone_within() {
    left=$(($2 * 5))
    while is_bot "$1"; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 0.2
    done
}

pid=$(cat "$state/run.pid" 2>/dev/null || true)
case $pid in '' | *[!0-9]*) pid='' ;; esac
if [ -z "$pid" ]; then
    say "no pid file in $state: no bot was started there, or it has ended"
elif ! is_bot "$pid"; then
    say "process $pid of $state/run.pid is no bot any more"
else
    say "process $pid; its state before the stop:"
    $HIP3 status --json || say "it does not say"
    for step in "INT $WAIT_INT_S" "TERM $WAIT_TERM_S" "KILL $WAIT_KILL_S"; do
        signal=${step% *}
        say "SIG$signal, waiting at most ${step#* } s"
        kill -s "$signal" "$pid" 2>/dev/null
        if gone_within "$pid" "${step#* }"; then say "process $pid has ended"; break; fi
        say "process $pid still runs"
    done
    if is_bot "$pid"; then say "process $pid cannot be ended; the account is looked at all the same"; stuck=1; fi
fi

# Word splitting is meant: the options hold no spaces.
# shellcheck disable=SC2086
$HIP3 flatten --account "$account" $where --verify
code=$?
if [ $code -eq 4 ] && [ -n "$key" ]; then
    say "something is left, or not known: flattening"
    # shellcheck disable=SC2086
    $HIP3 flatten --account "$account" $where $key
    # shellcheck disable=SC2086
    $HIP3 flatten --account "$account" $where --verify
    code=$?
fi
[ "${stuck:-0}" -eq 0 ] || exit 5
case $code in
    0) say "the venue shows no order and no position. Now revoke the agent and disable autorestart (docs/runbook.md)" ;;
    *) say "NOT FLAT, or not known: look at the venue (docs/runbook.md)"; [ $code -eq 2 ] || code=4 ;;
esac
exit $code
