#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The library's manual page: it has each function of the public headers as it is declared there, and its example
# compiles against them and does what the page shows.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics qw(configured slurp spill);

my $top = abs_path($ENV{top_srcdir} || dirname(dirname($0)));
my $build = abs_path($ENV{builddir} || '.');
my $page = slurp("$top/docs/libratelimit_plans.3");

# --- functions

# "TYPE NAME(ARGUMENTS)" of what a header declares, by name.
sub declared {
    my ($header) = @_;
    my $text = slurp("$top/lib/include/$header");
    $text =~ s{/\*.*?\*/}{}gs;
    $text =~ s/^#.*(?:\\\n.*)*\n//mg;
    $text =~ s/extern "C" \{//;
    my %found;
    while ($text =~ /^((?:static inline )?(?:const )?\w+ \**)(rlp_\w+)\(([^;{]*?)\)\s*[;{]/mgs) {
        my ($type, $name, $arguments) = ($1, $2, $3);
        $type =~ s/^static inline | $//g;
        $arguments =~ s/\s+/ /g;
        $found{$name} = "$type $name($arguments)";
    }
    return %found;
}

my %declared = map { declared($_) } qw(rlp.h rlp_store.h);
ok(keys %declared > 35, 'the headers can be read');

my %shown;
while ($page =~ /^\.Ft (.*)\n\.Fn (rlp_\w+) (.*)$/mg) {
    my ($type, $name, $arguments) = ($1, $2, $3);
    $shown{$name} = "$type $name(" . join(', ', $arguments =~ /"([^"]*)"/g) . ')';
}
is_deeply(\%shown, \%declared, 'the page declares the functions of the headers, as they do');

my ($description) = $page =~ /^\.Sh DESCRIPTION\n(.*)^\.Sh OWNERSHIP/ms;
my %told = map { $_ => 1 } $description =~ /^\.(?:It )?Fn (rlp_\w+)/mg;
is(join(' ', grep { !$told{$_} } sort keys %declared), '', 'and tells of each');

my @constants = grep { !/^RLP_(?:VERSION|LIMITS_MAX|STORE_SECRET|DIGEST_SIZE|SEGMENT_KEY|LOSS_REQUEST)$/ } # sizes, and a unit of stores
    map { slurp("$top/lib/include/$_") =~ /^#define (RLP_\w+) /mg } qw(rlp.h rlp_store.h rlp_entry.h);
is(join(' ', grep { $page !~ /^\.Dv $_\b/m } @constants), '', 'and of the bounds in the headers');

# --- the example

# Runs it in the directory; what it said, in which order ever.
sub said {
    my ($dir, $command) = @_;
    my $said = qx(cd "$dir" && { $command\n} 2>&1);
    return ($? >> 8, $said);
}

my ($examples) = $page =~ /^\.Sh EXAMPLES\n(.*?)^\.Sh /ms;
my ($program, $transcript) = map { s/\\e/\\/gr } $examples =~ /^\.Bd -literal\n(.*?)^\.Ed\n/msg;
ok($program && $transcript, 'the page has an example');

SKIP: {
    skip 'the library is not built here as a shared one', 1 if !-e "$build/.libs/libratelimit_plans.so";
    my $dir = tempdir('library.XXXXXX', TMPDIR => 1, CLEANUP => 1);
    spill("$dir/door.c", $program);
    $ENV{LD_LIBRARY_PATH} = join ':', "$build/.libs", $ENV{LD_LIBRARY_PATH} // ();
    my $flags = join ' ', map { configured($_) } qw(APR_CFLAGS CPPFLAGS CFLAGS RLP_SANITIZE LDFLAGS);
    my ($status, $error) = said($dir, configured('CC') . qq( -Wall -Wextra -Werror -I"$top/lib/include" $flags -o door door.c)
            . qq( -L"$build/.libs" -lratelimit_plans ) . configured('APR_LIBS'));
    is("$status$error", '0', 'it compiles without a warning') or last SKIP;
    for my $step (split /^(?=\$ )/m, $transcript) {
        my ($command, $expected) = $step =~ /^\$ ([^\n]*)\n(.*)\z/s;
        is((said($dir, $command))[1], $expected, $command);
    }
    is((said($dir, './door'))[1], "door: usage: door FILE\n", 'and says what it wants');
    like((said($dir, './door nowhere/counters'))[1], qr{^door: .*nowhere/counters}, 'or what went wrong');
}

done_testing;
