#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# ./quickstart where newcomers are: interrupted and called again, with a TMPDIR of root's own, behind a proxy. In a tree
# of the test's own, with programs of its own in place of those that install and build.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX ();
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics qw(configured free_port slurp slurp_any spill wait_for);

my $top = abs_path($ENV{top_srcdir} || dirname(dirname($0)));
my $build = abs_path($ENV{builddir} || '.');
my $dir = tempdir('quickstart.XXXXXX', DIR => '/tmp', CLEANUP => 1);
chmod 0755, $dir or die "$dir: $!\n";
mkdir "$dir/$_" or die "$_: $!\n" for qw(bin system tree);
my $tree = "$dir/tree";

sub script {
    my ($file, $text) = @_;
    spill($file, "#!/bin/sh\n$text");
    chmod 0755, $file or die "$file: $!\n";
    return;
}

# What it puts below / while it installs goes below a directory of the test's own.
my %place = map { $_ => "$dir/system/" . tr{/}{_}r } slurp("$top/quickstart") =~ m{^readonly \w+=(/\S+)$}mg;
is(scalar keys %place, 3, 'quickstart names what it puts into the system for a moment');
(my $quickstart = slurp("$top/quickstart")) =~ s{^(readonly \w+=)(/\S+)$}{$1$place{$2}}mg;
spill("$tree/quickstart", $quickstart);
chmod 0755, "$tree/quickstart" or die "$!\n";
spill("$tree/configure.ac", '');

# Stands in for programs: no package is there, and none is installed.
script("$dir/bin/sudo", qq{test "\$1" = -- && shift\nexec "\$@"\n});
script("$dir/bin/$_", "exit 0\n") for qw(apt-cache systemctl update-rc.d);
script("$dir/bin/dpkg-query", "echo installed\n");
$ENV{PATH} = "$dir/bin:$ENV{PATH}";
delete @ENV{qw(MAKEFLAGS MAKELEVEL TMPDIR PORT)};
delete @ENV{ grep { /_proxy$/i } keys %ENV };

# In a session of its own, as at a terminal; its process id.
sub spawn {
    my (@words) = @_;
    my $pid = fork // die "fork: $!\n";
    return $pid if $pid;
    POSIX::setsid();
    local $SIG{INT} = 'DEFAULT';
    open STDIN, '<', '/dev/null' or POSIX::_exit(126);
    open STDOUT, '>', "$dir/said" or POSIX::_exit(126);
    open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
    exec "$tree/quickstart", @words or POSIX::_exit(127);
}

# Its status, and what it said.
sub quickstart {
    my (@words) = @_;
    waitpid spawn(@words), 0;
    return ($? & 127 || $? >> 8, slurp("$dir/said"));
}

# --- interrupted while the build system is made: configure is there, and what comes after it is not

script("$dir/bin/autoreconf", <<'END');
printf '#!/bin/sh\ntest -e ../Makefile.in && echo all: >Makefile\n' >configure
chmod 755 configure
test ! -e again && : >again && exit 1
: >Makefile.in
END
my ($status, $said) = quickstart('build');
is($status, 1, 'autoreconf is interrupted');
like($said, qr/^quickstart: autoreconf failed$/m, 'which quickstart says');
($status, $said) = quickstart('build');
is("$status $said", "0 Built in $tree/build.\n", 'called again, it makes what is missing');

# --- interrupted while packages are installed

sub there { return join ' ', grep { -e $place{$_} } sort keys %place }

script("$dir/bin/dpkg-query", "exit 1\n");
script("$dir/bin/apt-get", qq{ls "$dir/system" >>"$dir/seen"\nkill -INT 0\nsleep 5\n});
($status, $said) = quickstart('check');
isnt($status, 0, 'Ctrl-C while packages are installed ends it');
like(slurp_any("$dir/seen"), qr/policy-rc/, 'when no package might start its service');
is(there(), '', 'and nothing is left that keeps services from starting');
script("$dir/bin/apt-get", "exit 1\n");
($status, $said) = quickstart('check');
like($said, qr/^quickstart: cannot install: apache2-bin /m, 'it says what it cannot install');
is(there(), '', 'and nothing is left then either');
script("$dir/bin/dpkg-query", "echo installed\n");

