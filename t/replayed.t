#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The log of a server, written as docs/rlpctl.1 has it, is replayed: the verdicts are those of the server. In real
# time: what passes because some time went by passes again.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use RLP::Httpd;
use Test::More;
use Time::HiRes qw(time);

my $rlpctl = $ENV{RLPCTL} || 'rlpctl/rlpctl';
plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my ($format) = map { /^(LogFormat .*)$/mg } RLP::Httpd::slurp(($ENV{RLP_TOP} || '.') . '/docs/simulate.md');
plan skip_all => 'docs/simulate.md is not here' if !$format;

my @plans = (
    [ bucket => 'rate=4/s burst=3' ],
    [ even => 'rate=6/s algorithm=leaky-bucket burst=1' ],
    [ window => 'rate=2/500ms algorithm=fixed-window' ],
    [ sliding => 'rate=3/700ms algorithm=sliding-window' ],
    [ exact => 'rate=3/700ms algorithm=sliding-log' ],
    [ steps => 'rate=2/500ms burst=3 algorithm=stepped-bucket' ],
    [ several => 'rate=10/s burst=4 rate=3/700ms burst=3 quota=60/day' ],
    [ delayed => 'rate=6/s algorithm=leaky-bucket burst=2', '--delay=120ms', 'action=delay:120ms' ],
);

my $server = RLP::Httpd->new(
    modules => [qw(log_config setenvif headers)],
    config => "$format\nRateLimitEngine On\nRateLimitEnv always\nRateLimitDelay max=1s budget=50%\n"
        . "SetEnvIf X-Who ^(.+)\$ WHO=\$1\nRateLimitIdentity who=env:WHO\nRateLimitKeyLog plain\n"
        . "<Location />\n    RateLimitRule some rate=1000/s method=GET path=/s/*/b\n</Location>\n"
        . "CustomLog logs/some.log ratelimit env=!LOGGED\n"
        . join '',
    map {"SetEnvIf Request_URI ^/$_->[0] LOGGED\nSetEnvIf Request_URI ^/$_->[0] LOG_$_->[0]\nCustomLog logs/$_->[0].log ratelimit env=LOG_$_->[0]\n"
            . "Alias /$_->[0] \"\@DIR\@/htdocs/index.html\"\n<Location /$_->[0]>\n"
            . "    RateLimitRule $_->[0] $_->[1] key=who " . ($_->[3] // '') . "\n</Location>\n" } @plans
);
push @{ $server->{modules} }, 'alias';
$server->configure($server->{config});
$server->start;

# Each of three identities asks under each plan, several times in a row, and comes again: six rounds, and more until
# each plan has let some pass and refused some. One after the other: of two at once the log does not tell the order.
my %passed;
my $until = time + 30;

sub enough {
    return !grep { my $was = $passed{ $_->[0] }; grep { ($was->{$_} // 0) < 3 } 200, 429 } @plans;
}

for (my $round = 0; $round < 18 || (time < $until && !enough()); $round++) {
    for my $plan (@plans) {
        for my $i (1 .. 6) {
            select undef, undef, undef, 0.06 if $i == 4 && $plan->[0] eq 'delayed';
            $passed{ $plan->[0] }{ $server->get_to_the_end("/$plan->[0]", 'X-Who: ' . qw(ann bob eve)[ $round % 3 ])->{status} }++;
        }
    }
}

# What the rule of method= and path= is for, and what it is not.
my @asked = (
    'GET /s/a/b', 'HEAD /s/a/b/', 'POST /s/a/b', 'get /s/a/b', 'GET /s/a/b?c=/d', 'GET //s///a/b', 'GET /s/a/b/c', 'GET /s/b',
    'GET /%73/a/%62', 'GET /s/a/x/../b', 'GET /s/./a/b', 'GET /s/a/%2e%2e/a/b', 'GET /s/a/b/..', 'GET /s%2Fa/b', 'GET /../s/a/b', 'GET /%2e%2e/s/a/b', 'GET /s/a/b%00',
    'GET /s/a/b%zz', 'GET /s/%252e/b', 'GET http://localhost/s/a/b', 'GET /S/a/b', 'GET /s/"a/b', 'GET /s/\\a/b', 'GET /s/a/b#c',
    'GET /s/%3f/b', 'GET /s/a/../../s/a/b', 'GET /s/.../b', 'GET /s/a/b/.', 'OPTIONS *',
);
$server->request_to_the_end(split(/ /), 'X-Who: ann') for @asked;
$server->stop;

for my $plan (@plans) {
    my ($name, $limits, @options) = @{$plan};
    my $log = $server->file("logs/$name.log");
    my $said = qx('$rlpctl' simulate --compare --json --key=identity --plan='$name=$limits' @options[0 .. ($options[0] ? 0 : -1)] '$log' 2>&1);
    my $status = $? >> 8;
    my $report = eval { decode_json($said) };
    ok($report && $status == 0 && $report->{differences} == 0, "$name: no verdict differs") or diag("$status $said");
    my %was = %{ $passed{$name} };
    ok($was{200} && $was{429}, "$name: some passed, and some did not") or diag(explain(\%was));
    is_deeply([ $report->{requests}, $report->{identities}, $report->{plans}[0]{refused}{most} ],
        [ ($was{200} // 0) + ($was{429} // 0), 3, $was{429} // 0 ], "$name: all of them are in the log");
    if ($name eq 'delayed') {
        ok($report->{plans}[0]{delayed}{most} > 0, 'some waited');
    } else {
        my $other = decode_json(qx('$rlpctl' simulate --compare --json --key=identity --plan='other=rate=1000/s' '$log'));
        is($other->{differences}, $was{429}, "$name: one that refuses nobody differs in those who were");
    }
}

my ($judged, $as_judged, @other) = (0, 0);
for my $line (split /\n/, RLP::Httpd::slurp($server->file('logs/some.log'))) {
    open my $in, '|-', "'$rlpctl' simulate --json --format=ratelimit --method=GET '--path=/s/*/b' --plan=p=quota=1 >'" . $server->file('said') . q{'}
        or die "$rlpctl: $!\n";
    print {$in} "$line\n";
    close $in or die "$rlpctl: $?\n";
    my $counted = decode_json(RLP::Httpd::slurp($server->file('said')))->{requests};
    my $passed = $line =~ / pass \S+ \d+$/ ? 1 : 0;
    $judged += $passed;
    $as_judged += $counted == $passed;
    push @other, $line if $counted != $passed;
}
is_deeply(\@other, [], '--method and --path count what a rule with method= and path= is for');
is($as_judged, scalar @asked, 'each of the requests is in the log');
cmp_ok($judged, '>', 9, 'some are for the rule') && cmp_ok($judged, '<', $as_judged, 'and some are not');

done_testing;
