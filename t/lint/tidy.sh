#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
# clang-tidy over all C code, two files at a time. APR_CFLAGS, HTTPD_INCLUDEDIR and BUILDDIR come from
# configure; a file's report is printed in one piece, and only if there is something to report.
set -eu

system=$(printf '%s' "$APR_CFLAGS $HIREDIS_CFLAGS" | sed 's/-I */-isystem /g')
own='-Ilib/include -Ilib -Imod_ratelimit_plans -Irlpctl -It/unit'
flags="-std=gnu11 -D_GNU_SOURCE $own -I$BUILDDIR/lib -I$BUILDDIR/mod_ratelimit_plans $system -isystem $HTTPD_INCLUDEDIR"

# shellcheck disable=SC2016 # the inner shell expands them
find lib mod_ratelimit_plans rlpctl t -name '*.c' | sort | xargs -P2 -n1 sh -c '
    report=$("$0" --quiet "$2" -- $1 2>&1) || { printf "%s\n" "$report"; exit 1; }
' "${CLANG_TIDY:-clang-tidy}" "$flags"
