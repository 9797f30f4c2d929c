#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# make install: what it puts where others look for it they can read, under any umask; make uninstall takes it all away,
# and make distclean the builds of their own; configure refuses what cannot be loaded then. Needs builddir, and top_srcdir.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find qw(find);
use File::Temp qw(tempdir);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics qw(configured slurp);

my $top = abs_path($ENV{top_srcdir} || dirname(dirname($0)));
my $build = abs_path($ENV{builddir} || '.');
my $dir = tempdir('install.XXXXXX', TMPDIR => 1, CLEANUP => 1);
delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};

plan skip_all => 'nothing is built here' if !-e "$build/.libs/mod_ratelimit_plans.so";

# All files below the directory of the installation.
sub files {
    my @found;
    find({ no_chdir => 1, wanted => sub { push @found, $_ if !-d $_ || -l $_ } }, $dir);
    return sort @found;
}

sub made {
    my ($target) = @_;
    my $said = qx(make -C "$build" $target DESTDIR="$dir" 2>&1);
    return is($?, 0, "make $target") || diag($said);
}

umask 077;
made('install');
my @files = files();
is(join(' ', grep { ((stat)[2] & 0444) != 0444 } @files), '', 'everybody can read what is installed by umask 077');
is(join(' ', grep { /[.]a$/ } map { s{.*/}{}r } grep { /modules/ } @files), '', 'and the module is none to link with');

my $load = configured('modsavailabledir') . '/ratelimit_plans.load';
if ($load =~ m{^/}) { # where there is a2enmod
    my ($module) = slurp("$dir$load") =~ /^LoadModule ratelimit_plans_module (\S+)$/m;
    ok(-x "$dir$module", 'ratelimit_plans.load names the module');
}
made('uninstall');
is(join(' ', files()), '', 'make uninstall leaves nothing');

# Builds of their own, which some targets make in the one they are called in, and what else they leave there.
{
    my %own = map { $_ => 1 } 'bench', map { slurp($_) =~ /\b(?:dir=|cd )(\w+)(?: && \\$|;| sanitizer)/mg } glob "\Q$top\E/t/*/*.am";
    my @own = sort keys %own;
    cmp_ok(@own, '>', 5, "builds of their own: @own");
    my ($recipe) = qx(make -n -C "$build" distclean-local) =~ /^(rm .*)/m;
    mkdir "$dir/$_" or die "$dir/$_: $!\n" for @own;
    is(system(qq(cd "$dir" && @{ [ $recipe // 'false' ] })), 0, 'make distclean');
    is(join(' ', grep { -e "$dir/$_" } @own), '', '  ends them, too');
}

# Of configure with an option, why it ends.
sub refused {
    my ($option) = @_;
    my $said = qx(cd "$dir" && "$top/configure" -q $option 2>&1);
    return $said =~ /^configure: error: (.*)/m ? $1 : $said;
}

SKIP: {
    skip 'configure refuses to run for this directory', 4 if $top =~ /\s/ || -e "$top/config.status";
    my $expected = 'expected an absolute directory name';
    is(refused('--with-moduledir=modules'), "$expected for --with-moduledir: modules", 'a directory that is no absolute one');
    is(refused('--with-mods-available'), "$expected, or no, for --with-mods-available: yes", 'none at all');
    is(refused('--with-mods-available=here'), "$expected, or no, for --with-mods-available: here", 'one that is no absolute one');
    is(refused('--disable-shared'), 'httpd loads shared objects: without --disable-shared', 'a module that httpd cannot load');
}

done_testing;
