#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# ./quickstart, interrupted and called again: in a tree of the test's own, with programs of its own in place of those that
# install and build.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use POSIX ();
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics qw(slurp slurp_any spill);

my $top = abs_path($ENV{top_srcdir} || dirname(dirname($0)));
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

done_testing;
