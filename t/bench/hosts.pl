# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Hosts that share one Redis, simulated: hosts.pl PROGRAM [SECONDS [SEED]]. The table of docs/operations.md; figures that a
# seed decides, and never a verdict.
use strict;
use warnings;

use JSON::PP qw(decode_json);

my ($program, $seconds, $seed) = @ARGV;
$seconds ||= 10;
$seed ||= 1;

# what, hosts, keys, requests a second, limit, further options
my @rows = (
    ['clients of a large site',     100, 10_000_000, 50_000, 'rate=10/s burst=20'],
    ['the same, a limit of each hour', 100, 10_000_000, 50_000, 'rate=1000/hour'],
    ['customers',                   100, 10_000,     50_000, 'rate=1000/s'],
    ['the same on few hosts',       10,  10_000,     50_000, 'rate=1000/s'],
    ['large customers',             100, 100,        50_000, 'rate=1000/s'],
    ['the same on few hosts',       10,  100,        50_000, 'rate=1000/s'],
    ['one limit for all',           100, 1,          50_000, 'rate=40000/s'],
    ['one limit for all, unevenly', 100, 1,          50_000, 'rate=40000/s', '-x', 1],
    ['more than Redis can do',      100, 1_000,     150_000, 'rate=5000/s'],
    ['Redis is 5 ms away',          10,  100,        50_000, 'rate=1000/s', '-d', 2500, '-j', 500],
    ['1 of 1 000 questions is lost', 10, 100,        50_000, 'rate=1000/s', '-p', 1000],
    ['Redis is away for 1 s of 10 s', 10, 100,       50_000, 'rate=1000/s', '-a', 1000, '-e', 10_000],
    ['the same, and forgets',       10,  100,        50_000, 'rate=1000/min', '-a', 1000, '-e', 10_000, '-f'],
);

sub simulate {
    my ($mode, $what, $hosts, $keys, $rate, $limit, @more) = @_;
    open my $from, '-|', $program, '-m', $mode, '-n', $hosts, '-k', $keys, '-r', $rate, '-l', $limit, '-s', $seconds, '-S', $seed,
        @more or die "$program: $!\n";
    my $line = <$from>;
    close $from or die "$program failed\n";
    return decode_json($line);
}

sub digits {
    my ($number) = @_;
    return scalar reverse join ' ', unpack '(A3)*', reverse $number;
}

$| = 1;
print "Hosts that share one Redis, $seconds simulated seconds, seed $seed\n\n";
print '| what | hosts | keys | requests/s | limit of each | exact: round trips a request, Redis works | leases '
    . '| leases pass of what was due | without an answer | p99 of a decision | fairness | above the limit |', "\n";
print '|', '---|' x 12, "\n";
for my $row (@rows) {
    my ($what, $hosts, $keys, $rate, $limit) = @$row;
    my @both = map { simulate($_, @$row) } qw(exact lease);
    my @work = map { sprintf '%.3f, %.0f %%', $_->{trips}, 100 * $_->{busy} } @both;
    my $unasked = join ', ', map { sprintf '%.2f %%', 100 * $_->{unasked} / $_->{requests} } @both;
    my $p99 = join ', ', map { digits($_->{p99_us}) . ' µs' } @both;
    my $fairness = join ', ', map { sprintf '%.2f', $_->{fairness} } @both;
    my $above = join ', ', map { digits($_->{above}) } @both;
    my $due = sprintf '%.1f %%', 100 * $both[1]{of_due};
    print "| $what | $hosts | ", digits($keys), ' | ', digits($rate),
        " | `$limit` | $work[0] | $work[1] | $due | $unasked | $p99 | $fairness | $above |\n";
}
