#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl try with every algorithm, over both stores, as JSON and as text: all answers are worked out by hand. Needs
# RLPCTL in the environment.

use strict;
use warnings;

use File::Basename qw(dirname);
use JSON::PP qw(decode_json);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Rlpctl qw(rlpctl);

my $program = $ENV{RLPCTL} || q{rlpctl/rlpctl};

# limits | requests, each AT[*COST] | answers, each VERDICT:REMAINING:RETRY:RESET[:WAIT]
my @table = map { [ split / *[|] */ ] } grep { /\S/ } split /\n/, <<'TABLE';
rate=2/s                                     | 0 0 0.5 1 10          | allow:1:0:1 allow:0:0:1 allow:0:0:1 allow:0:0:1 allow:1:0:1
rate=2/s                                     | 0*2 0.25 0.5          | allow:0:0:1 deny:0:1:1 allow:0:0:1
rate=2/s                                     | 0*3 0                 | never:2:-:0 allow:1:0:1
rate=2/s burst=4                             | 0*4 0 1*2             | allow:0:0:2 deny:0:1:2 allow:0:0:2
rate=10/min burst=5                          | 0*5 0 5.9 6           | allow:0:0:30 deny:0:6:30 deny:0:1:25 allow:0:0:30
rate=2/s initial=0                           | 0 0.5 1               | deny:0:1:1 allow:0:0:1 allow:0:0:1
rate=2/s                                     | 5*2 4 5               | allow:0:0:1 deny:0:2:2 deny:0:1:1
rate=2/s                                     | 0*0.5 0*0.5 0*1 0*.001 | allow:1:0:1 allow:1:0:1 allow:0:0:1 deny:0:1:1
rate=2/s algorithm=stepped-bucket            | 0 0 0.5 1 1 1         | allow:1:0:1 allow:0:0:1 deny:0:1:1 allow:1:0:1 allow:0:0:1 deny:0:1:1
rate=1/2s algorithm=leaky-bucket burst=2     | 0 0 2                 | allow:0:0:2 deny:0:2:2 allow:0:0:2
rate=2/s algorithm=fixed-window              | 0 0.9 0.95 1 1.5 1.9  | allow:1:0:1 allow:0:0:1 deny:0:1:1 allow:1:0:1 allow:0:0:1 deny:0:1:1
rate=2/s algorithm=fixed-window              | 0*3                   | never:2:-:1
rate=3/10s algorithm=fixed-window            | 4*3 5 9.9 10        | allow:0:0:6 deny:0:5:5 deny:0:1:1 allow:2:0:10
rate=2/s algorithm=sliding-log               | 0 0.5 0.9 1 1.5 1.9   | allow:1:0:1 allow:0:0:1 deny:0:1:1 allow:0:0:1 allow:0:0:1 deny:0:1:1
rate=2/10s algorithm=sliding-log             | 0 4 9 10 13 14        | allow:1:0:10 allow:0:0:10 deny:0:1:5 allow:0:0:10 deny:0:1:7 allow:0:0:10
rate=2/s algorithm=sliding-window            | 0 0 0.5 10            | allow:1:0:2 allow:0:0:2 deny:0:1:2 allow:1:0:2
quota=2                                      | 0 0 0 86400           | allow:1:0:- allow:0:0:- never:0:-:- never:0:-:-
quota=2/day                                  | 3600 3600 7200 86400  | allow:1:0:82800 allow:0:0:82800 deny:0:79200:79200 allow:1:0:86400
quota=1/week                                 | 0 345599 345600       | allow:0:0:345600 deny:0:1:1 allow:0:0:604800
quota=1/month                                | 0 2678399 2678400     | allow:0:0:2678400 deny:0:1:1 allow:0:0:2419200
quota=1/year                                 | 0 31535999 31536000   | allow:0:0:31536000 deny:0:1:1 allow:0:0:31536000
rate=5/s quota=2/day                         | 0 0 0                 | allow:1:0:86400 allow:0:0:86400 deny:0:86400:86400
rate=1/s quota=5/day                         | 0 0 1                 | allow:0:0:1 deny:0:1:1 allow:0:0:1
quota=0                                      | 0                     | never:0:-:-
TABLE

