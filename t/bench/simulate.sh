#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Lines a second of rlpctl simulate on one core: the least processor time of several runs over a generated log of
# combined lines. $1 is the build directory; RUNS= how often (5), LINES= how long a log (1000000).
set -eu

build=$1
here=$(dirname "$0")
runs=${RUNS:-5}
lines=${LINES:-1000000}
log=$(mktemp "${TMPDIR:-/tmp}/bench-log.XXXXXX")
trap 'rm -f "$log" "$log.gz"' EXIT
trap 'exit 130' INT TERM

perl "$here/access_log.pl" "$lines" 20000 200 >"$log"
gzip -c "$log" >"$log.gz"

seconds() { # words -> processor seconds of a run
    perl -e 'open STDOUT, ">", "/dev/null"; system(@ARGV) == 0 or exit 1; my @t = times; print STDERR $t[2] + $t[3], "\n"' \
        "$build/rlpctl/rlpctl" simulate "$@" 2>&1
}
measure() { # name, words
    name=$1
    shift
    i=0
    while [ "$i" -lt "$runs" ]; do
        seconds "$@"
        i=$((i + 1))
    done | sort -n | head -1 | awk -v name="$name" -v lines="$lines" '{ printf "%-34s %10.2f\n", name, lines / $1 / 1e6 }'
}

echo "Replayed lines of an access log, millions a second of one core (best of $runs; $lines lines, 20 000 identities)"
measure 'one plan, both bounds' --plan='free=rate=10/min burst=20' "$log"
measure 'three plans, both bounds' --plan='free=rate=10/min burst=20' --plan='pro=rate=100/min quota=10000/day' \
    --plan='log=rate=100/min algorithm=sliding-log' "$log"
measure 'one plan, compressed' --plan='free=rate=10/min burst=20' "$log.gz"
