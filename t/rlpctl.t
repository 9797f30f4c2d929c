#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl answers the table t/unit/cases.txt over both stores, says it in JSON too, and refuses what it should.
# Needs RLPCTL and top_srcdir in the environment.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use JSON::PP qw(decode_json);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Rlpctl qw(rlpctl);

my $top = $ENV{top_srcdir} || dirname(dirname($0));

# One answer of the table as lines to ask and patterns to expect.
sub expand {
    my ($answer) = @_;
    my ($at, $cost, $times, $what, $number, $rest, $reset) =
        $answer =~ m{^([\d.]+)(?:\*(-?[\d.]+))?(?:x(\d+))?:([AWDN])([\d.]*)(?:/(\d+))?(?:~(\d+))?$}
        or die "not an answer: $answer\n";
    my (@ask, @expect);
    for my $i (1 .. $times || 1) {
        my $later = (($times || 1) - $i) * int($cost // 1);
        my $remaining = $what eq 'A' ? $number + $later : $rest || 0;
        my $retry = $what =~ /[AW]/ ? 0 : $what eq 'D' ? $number : '-';
        push @ask, join ' ', $at, defined $cost ? $cost : ();
        push @expect, join "\t", $at, { A => 'allow', W => 'wait', D => 'deny', N => 'never' }->{$what},
            "remaining=$remaining", "retry=$retry", 'reset=' . ($reset // '*'), $what eq 'W' ? 'wait=' . ($number + 0) : ();
    }
    return (\@ask, \@expect);
}

sub table {
    my @cases;
    open my $in, '<', "$top/t/unit/cases.txt" or die "cases.txt: $!\n";
    while (<$in>) {
        chomp;
        my ($name, $limits, $answers) = split / [|] /;
        next if /^#/ || !defined $answers;
        my (@ask, @expect);
        for my $answer (split ' ', $answers) {
            my ($ask, $expect) = expand($answer);
            push @ask, @{$ask};
            push @expect, @{$expect};
        }
        push @cases, { name => $name, limits => [ split ' ', $limits ], ask => \@ask, expect => \@expect };
    }
    return @cases;
}

sub text {
    my (@lines) = @_;
    return join '', map { "$_\n" } @lines;
}

my @cases = table();

for my $case (@cases) {
    for my $store (qw(memory shm)) {
        my ($status, $out) = rlpctl(text(@{ $case->{ask} }), 'try', "--store=$store", @{ $case->{limits} });
        my @got = split /\n/, $out;
        for my $i (0 .. $#got) {
            $got[$i] =~ s/reset=\S*/reset=*/ if ($case->{expect}[$i] // '') =~ /[*]/;
        }
        is_deeply([ $status, @got ], [ 0, @{ $case->{expect} } ], "$case->{name}, $store");
    }
}

# --- JSON

my ($status, $out) = rlpctl("0\n0.50\n.75\n\n1 1.5\n1 2\n", 'try', '--json', 'rate=1/s');
my @objects = map { decode_json($_) } split /\n/, $out;
is_deeply(
    \@objects,
    [   { at => 0,    verdict => 'allow', remaining => 0, retry => 0,     reset => 1 },
        { at => 0.5,  verdict => 'deny',  remaining => 0, retry => 1,     reset => 1 },
        { at => 0.75, verdict => 'deny',  remaining => 0, retry => 1,     reset => 1 },
        { at => 1,    verdict => 'never', remaining => 1, retry => undef, reset => 0 },
        { at => 1,    verdict => 'never', remaining => 1, retry => undef, reset => 0 },
    ],
    '--json: an object a line, numbers as numbers, null for never'
);
(undef, $out) = rlpctl("0\n", 'try', '--json', 'quota=1');
is(decode_json($out)->{reset}, undef, 'Q-07 --json: a quota that is never renewed has no reset');
(undef, $out) = rlpctl("0\n0\n", 'try', 'quota=1');
like($out, qr/\tnever\tremaining=0\tretry=-\treset=-\n\z/, 'Q-07 no Retry-After in text either');

# --- what is refused: arguments, input, exit status, complaint

my @refused = (
    [ [],                                        '',           64, qr/^usage: rlpctl try/ ],
    [ ['try'],                                   '',           64, qr/^usage: rlpctl try/ ],
    [ ['trie', 'rate=1/s'],                      '',           64, qr/^usage: rlpctl try/ ],
    [ [ 'try', '--color', 'rate=1/s' ],          '',           64, qr/expected --json, --store=.*got "--color"/ ],
    [ [ 'try', '--store=redis', 'rate=1/s' ],    '',           64, qr/got "--store=redis"/ ],
    [ [ 'try', '--json' ],                       '',           64, qr/expected a limit/ ],
    [ [ 'try', 'rate=5/fortnight' ],             '',           64, qr/^rlpctl: expected a span.*"5?.*fortnight"/ ],
    [ [ 'try', 'limit=10', 'window=60' ],        '',           64, qr{expected rate=10/60s} ],
    [ [ 'try', 'rate=1/s', 'algorithm=bucket' ], '',           64, qr/expected algorithm=NAME with one of token-bucket/ ],
    [ [ 'try', 'rate=1/s' ],                     "now\n",      65, qr/^rlpctl: line 1: expected "AT \[COST\]"/ ],
    [ [ 'try', 'rate=1/s' ],                     "0\n-1\n",    65, qr/line 2: expected/ ],
    [ [ 'try', 'rate=1/s' ],                     "0 1 2\n",    65, qr/line 1: expected/ ],
    [ [ 'try', 'rate=1/s' ],                     "0.1234567\n", 65, qr/at most six decimals/ ],
    [ [ 'try', 'rate=1/s' ],                     "0 many\n",   65, qr/expected a number.*got "many"/ ],
    [ [ 'try', 'rate=1/s' ],                     "0 .0001\n",  65, qr/three decimals, got ".0001"/ ],
);
for my $case (@refused) {
    my ($args, $input, $wanted, $pattern) = @{$case};
    my ($got, $printed, $complaint) = rlpctl($input, @{$args});
    subtest "refused: rlpctl @{$args} <<< '" . $input =~ s/\n/;/gr . "'" => sub {
        is($got, $wanted, 'exit status');
        like($complaint, $pattern, 'complaint');
        unlike($printed, qr/expected|usage/, 'nothing of it on the output');
    };
}

# --- hash-key

my $abc = 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
for my $input ("abc\n", 'abc', "abc\r\n") {
    is_deeply([ rlpctl($input, 'hash-key') ], [ 0, "$abc\n", '' ], 'hash-key: abc, whatever ends the line');
}
is_deeply([ rlpctl("abc\nabc\n", 'hash-key') ], [ 0, "$abc\n$abc\n", '' ], 'hash-key: a digest for each line');
is_deeply([ rlpctl('', 'hash-key') ], [ 0, '', '' ], 'hash-key: nothing of nothing');
isnt((rlpctl("a b\n", 'hash-key'))[1], (rlpctl("ab\n", 'hash-key'))[1], 'hash-key: blanks inside count');
for my $case (
    [ "abc\n\n",  [],      65, qr/^rlpctl: line 2: expected a key, got an empty line$/ ],
    [ "a\0b\n",   [],      65, qr/^rlpctl: line 1: expected a key, got a NUL byte$/ ],
    [ "abc \n",   [],      65, qr/^rlpctl: line 1: expected a key without blanks at its ends$/ ],
    [ "\tabc\n",  [],      65, qr/^rlpctl: line 1: expected a key without blanks at its ends$/ ],
    [ '',         ['abc'], 64, qr/^rlpctl: expected keys on standard input, and no arguments\n\nusage: rlpctl hash-key/ ],
    )
{
    my ($input, $args, $wanted, $pattern) = @{$case};
    my ($got, undef, $complaint) = rlpctl($input, 'hash-key', @{$args});
    ok($got == $wanted && $complaint =~ $pattern && $complaint !~ /abc/, "hash-key refuses, and shows no key: $pattern")
        or diag("$got $complaint");
}
($status, $out) = rlpctl('', 'hash-key', '--help');
ok($status == 0 && $out =~ /^usage: rlpctl hash-key/, 'hash-key --help');

for my $words ([ '--help' ], [ 'help' ], [ 'try', '--help' ]) {
    ($status, $out) = rlpctl('', @{$words});
    ok($status == 0 && $out =~ /^usage: rlpctl try.*--store=memory\|shm/s, "rlpctl @{$words}");
}
($status, $out) = rlpctl('', '--version');
like($out, qr/^rlpctl \d+\.\d+\.\d+\n\z/, 'rlpctl --version');

{
    my $dir = tempdir(CLEANUP => 1);
    local $ENV{TMPDIR} = $dir;
    rlpctl("0\n", 'try', '--store=shm', 'rate=1/s');
    opendir my $left, $dir or die "$dir: $!\n";
    is_deeply([ grep { !/^[.]/ } readdir $left ], [], '--store=shm leaves nothing behind');
}

done_testing();
