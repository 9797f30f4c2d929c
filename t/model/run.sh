#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# make model: checks each model, and that the checker finds the mistake put into each mutant. Needs spin.
set -eu

here=$(cd -- "$(dirname -- "$0")" && pwd -P)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/model.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

if ! command -v spin >/dev/null; then
    echo "make model: spin is missing; on Debian: apt-get install spin" >&2
    exit 1
fi

errors() { # model, options -> how many errors the checker found
    model=$1
    shift
    (
        cd "$scratch"
        spin "$@" -a "$here/$model.pml" >spin.log || { cat spin.log >&2; exit 1; }
        ${CC:-gcc} -O2 -DSAFETY -DCOLLAPSE -DNFAIR=1 -o pan pan.c 2>cc.log || { cat cc.log >&2; exit 1; }
        ./pan -m1000000 -n >pan.log
        if grep -q 'max search depth too small\|out of memory' pan.log; then
            cat pan.log >&2
            exit 1
        fi
        sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log
    )
}

states() { sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' "$scratch/pan.log"; }

failed=0
for model in ${MODELS:-shard evict breaker lease}; do
    found=$(errors "$model")
    if [ "$found" = 0 ]; then
        echo "ok - $model: $(states) states, no error"
    else
        echo "not ok - $model: $found errors"
        failed=1
    fi
    mutants=$(sed -n 's/^#ifn\{0,1\}def //p' "$here/$model.pml" | sort -u)
    for mutant in $mutants; do
        found=$(errors "$model" "-D$mutant")
        if [ "$found" != 0 ]; then
            echo "ok - $model: the mutant $mutant is found out"
        else
            echo "not ok - $model: the mutant $mutant is not found out"
            failed=1
        fi
    done
done
exit "$failed"