# With --delay=1s, each request waits for its turn if that is near.
my @waits = map { [ split / *[|] */ ] } grep { /\S/ } split /\n/, <<'TABLE';
rate=2/s                                     | 0 0 0 0.5 0.5 0.5     | allow:1:0:1 allow:0:0:1 wait:0:0:2:0.5 wait:0:0:2:0.5 wait:0:0:2:1 deny:0:1:2
rate=2/s algorithm=leaky-bucket              | 0 0 0 0.5             | allow:0:0:1 wait:0:0:1:0.5 wait:0:0:2:1 wait:0:0:2:1
rate=2/s algorithm=stepped-bucket            | 0*2 0 0.5 0.5         | allow:0:0:1 wait:0:0:2:1 wait:0:0:2:0.5 deny:0:1:2
rate=2/s algorithm=fixed-window              | 0*2 0 0.5 0.5         | allow:0:0:1 wait:0:0:2:1 wait:0:0:2:0.5 deny:0:1:2
rate=2/s algorithm=sliding-log               | 0*2 0 0.5 0.5         | allow:0:0:1 wait:0:0:2:1 wait:0:0:2:0.5 deny:0:1:2
quota=1/day                                  | 0 86399               | allow:0:0:86400 deny:0:1:1
TABLE

sub wanted {
    my ($at, $answer) = @_;
    my ($verdict, $remaining, $retry, $reset, $wait) = split /:/, $answer;
    return {
        at => $at + 0,
        verdict => $verdict,
        remaining => $remaining + 0,
        retry => $retry eq '-' ? undef : $retry + 0,
        reset => $reset eq '-' ? undef : $reset + 0,
        defined $wait ? (wait => $wait + 0) : (),
    };
}

sub check {
    my ($row, @options) = @_;
    my ($limits, $requests, $answers) = @{$row};
    my @asked = split ' ', $requests;
    my @answers = split ' ', $answers;
    my $input = join '', map { s/[*]/ /r . "\n" } @asked;
    my @ats = map { s/[*].*//r } @asked;
    for my $store (qw(memory shm)) {
        my @words = ('try', @options, "--store=$store", split ' ', $limits);
        my ($status, $out) = rlpctl($input, 'try', '--json', @words[ 1 .. $#words ]);
        my @got = map { decode_json($_) } split /\n/, $out;
        is_deeply([ $status, @got ], [ 0, map { wanted($ats[$_], $answers[$_]) } 0 .. $#ats ], "$limits @options, $store: $requests") or diag($out);
        ($status, $out) = rlpctl($input, @words);
        my $text = join '', map {
            my ($verdict, $remaining, $retry, $reset, $wait) = split /:/, $answers[$_];
            join("\t", $ats[$_], $verdict, "remaining=$remaining", "retry=$retry", "reset=$reset", defined $wait ? "wait=$wait" : ()) . "\n"
        } 0 .. $#ats;
        is("$status $out", "0 $text", '  and in text');
    }
    return;
}

check($_) for @table;
check($_, '--delay=1s') for @waits;

# moments are shown as they were read in text, and as numbers without needless zeros in JSON
my ($status, $out) = rlpctl("0.50\n00001\n1.000000\n.5\n2.\n", qw(try rate=5/s));
is(join(' ', map { (split /\t/)[0] } split /\n/, $out), '0.50 00001 1.000000 .5 2.', 'text: moments as they were read');
($status, $out) = rlpctl("0.50\n00001\n1.000001\n.5\n2.\n", qw(try --json rate=5/s));
is(join(' ', $out =~ /"at":([^,]*),/g), '0.5 1 1.000001 0.5 2', 'JSON: moments as numbers');
is(join(' ', map { join ',', sort keys %{ decode_json($_) } } split /\n/, $out), join(' ', ('at,remaining,reset,retry,verdict') x 5), 'JSON: the members');

# an option that is given twice counts as it was given last
is((rlpctl("0\n", qw(try --store=shm --store=memory --delay=1s --delay=0 rate=1/s)))[0], 0, 'options given twice');
is((rlpctl("0\n0\n", qw(try --delay=1s --delay=0 rate=1/s)))[1] =~ /wait/ ? 1 : 0, 0, '--delay=0: none waits');

# what cannot be read or written
SKIP: {
    skip 'no /dev/full', 5 if !-c '/dev/full' || !open my $probe, '>', '/dev/full';
    for my $words ('try rate=1/s', 'hash-key', 'simulate --plan=a=rate=1/s') {
        my $input = $words =~ /^sim/ ? '' : "0\n";
        open my $pipe, '|-', "'$program' $words >/dev/full 2>/dev/null" or die "sh: $!\n";
        print {$pipe} $input;
        close $pipe or 1;
        is($? >> 8, 74, "$words: answers that cannot be written");
    }
    for my $words ('try rate=1/s', 'hash-key') {
        is(system("yes 0 | timeout 10 '$program' $words >/dev/full 2>/dev/null") >> 8, 74, "$words: the same, of requests without end");
    }
}
for my $words ('try rate=1/s', 'hash-key') {
    is(system("'$program' $words </ 2>/dev/null") >> 8, 74, "$words: requests that cannot be read");
}

done_testing();
