#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The parts of make bench that are text: figures to look at, never a verdict. $1 is the build directory; RUNS= how
# often (5).
#
# 1. Plans of several limits beside one token bucket, run in turn, and the exact log; their instructions too.
# 2. Hostile paths against path=: nanoseconds, and instructions of the first.
# 3. Delay in httpd (delay.pl).
# 4. Plan maps of a million keys: lookups (lookup), and start, memory and reload in httpd (maps.pl).
# 5. Lines of access logs that rlpctl simulate replays (simulate.sh).
set -eu

build=$1
here=$(dirname "$0")
runs=${RUNS:-5}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
have() { command -v "$1" >/dev/null; }

collected() { # number, options -> instructions of so many decisions and what comes before
    n=$1
    shift
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$build/t/bench/decision" -d hot "$@" -n "$n" 2>&1 |
        sed -n 's/.*Collected : //p'
}
counted() { # options -> instructions of one decision
    if have valgrind; then
        echo $((($(collected 51200 "$@") - $(collected 25600 "$@")) / 25600))
    else
        echo -
    fi
}
field() { sed "s/.*\"$1\":\([0-9.]*\).*/\1/"; }
beside() { # name, options: a plan beside one bucket
    name=$1
    shift
    for what in one ns all ratio ratio_all; do : >"$scratch/$what"; done
    i=0
    while [ "$i" -lt "$runs" ]; do
        one=$("$build/t/bench/decision" -d hot | field ns)
        line=$("$build/t/bench/decision" -d hot "$@")
        ns=$(echo "$line" | field ns)
        release=$(echo "$line" | field release_ns)
        echo "$one" >>"$scratch/one"
        echo "$ns" >>"$scratch/ns"
        awk "BEGIN { print $ns + $release }" >>"$scratch/all"
        awk "BEGIN { printf \"%.2f\\n\", $ns / $one }" >>"$scratch/ratio"
        awk "BEGIN { printf \"%.2f\\n\", ($ns + $release) / $one }" >>"$scratch/ratio_all"
        i=$((i + 1))
    done
    printf '%-34s %8s %8s %8s %8s %8s %12s\n' "$name" "$(median <"$scratch/one")" "$(median <"$scratch/ns")" \
        "$(median <"$scratch/ratio")" "$(median <"$scratch/all")" "$(median <"$scratch/ratio_all")" "$(counted "$@")"
}

have valgrind || echo 'Instructions: not counted, valgrind is missing'
echo "Plans, ns of a decision, one process, one key (ratio: plan / one token bucket; +release: places given back)"
printf '%-34s %8s %8s %8s %8s %8s %12s\n' '' bucket plan ratio +release ratio instructions
beside 'a token bucket'
beside 'two rates' -l 'rate=100000000/hour rate=100000000/day'
beside 'two rates, quota' -l 'rate=100000000/hour rate=100000000/day quota=1000000000000/month'
beside 'concurrency' -l 'concurrent=10000'
beside 'two rates, quota, concurrency' \
    -l 'rate=100000000/hour rate=100000000/day quota=1000000000000/month concurrent=10000'
beside 'log of 1000, full, refusing' -l 'rate=1000/s algorithm=sliding-log' -t 0 -r
beside 'log of 1000, full, allowing' -l 'rate=1000/s algorithm=sliding-log' -t 1000
beside 'log of 8192, full, refusing' -l 'rate=8192/s algorithm=sliding-log' -t 0 -r
beside 'log of 8192, full, allowing' -l 'rate=8192/s algorithm=sliding-log' -t 123

of_paths() { # number -> instructions of so many comparisons and what comes before
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$build/t/bench/path" -n "$1" 2>&1 |
        sed -n 's/.*Collected : //p'
}
echo
echo 'Hostile paths, ns of a comparison (least of 500)'
"$build/t/bench/path"
! have valgrind || echo "instructions of the first: $((($(of_paths 2000) - $(of_paths 1000)) / 1000))"

if ! have perl; then
    echo 'Delay, plan maps and logs: not measured, perl is missing'
    exit 0
fi
echo
echo 'Delay: four threads of which three may sleep, 40 clients that queue, another path beside them'
perl "$here/delay.pl" "$build"

echo
echo "Plan maps of a million keys: lookups; start, memory and reload in httpd"
awk 'BEGIN { for (i = 1; i <= 1000000; i++) printf "%032x free\n", i }' >"$scratch/keys"
"$build/t/bench/lookup" "$scratch/keys"
perl "$here/maps.pl" "$build"

echo
sh "$here/simulate.sh" "$build"
