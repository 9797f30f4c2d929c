#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl simulate: whole reports of small logs, as text, JSON and a page. Every number is worked out by hand. Needs RLPCTL
# in the environment.

use strict;
use warnings;

use File::Basename qw(dirname);
use JSON::PP qw(decode_json);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics qw(slurp);
use RLP::Rlpctl qw($dir rlpctl);

my $base = 1_763_726_400; # 2025-11-21 12:00:00 UTC

# Lines of whole seconds: AT IDENTITY [STATUS].
sub coarse {
    return join '', map { sprintf "%d %s %d\n", $base + $_->[0], $_->[1], $_->[2] // 200 } @_;
}

# The same with microseconds.
sub fine {
    return join '', map { sprintf "%d %s %d\n", ($base + $_->[0]) * 1_000_000, $_->[1], $_->[2] // 200 } @_;
}

sub range { return { fewest => $_[0], most => $_[1] // $_[0] } }

sub shares {
    my (@most) = @_;
    my @percents = qw(50 90 95 99 99.9 100);
    return { map { $percents[$_] => range($most[$_]) } 0 .. 5 };
}

my @coarse = ('--format=%{sec}t %h %>s');
my @fine = ('--format=%{usec}t %h %>s');

# --- five lines: three of one second, one an hour later, one that is none. Two a minute refuse the third.

my $log = coarse([ 0, 'a' ], [ 0, 'a' ], [ 0, 'a' ], [ 3600, 'b' ]) . "bad\n";
my @plans = ('--plan=free=rate=2/min', '--plan=pro=rate=10/min');
my ($status, $out, $err) = rlpctl($log, 'simulate', @coarse, @plans, "--html=$dir/page.html");
is("$status$err", '0', 'five lines: exit status');
is($out, <<'TEXT', 'five lines: the text');
5 lines, 4 requests of 2 identities
from 2025-11-21 12:00:00 to 2025-11-21 13:00:00 UTC
1 not understood: standard input:5
The log tells no microseconds: "A to B" are the fewest and the most that are possible.

free: 2 at once, then 1 every 30 seconds
  requests refused    1 of 4 (25.0 %)
  identities refused  1 of 2 (50.0 %)
  worst hour          2025-11-21 12:00: 1 of 3 refused
  refused share of    50 %: 0.0 %, 90 %: 33.3 %, 95 %: 33.3 %, 99 %: 33.3 %, 99.9 %: 33.3 %, 100 %: 33.3 %
  most refused        ip:a: 1 of 3

pro: 10 at once, then 1 every 6 seconds
  requests refused    0 of 4 (0.0 %)
  identities refused  0 of 2 (0.0 %)
  refused share of    50 %: 0.0 %, 90 %: 0.0 %, 95 %: 0.0 %, 99 %: 0.0 %, 99.9 %: 0.0 %, 100 %: 0.0 %

identities  requests at most  first plan that refuses them nothing
      50 %                 1  free
      90 %                 3  pro
      95 %                 3  pro
      99 %                 3  pro
    99.9 %                 3  pro
     100 %                 3  pro

refused in the hour    requests              free               pro
2025-11-21 12:00           3                 1                 0
TEXT

my $none = { refused => range(0), delayed => range(0), identities_refused => range(0) };
my $once = { refused => range(1), delayed => range(0), identities_refused => range(1) };
($status, $out) = rlpctl($log, 'simulate', '--json', @coarse, @plans);
is_deeply(
    decode_json($out),
    {   lines => 5,
        malformed => 1,
        malformed_at => ['standard input:5'],
        left_out => 0,
        without_cost => 0,
        without_identity => 0,
        sorted => 0,
        late => 0,
        requests => 4,
        identities => 2,
        first => '2025-11-21T12:00:00Z',
        last => '2025-11-21T13:00:00Z',
        tick_microseconds => 1_000_000,
        plans => [
            {   name => 'free',
                limits => 'rate=2/min',
                words => '2 at once, then 1 every 30 seconds',
                bounds => JSON::PP::true,
                %{$once},
                identities_delayed => range(0),
                worst_hour => { hour => '2025-11-21T12:00:00Z', requests => 3, %{$once} },
                refused_share => shares(0, (0.333333) x 5),
                most_refused => [ { identity => 'ip:a', requests => 3, refused => range(1), delayed => range(0) } ],
            },
            {   name => 'pro',
                limits => 'rate=10/min',
                words => '10 at once, then 1 every 6 seconds',
                bounds => JSON::PP::true,
                %{$none},
                identities_delayed => range(0),
                worst_hour => undef,
                refused_share => shares((0) x 6),
                most_refused => [],
            },
        ],
        fits => [
            { identities_percent => 50, requests => 1, units => 1, plan => 'free', perhaps => 'free' },
            map { { identities_percent => $_, requests => 3, units => 3, plan => 'pro', perhaps => 'pro' } } 90, 95, 99, 99.9, 100
        ],
        hours => [
            { hour => '2025-11-21T12:00:00Z', requests => 3, plans => { free => $once, pro => $none } },
            { hour => '2025-11-21T13:00:00Z', requests => 1, plans => { free => $none, pro => $none } },
        ],
    },
    'five lines: the JSON object'
);

(undef, $out) = rlpctl(coarse(map { [ $_, 'a' ] } 1 .. 1233) . "bad\nbad\n", 'simulate', @coarse, @plans);
like($out, qr/^2 not understood: standard input:1234 standard input:1235$/m, 'numbers of lines are one word each');

# The tables of a page, each as its caption and its rows of cells.
sub tables {
    my ($page) = @_;
    return map {
        my ($table) = $_;
        my ($caption) = $table =~ m{<caption>(.*?)</caption>};
        my @rows = map { join ' | ', m{<t[hd][^>]*>(.*?)</t[hd]>}g } $table =~ m{<tr>(.*?)</tr>}g;
        [ $caption, @rows ]
    } $page =~ m{<table>(.*?)</table>}sg;
}

my $page = slurp("$dir/page.html");
my @tables = tables($page);
is_deeply(
    [ @tables[ 0 .. 3 ] ],
    [   [   'What each plan would have done',
            'Plan | Limits | Requests refused | Identities refused',
            'free | 2 at once, then 1 every 30 seconds | 1 | 1',
            'pro | 10 at once, then 1 every 6 seconds | 0 | 0'
        ],
        [   'The first plan that refuses nothing to so many of the identities',
            'Identities | Requests at most | Plan',
            '50 % | 1 | free', map {"$_ % | 3 | pro"} 90, 95, 99, 99.9, 100
        ],
        [   'So many identities have at most this share of their requests refused by free',
            'Identities | At least | At most',
            '50 % | 0.0 % | 0.0 %', map {"$_ % | 33.3 % | 33.3 %"} 90, 95, 99, 99.9, 100
        ],
        [ 'Most refused by free', 'Identity | Refused | Of requests', 'ip:a | 1 | 3' ],
    ],
    'five lines: the tables of the page'
);
like($page, qr{<p>Worst hour: 2025-11-21 12:00, 1 of 3 requests refused\.</p>}, '  the worst hour');
like($page, qr{<title>2025-11-21 12:00: 1 of 3 refused</title>\n<rect class="all" x="0" y="0\.00" width="7" height="120\.00"/>}, '  the highest bar is the whole height');
like($page, qr{<rect class="sure" x="0" y="80\.00" width="7" height="40\.00"/>}, '  a third of it is refused');
unlike($page, qr/<script|https?:|url\(|src=|[@]import/, '  it needs nothing from elsewhere');
my %open;
$open{$_}++ for $page =~ m{<(table|tr|th|td|p|svg|div|main|body|html|h1|h2|caption|thead|tbody|span|g|details|summary)\b}g;
$open{$_}-- for $page =~ m{</(\w+)>}g;
is_deeply([ sort grep { $open{$_} && $_ !~ /^(?:title|head|style)$/ } keys %open ], [], '  every element that begins ends');

# --- microseconds: ten identities, of which number i sends i at once. Five are allowed, hence 1 + 2 + 3 + 4 + 5 of 55 are refused

$log = fine(map { my $who = $_; map { [ 0, "i$who" ] } 1 .. $who } 1 .. 10);
($status, $out) = rlpctl($log, 'simulate', '--json', @fine, '--plan=five=rate=5/hour', '--plan=eight=rate=8/hour', '--plan=nine=quota=9/day');
my $said = decode_json($out);
my ($five, $eight, $nine) = @{ $said->{plans} };
is("$said->{requests} $said->{identities} $said->{tick_microseconds}", '55 10 1', 'a staircase: what was read');
is_deeply([ map { [ $_->{refused}, $_->{identities_refused} ] } $five, $eight, $nine ],
    [ [ range(15), range(5) ], [ range(3), range(2) ], [ range(1), range(1) ] ], '  what each plan refuses');
is_deeply(
    [ map { [ @{$_}{qw(identity requests)}, $_->{refused}{most} ] } @{ $five->{most_refused} } ],
    [ [ 'ip:i10', 10, 5 ], [ 'ip:i9', 9, 4 ], [ 'ip:i8', 8, 3 ], [ 'ip:i7', 7, 2 ], [ 'ip:i6', 6, 1 ] ],
    '  who is refused most, in order'
);
is_deeply([ map { [ @{$_}{qw(identities_percent requests plan perhaps)} ] } @{ $said->{fits} } ],
    [ [ 50, 5, 'five', 'five' ], [ 90, 9, 'nine', 'nine' ], map { [ $_, 10, undef, undef ] } 95, 99, 99.9, 100 ], '  which plan is enough');
is_deeply($five->{refused_share}, shares(0, 0.444444, (0.5) x 4), '  half of the requests of the last, four ninths of the one before');
is_deeply($nine->{refused_share}, shares(0, 0, (0.1) x 4), '  a tenth of those of the last');

# --- delays: a bucket that leaks one a second and lets wait for two: of six at once one passes, two wait, three are refused

$log = fine(map { [ 0, 'a' ] } 1 .. 6);
($status, $out) = rlpctl($log, 'simulate', @fine, '--delay=2s', '--plan=drop=rate=1/s algorithm=leaky-bucket burst=9');
like($out, qr/^  requests refused    3 of 6 \(50\.0 %\)$/m, 'delays: half are refused') or diag($out);
like($out, qr/^  requests delayed    2 of 6 \(33\.3 %\)$/m, '  a third waits');
unlike($out, qr/microseconds/, '  and the numbers are exact');

# --- costs and statuses

$log = fine([ 0, 'a' ], [ 0, 'a' ], [ 0, 'a', 429 ], [ 0, 'a', 503 ], [ 0, 'b', 304 ]);
for my $row (
    [ [], 5, 0, 2 ], [ ['--cost=2'], 5, 0, 3 ], [ ['--cost=0.5'], 5, 0, 0 ], [ ['--cost=2.001'], 5, 0, 5 ], [ ['--cost=0'], 5, 0, 0 ],
    [ ['--status=200'], 2, 3, 0 ], [ ['--status=2xx,3xx'], 3, 2, 0 ], [ ['--status=!429'], 4, 1, 1 ], [ ['--status=!429,!5xx'], 3, 2, 0 ],
    [ ['--status=2xx,!200'], 0, 5, 0 ], [ ['--status=!5xx,503'], 5, 0, 2 ],
    )
{
    my ($options, $requests, $left_out, $refused) = @{$row};
    ($status, $out) = rlpctl($log, 'simulate', '--json', @fine, '--plan=two=quota=2', @{$options});
    $said = decode_json($out);
    is("@{$said}{qw(requests left_out)} $said->{plans}[0]{refused}{most}", "$requests $left_out $refused", "@{$options}: $requests judged, $refused refused");
}

# --- comparing

sub own { return sprintf qq{%s - - [21/Nov/2025:12:00:00 +0000] "GET /" 200 5 "-" "-" %d %s ip:%s -\n}, $_[1], ($base + $_[0]) * 1_000_000, $_[2], $_[1] }
$log = own(0, 'a', 'pass') . own(0, 'a', 'deny') . own(1, 'a', 'pass');
($status, $out) = rlpctl($log, qw(simulate --compare --json --plan=one=rate=1/s));
is_deeply([ $status, @{ decode_json($out) }{qw(differences different)} ], [ 0, 0, [] ], 'the log agrees');
$log = own(0, 'a', 'pass') . own(0, 'a', 'pass') . own(1, 'a', 'deny');
($status, $out) = rlpctl($log, qw(simulate --compare --json --plan=one=rate=1/s));
$said = decode_json($out);
is_deeply(
    [ $status, $said->{differences}, map { [ @{$_}{qw(identity log plan)} ] } @{ $said->{different} } ],
    [ 1, 2, [ 'ip:a', 'pass', 'deny' ], [ 'ip:a', 'deny', 'pass' ] ],
    'the log does not agree: exit status 1'
) or diag($out);
$log = join '', map { own(0, 'a', 'pass') } 1 .. 31;
($status, $out) = rlpctl($log, qw(simulate --compare --json --plan=one=rate=1/s));
$said = decode_json($out);
is_deeply([ $said->{differences}, scalar @{ $said->{different} } ], [ 30, 20 ], 'twenty of thirty are shown');

# --- nothing

($status, $out) = rlpctl('', 'simulate', '--json', '--plan=one=rate=1/s', "--html=$dir/none.html");
$said = decode_json($out);
is_deeply([ $status, @{$said}{qw(lines requests identities first last hours)} ], [ 0, 0, 0, 0, undef, undef, [] ], 'an empty log: nulls and empty lists');
is_deeply($said->{plans}[0]{worst_hour}, undef, '  and no worst hour');
like(slurp("$dir/none.html"), qr{</html>\s*\z}, '  and a page to its end');
unlike(slurp("$dir/none.html"), qr/\b(?:nan|inf)\b/i, '  without what is no number');

# --- where "A to B" are no bounds: the run with the most refusals may refuse nobody whom the other one does

$log = coarse(map({ [ $_, 'a' ] } 0, 1), [ 2, 'b' ], [ 2, 'a' ], [ 4, 'b' ], [ 4, 'a' ], [ 6, 'a' ], map({ [ 7, 'b' ] } 1 .. 4), [ 9, 'a' ], [ 10, 'a' ]);
@plans = ('--plan=one=rate=3/5s algorithm=stepped-bucket', '--delay=2s');
($status, $out, $err) = rlpctl($log, 'simulate', @coarse, @plans, "--html=$dir/odd.html");
is("$status$err", '0', 'no bounds: exit status');
like($out, qr/ 90 % +7  one, perhaps none$/m, '  a plan of which nobody says what the other run says');
like(slurp("$dir/odd.html"), qr/one, perhaps none/, '  nor does the page');
(undef, $out) = rlpctl($log, 'simulate', '--json', @coarse, @plans);
is_deeply([ @{ decode_json($out)->{fits}[1] }{qw(plan perhaps)} ], [ 'one', undef ], '  nor JSON');

done_testing();
