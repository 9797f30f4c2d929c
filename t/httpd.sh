#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# httpd.sh check-httpd-MPM: runs the tests of the module in httpd, with that MPM if it is among MPMS, in a scratch copy
# of what they need: Apache::Test can have no blanks in its paths, and httpd's children must be able to read them. make
# check-httpd gives the rest of the environment. HTTPD_TESTS="limits plans" runs these alone; KEEP=yes leaves the copy.
set -eu
umask 022
mpm=${1#check-httpd-}
: "${top_srcdir:?}" "${builddir:?}" "${HTTPD:?}" "${HTTPD_MODULES:?}"
: "${MPMS:=prefork worker event}" "${PERL:=perl}" "${KEEP:=no}"
: "${HTTPD_TESTS:=$(cd "$top_srcdir" && grep -l '^use RLP::' t/*.t | sed 's|^t/||; s|[.]t$||' | tr '\n' ' ')}"

for one in $MPMS; do
    case $one in
    prefork | worker | event) ;;
    *)
        echo "expected MPMS=\"prefork worker event\" or some of these, got \"$one\"" >&2
        exit 1
        ;;
    esac
done
case " $MPMS " in
*" $mpm "*) ;;
*) exit 0 ;;
esac

# nothing of an outer make or harness is for the tests
unset MAKEFLAGS MAKELEVEL MFLAGS HARNESS_ACTIVE HARNESS_VERSION PERL5LIB
export LC_ALL=C APACHE_TEST_NO_STICKY_PREFERENCES=1 APACHE_TEST_ULIMIT_SET=1

if ! "$PERL" -MApache::TestRun -e 1 2>/dev/null; then
    echo 'The tests in httpd need Apache::Test (Debian: libapache2-mod-perl2).' >&2
    echo '# ERROR: 1'
    exit 1
fi

# Apache::Test refuses root.
run_unprivileged() {
    if test "$(id -u)" = 0; then
        setpriv --reuid=www-data --regid="$(id -gn www-data)" --clear-groups "$@"
    else
        "$@"
    fi
}

base=${TMPDIR:-/tmp}
case $base in *[!A-Za-z0-9_./+-]*) base=/tmp ;; esac
run_unprivileged test -x "$base" || base=/tmp # root's own may be closed to others
scratch=$(mktemp -d "$base/ratelimit-plans-httpd.XXXXXX")
if test "$KEEP" = yes; then
    echo "kept: $scratch"
else
    trap 'rm -rf -- "$scratch"' EXIT
fi
trap 'exit 1' INT TERM HUP
chmod 755 "$scratch"

# rlpctl with the library it is linked to, without libtool's script around both
copy_rlpctl() {
    mkdir "$scratch/bin"
    if test -f "$builddir/rlpctl/.libs/rlpctl"; then
        cp "$builddir/rlpctl/.libs/rlpctl" "$scratch/bin/rlpctl.bin"
        cp "$builddir"/.libs/libratelimit_plans.so.* "$scratch/bin/"
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$scratch/bin" "$scratch/bin/rlpctl.bin" \
            >"$scratch/bin/rlpctl"
        chmod 755 "$scratch/bin/rlpctl"
    else
        cp "$builddir/rlpctl/rlpctl" "$scratch/bin/rlpctl"
    fi
}

copy_tests() {
    tree=$scratch/$mpm
    mkdir "$tree"
    (cd "$top_srcdir" && tar -cf - t/TEST.PL t/conf t/htdocs t/lib t/*.t conf/examples conf/fail2ban conf/ratelimit_plans.conf docs/operations.md docs/simulate.md) | tar -C "$tree" --no-same-owner -xf -
    chmod -R u=rwX,go=rX "$tree" # make distcheck has its sources read-only
    # all that Apache::Test takes over from elsewhere
    echo "LoadModule mpm_${mpm}_module \"$HTTPD_MODULES/mod_mpm_$mpm.so\"" >"$tree/t/conf/mpm.conf"
    if test "$(id -u)" = 0; then
        chown -R www-data: "$tree"
    fi
}

# What the configuration says does not depend on the MPM: once is enough.
run_tests() {
    tests=
    for name in $HTTPD_TESTS; do
        if test "${name#configtest}" = "$name" || test "$mpm" = event; then
            tests="$tests t/$name.t"
        fi
    done
    copy_tests
    cd "$scratch/$mpm"
    # shellcheck disable=SC2086 # words
    run_unprivileged env RLP_MPM="$mpm" RLP_TOP="$scratch/$mpm" RLPCTL="$scratch/bin/rlpctl" HTTPD="$HTTPD" \
        HTTPD_MODULES="$HTTPD_MODULES" MODULE_SO="$scratch/modules/mod_ratelimit_plans.so" \
        TESTCLOCK_SO="$scratch/modules/mod_rlp_testclock.so" C_MODULES="$scratch/modules" HOME="$scratch/$mpm" \
        "$PERL" t/TEST.PL -httpd "$HTTPD" -httpd_conf "$scratch/$mpm/t/conf/mpm.conf" $tests
}

# What there is to say about a failure, since the copy goes; and no httpd outlives its tests, however they ended.
after_tests() {
    logs=$scratch/$mpm/t/logs
    if test "$1" != 0 && test -f "$logs/error_log"; then
        echo "the end of httpd's error log:"
        grep -v 'RLP001\|:debug\]' "$logs/error_log" | tail -n 20
    fi
    if test -s "$logs/httpd.pid"; then
        kill "$(cat "$logs/httpd.pid")" 2>/dev/null || :
    fi
}

run() {
    rv=0
    echo "--- httpd with mpm_$mpm"
    (run_tests) </dev/null || rv=$?
    after_tests "$rv"
    echo "$rv" >"$scratch/status"
}

mkdir "$scratch/modules"
cp "$builddir/.libs/mod_ratelimit_plans.so" "$builddir"/t/c-modules/mod_rlp_*.so \
    "$scratch/modules/"
copy_rlpctl

# by whole lines, as other MPMs may be tested beside
run 2>&1 | sed -u "s/^\[/$mpm: [/"
exit "$(cat "$scratch/status")"