# --- a test that died: why is repeated at the end

spill("$tree/suite", <<'END');
PASS: t/x.t 1 - one
ERROR: t/x.t - missing test plan
==================================
   mod_x 1.0: ./test-suite.log
==================================

# TOTAL: 2
# PASS:  1
# ERROR: 1

.. contents:: :depth: 2

ERROR: t/x
==========

the server did not start:
no port
ok 1 - one
    ok 1 - some
    1..1
PASS: t/x.t 1 - one
ERROR: t/x.t - missing test plan

============================================================================
Testsuite summary
# TOTAL: 2
# PASS:  1
# ERROR: 1
============================================================================
See ./test-suite.log
# PASS:  40
# FAIL:  0
# SKIP:  2
# ERROR: 0
END
script("$tree/configure", "printf 'all check-asan check-tsan lint check-unit:\\ncheck:\\n\\tcat ../../suite; exit 1\\n' >Makefile\n");
($status, $said) = quickstart('check');
is($status, 1, 'a check that fails');
is($said =~ s/.*(?==== tests: failed)//sr, <<'END', 'ends with what failed, and why it died');
=== tests: failed
ERROR: t/x.t - missing test plan
ERROR: t/x
the server did not start:
no port
ERROR: t/x.t - missing test plan
41 passed, 1 failed, 2 skipped
END

# --- the demo

SKIP: {
    my $module = "$build/.libs/mod_ratelimit_plans.so";
    skip 'httpd or the module is not there', 1 if !-x configured('HTTPD') || !-e $module;
    system 'cp', '-R', '--no-preserve=mode', "$top/conf", "$tree/";
    mkdir "$tree/build/.libs" or die "$!\n";
    symlink $module, "$tree/build/.libs/mod_ratelimit_plans.so" or die "$!\n";
    spill("$tree/build/Makefile", join '', "all:\n", map { "$_ = " . configured($_) . "\n" } qw(HTTPD HTTPD_MODULES));

    mkdir "$dir/closed", 0700 or die "$!\n";
    local $ENV{TMPDIR} = "$dir/closed";
    my $port = local $ENV{PORT} = free_port();
    my $pid = spawn('demo');
    wait_for(sub { slurp_any("$dir/said") =~ /Ctrl-C/ || waitpid($pid, POSIX::WNOHANG()) > 0 });
    my $socket = IO::Socket::INET->new("127.0.0.1:$port");
    print {$socket} "GET /api/hello HTTP/1.0\r\n\r\n" if $socket;
    is($socket && <$socket>, "HTTP/1.1 200 OK\r\n", 'a TMPDIR that is closed to others does not close the demo')
        or diag(slurp("$dir/said"));
    unlike(slurp("$dir/said"), qr/proxy/, 'nothing of a proxy');
    ($status, $said) = quickstart('demo');
    is($status, 1, 'a port that is taken ends another one');
    like($said, qr/^quickstart: port $port of 127[.]0[.]0[.]1 is taken; choose another/m, 'which it says');
    kill 'INT', -$pid;
    waitpid $pid, 0;
    is($?, 0, 'Ctrl-C ends the demo');
    ok(!IO::Socket::INET->new("127.0.0.1:$port"), 'and its httpd');
    is(join(' ', glob "$dir/closed/*"), '', 'and it leaves nothing');

    local $ENV{http_proxy} = 'http://192.0.2.1:3128';
    $pid = spawn('demo');
    wait_for(sub { slurp_any("$dir/said") =~ /Ctrl-C/ || waitpid($pid, POSIX::WNOHANG()) > 0 });
    like(slurp("$dir/said"), qr/Try:\n\n  export no_proxy=127[.]0[.]0[.]1\n/, 'behind a proxy curl is to know of it first');
    kill 'INT', -$pid;
    waitpid $pid, 0;
    my $perl = qq{"$^X" -I"$top/t/lib" -MRLP::Basics -e 'print \$ENV{TMPDIR} // "/tmp", " \$ENV{no_proxy}"'};
    is(qx($perl), ($> == 0 ? '/tmp' : "$dir/closed") . ' *', 'tests have neither');
}

done_testing;
