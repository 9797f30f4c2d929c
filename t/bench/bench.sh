#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# make bench: figures to look at, never a verdict. $1 is the build directory; RUNS= how often (5).
#
# 1. Decisions of the library beside two lock-free yardsticks, run in turn: the ratios count.
# 2. Decisions from leases (sync=lease), without Redis' part.
# 3. Plans of several limits beside one token bucket, run in turn, and the exact log; their instructions
#    too.
# 4. Hostile paths against path=: nanoseconds, and instructions of the first.
# 5. Delay in httpd (delay.pl).
# 6. Plan maps of a million keys: lookups (lookup), and start, memory and reload in httpd (maps.pl).
# 7. Lines of access logs that rlpctl simulate replays (simulate.sh).
# 8. Instructions of one request in httpd, counted by valgrind: with the module less without it. They do
#    not depend on what else the machine does.
set -eu

build=$1
here=$(dirname "$0")
runs=${RUNS:-5}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX")
pid=
stop() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || :
    rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT TERM

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
rate() { "$build/t/bench/decision" "$@" | sed 's/.*"mops":\([0-9.]*\).*/\1/'; }

compare() { # name, options
    name=$1
    shift
    for kind in floor line library; do
        : >"$scratch/$kind"
    done
    i=0
    while [ "$i" -lt "$runs" ]; do
        for kind in floor line library; do
            rate -i "$kind" "$@" >>"$scratch/$kind"
        done
        i=$((i + 1))
    done
    printf '%-34s %10s %10s %10s %8s %8s\n' "$name" "$(median <"$scratch/floor")" \
        "$(median <"$scratch/line")" "$(median <"$scratch/library")" "$(ratio floor)" "$(ratio line)"
}

ratio() { # of what it is to the library, a median of pairs
    paste "$scratch/$1" "$scratch/library" | awk '{ printf "%.2f\n", $1 / $2 }' | median
}

echo "Decisions, millions a second (medians of $runs; ratios: floor / library, line / library)"
printf '%-34s %10s %10s %10s %8s %8s\n' '' floor line library floor line
compare 'one process, one key' -d hot -p 1
compare 'one process, a million keys, Zipf' -d zipf -p 1
compare 'one process, a million keys' -d uniform -p 1
compare 'two processes, one key' -d hot -p 2
compare 'eight processes, one key' -d hot -p 8
compare 'eight processes, a million keys' -d uniform -p 8

if [ -x "$build/t/bench/lease" ]; then
    printf '\n%s\n' "Decisions from leases, millions a second (medians of $runs)"
    for options in '-p 1 -k 1' '-p 1 -k 1000' '-p 2 -k 1' '-p 8 -k 1000'; do
        i=0
        while [ "$i" -lt "$runs" ]; do
            # shellcheck disable=SC2086 # several words
            "$build/t/bench/lease" $options | sed 's/.*"mops":\([0-9.]*\).*/\1/'
            i=$((i + 1))
        done | median | awk -v options="$options" '{ printf "%-34s %10s\n", options, $1 }'
    done
fi

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

echo
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
    echo 'Requests in httpd: not measured, perl is missing'
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

if ! have valgrind; then
    echo 'Instructions of a request: not counted, valgrind is missing'
    exit 0
fi

free_port() { perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'; }
requests() { # number: over one connection
    perl -MIO::Socket::INET -e '
        my ($port, $n) = @ARGV;
        alarm 60;
        my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or exit 1;
        for (1 .. $n) {
            print $s "GET /t.txt HTTP/1.1\r\nHost: a\r\n\r\n";
            my $got = "";
            sysread($s, $got, 4096, length $got) or exit 1 until $got =~ /\r\n\r\n.{64}/s;
        }' "$port" "$1"
}
finish() { # lets the server write what was counted
    kill "$pid"
    i=0
    while kill -0 "$pid" 2>/dev/null && [ "$i" -lt 300 ]; do
        i=$((i + 1))
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || :
    wait "$pid" 2>/dev/null || :
    pid=
}
# Both answer in a variable: stop() knows of no server that a subshell has started.
serving() { # number of requests, lines of configuration -> $total, instructions from start to end
    number=$1
    port=$(free_port)
    rm -rf "$scratch/run"
    mkdir "$scratch/run"
    cat >"$scratch/httpd.conf" <<CONF
ServerRoot "$scratch/run"
DefaultRuntimeDir "$scratch/run"
PidFile "$scratch/run/pid"
ServerName localhost
Listen 127.0.0.1:$port
ErrorLog "$scratch/run/error.log"
LogLevel error
LoadModule mpm_event_module "$HTTPD_MODULES/mod_mpm_event.so"
LoadModule authz_core_module "$HTTPD_MODULES/mod_authz_core.so"
ThreadsPerChild 2
ThreadLimit 2
MaxRequestWorkers 2
ServerLimit 1
StartServers 1
KeepAliveTimeout 300
MaxKeepAliveRequests 0
DocumentRoot "$scratch/www"
<Directory />
    Require all granted
</Directory>
$2
CONF
    chmod -R a+rwX "$scratch"
    set -- valgrind -q --tool=callgrind --instr-atstart=yes --callgrind-out-file="$scratch/run/cg.%p" \
        "$HTTPD" -X -f "$scratch/httpd.conf"
    [ "$(id -u)" != 0 ] || set -- setpriv --reuid=www-data --regid=www-data --clear-groups -- "$@"
    "$@" >"$scratch/out" 2>&1 &
    pid=$!
    i=0
    until requests 1 2>/dev/null; do
        i=$((i + 1))
        if [ "$i" -eq 300 ] || ! kill -0 "$pid"; then
            cat "$scratch/out" "$scratch/run/error.log" >&2
            exit 1
        fi
        sleep 0.1
    done
    requests "$number"
    finish
    total=$(sed -n 's/^\(totals\|summary\): //p' "$(find "$scratch/run" -name 'cg.*' | head -1)" | tail -1)
}
instructions() { # lines of configuration -> $each, instructions of a request
    serving 200 "$1"
    fewer=$total
    serving 1200 "$1"
    each=$(((total - fewer) / 1000))
}

mkdir "$scratch/www"
chmod 755 "$scratch"
printf '%064d' 0 >"$scratch/www/t.txt"
load="LoadModule ratelimit_plans_module \"$build/.libs/mod_ratelimit_plans.so\"
RateLimitEngine On
RateLimitRule site rate=90000/hour key=ip"
instructions ''
bare=$each
echo
echo "Instructions of one request, a small static file over a kept connection (bare httpd: $bare)"
for headers in Off IETF Legacy Both; do
    instructions "$load
RateLimitHeaders $headers"
    printf 'one rule by address, RateLimitHeaders %-8s adds %6d\n' "$headers" $((each - bare))
done
