#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl simulate: what it reads, what it reports in text, JSON and HTML, and what it refuses. Needs RLPCTL in the
# environment.

use strict;
use warnings;

use File::Basename qw(dirname);
use IPC::Open3 qw(open3);
use JSON::PP qw(decode_json);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics qw(slurp);
use RLP::Rlpctl qw($dir rlpctl scratch);

my $rlpctl = $ENV{RLPCTL} || 'rlpctl/rlpctl';
my $base = 1_763_726_400; # 2025-11-21 12:00:00 UTC

# Exit status, what it printed and what it complained of.
sub simulate {
    my ($input, @args) = @_;
    return rlpctl($input, 'simulate', @args);
}

sub report {
    my ($input, @args) = @_;
    my ($status, $out, $err) = simulate($input, '--json', @args);
    is($status, 0, "exit status of @args") or diag($err);
    return decode_json($out);
}

# A line of combined, so many seconds after the base.
sub line {
    my ($at, $ip, %more) = @_;
    my ($second, $minute, $hour, $day, $month, $year) = gmtime($base + $at);
    my $name = (qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec))[$month]; # in any locale
    my $time = sprintf '%02d/%s/%d:%02d:%02d:%02d +0000', $day, $name, 1900 + $year, $hour, $minute, $second;
    my ($user, $status) = ($more{user} // '-', $more{status} // 200);
    return qq{$ip - $user [$time] "GET /a HTTP/1.1" $status 5 "-" "agent"\n};
}

# One of our own format, with microseconds and what the server did.
sub own_line {
    my ($at, $ip, $action) = @_;
    my $combined = line(int $at, $ip);
    chomp $combined;
    return $combined . sprintf " %d %s ip:$ip -\n", ($base + $at) * 1_000_000, $action;
}

# --- counts

my $ten = join '', map { line(0, '192.0.2.1') } 1 .. 10;
my $other = join '', map { line(60 * $_, '192.0.2.2') } 1 .. 10;

my $said = report($ten . $other, '--plan', 'small=rate=5/min', '--plan=large=rate=20/min');
is_deeply([ @{$said}{qw(lines malformed requests identities tick_microseconds)} ], [ 20, 0, 20, 2, 1_000_000 ], 'what was read');
is_deeply([ @{$said}{qw(first last)} ], [ '2025-11-21T12:00:00Z', '2025-11-21T12:10:00Z' ], 'from when to when');
my ($small, $large) = @{ $said->{plans} };
is_deeply([ $small->{name}, $small->{limits} ], [ 'small', 'rate=5/min' ], 'the plan as it was given');
is_deeply($small->{refused}, { fewest => 5, most => 5 }, 'five of ten at once are refused');
is_deeply($small->{identities_refused}, { fewest => 1, most => 1 }, 'of one identity');
is_deeply($large->{refused}, { fewest => 0, most => 0 }, 'the larger plan refuses nothing');
is_deeply(
    $small->{most_refused},
    [   {   identity => 'ip:192.0.2.1',
            requests => 10,
            refused => { fewest => 5, most => 5 },
            delayed => { fewest => 0, most => 0 }
        }
    ],
    'who is refused'
);
is($small->{worst_hour}{hour}, '2025-11-21T12:00:00Z', 'the worst hour');
is($large->{worst_hour}, undef, 'there is none where nothing is refused');
is_deeply([ map { [ @{$_}{qw(identities_percent plan)} ] } @{ $said->{fits} } ],
    [ [ 50, 'small' ], map { [ $_, 'large' ] } 90, 95, 99, 99.9, 100 ], 'which plan is enough for whom');
is_deeply($small->{refused_share}{100}, { fewest => 0.5, most => 0.5 }, 'the largest share that is refused');
is_deeply([ scalar @{ $said->{hours} }, $said->{hours}[0]{plans}{small}{refused}{most} ], [ 1, 5 ], 'the hours');

# two requests that may be up to two seconds or hardly any time apart
$said = report(line(0, 'a') . line(1, 'a'), '--plan=one=rate=1/s');
is_deeply($said->{plans}[0]{refused}, { fewest => 0, most => 1 }, 'whole seconds: the fewest and the most');
is_deeply([ @{ $said->{fits}[5] }{qw(plan perhaps)} ], [ undef, 'one' ], 'a plan that is perhaps enough');

for my $case (
    [ 'rate=2/s', 1 ], [ 'rate=2/s', 1, '--delay=1s' ], [ 'rate=2/s algorithm=sliding-log', 1, '--delay=1s' ],
    [ 'rate=2/s algorithm=fixed-window', 1 ], [ 'rate=2/s algorithm=fixed-window', 0, '--delay=1s' ],
    [ 'quota=5/day', 1 ], [ 'rate=2/s algorithm=stepped-bucket', 0 ],
    [ 'rate=2/s algorithm=stepped-bucket start=2025-01-01T00:00:00Z', 1 ],
    )
{
    my ($limits, $bounds, @options) = @{$case};
    $said = report(line(0, 'a'), "--plan=one=$limits", @options);
    is($said->{plans}[0]{bounds} ? 1 : 0, $bounds, "$limits @options: " . ($bounds ? 'bounds' : 'no bounds'));
    my ($status, $out) = simulate(line(0, 'a'), "--plan=one=$limits", @options);
    is($out =~ /and no bounds/ ? 0 : 1, $bounds, 'and so says the text');
}

# --- microseconds

my $fine = "%{usec}t %a";
sub fine { return join '', map { sprintf "%d %s\n", ($base + $_->[0]) * 1_000_000, $_->[1] } @_ }
$said = report(fine([ 0, 'a' ], [ 0.5, 'a' ], [ 1, 'a' ], [ 1.999999, 'a' ], [ 2, 'a' ]), '--plan=one=rate=1/s', "--format=$fine");
is_deeply($said->{plans}[0]{refused}, { fewest => 2, most => 2 }, 'microseconds: exact');
is($said->{tick_microseconds}, 1, 'and so it says');
$said = report(fine([ 1, 'a' ], [ 0, 'a' ], [ 2, 'a' ], [ 1.5, 'a' ]), '--plan=one=rate=1/s', "--format=$fine");
is_deeply([ $said->{plans}[0]{refused}{most}, $said->{sorted}, $said->{late} ], [ 1, 2, 0 ], 'out of order: sorted');
$said = report(fine([ 1000, 'a' ], [ 2000, 'a' ], [ 0, 'a' ]), '--plan=one=quota=2', "--format=$fine");
is_deeply([ $said->{plans}[0]{refused}{most}, $said->{late} ], [ 1, 1 ], 'too late to be sorted: counted all the same, and told');
$said = report(fine([ 0, 'a' ], [ 0, 'a' ], [ 0, 'a' ]), '--plan=one=rate=1/s', "--format=$fine", '--delay=1s');
is_deeply([ map { $said->{plans}[0]{$_}{most} } qw(refused delayed identities_refused identities_delayed) ],
    [ 1, 1, 1, 1 ], '--delay: one waits');
$said = report(fine([ 0, 'a' ], [ 0, 'a' ]), '--plan=one=quota=3', "--format=$fine", '--cost=2');
is($said->{plans}[0]{refused}{most}, 1, '--cost: units of each request');

$said = report("1763726400000 a\n1763726401000 a\n1763726402000 a\n", '--plan=one=rate=1/s', '--format=%{msec}t %a');
is_deeply([ $said->{plans}[0]{refused}, $said->{tick_microseconds} ], [ { fewest => 0, most => 1 }, 1000 ], 'milliseconds: both bounds');

# --- whom and which

my $mixed = line(0, '192.0.2.1', user => 'ann') . line(0, '192.0.2.9', user => 'ann') . line(0, '192.0.2.9', status => 429);
$said = report($mixed, '--plan=one=quota=1', '--key=user');
is_deeply([ @{$said}{qw(identities without_identity)}, $said->{plans}[0]{refused}{most} ], [ 1, 1, 1 ], '--key=user');
$said = report($mixed, '--plan=one=quota=1', '--key=user,ip');
is_deeply([ @{$said}{qw(identities without_identity)} ], [ 2, 0 ], '--key=user,ip');
$said = report(line(0, '192.0.2.1', user => '""') . line(0, '192.0.2.9', user => '""'), '--plan=one=quota=1', '--key=user,ip');
is($said->{identities}, 2, 'an empty name, of which httpd writes two quotes, is nobody');
$said = report($mixed, '--plan=one=quota=1', '--key=ip/24');
is($said->{plans}[0]{most_refused}[0]{identity}, 'ip:192.0.2.0/24', '--key=ip/24');
for my $case ([ '200', 2 ], [ '4xx', 1 ], [ '200,429', 3 ], [ '!429', 2 ], [ '!4xx,!2xx', 0 ]) {
    $said = report($mixed, '--plan=one=quota=1', "--status=$case->[0]");
    is_deeply([ @{$said}{qw(requests left_out)} ], [ $case->[1], 3 - $case->[1] ], "--status=$case->[0]");
}

# --- methods, paths and costs

my $site = join '', map { qq{192.0.2.1 - - [21/Nov/2025:12:00:0$_->[0] +0000] "$_->[1] HTTP/1.1" 200 $_->[2]\n} }
    [ 0, 'GET /api/a?x=1', 700 ], [ 1, 'HEAD /api/%62', '-' ], [ 2, 'POST /api/c', 30 ], [ 3, 'GET /other', 9000 ];
for my $case ([ 4, '--method=GET,POST' ], [ 3, '--method=get' ], [ 1, '--method=!GET' ], [ 3, '--path=/api/*' ], [ 1, '--path=/api/b' ],
    [ 2, '--path=/api/**', '--method=GET' ])
{
    my ($n, @options) = @{$case};
    $said = report($site, '--plan=one=quota=1', '--format=common', @options);
    is_deeply([ @{$said}{qw(requests left_out)} ], [ $n, 4 - $n ], "@options: counted and left out");
}
$said = report($site, '--plan=one=quota=1000', '--format=common', '--cost=%b');
is_deeply([ $said->{plans}[0]{refused}, $said->{plans}[0]{bounds} ? 1 : 0, $said->{fits}[5]{units}, $said->{without_cost} ],
    [ { fewest => 1, most => 1 }, 0, 9730, 0 ], '--cost=%b: bytes, of which a dash is none; no bounds');
$said = report("2.5 a 1763726400000000\nfree a 1763726400000001\n0 a 1763726400000002\n7 a 1763726400000003\n",
    '--plan=one=quota=4', '--format=%{X-Cost}o %a %{usec}t', '--cost=%{X-Cost}o');
is_deeply(
    [ $said->{plans}[0]{refused}{most}, $said->{plans}[0]{bounds} ? 1 : 0, $said->{fits}[5]{units}, $said->{without_cost} ],
    [ 1, 1, 10.5, 1 ],
    '--cost=%{X-Cost}o: what is no number is one unit, and told; microseconds are exact'
);
my ($done, $text) = simulate($site, '--plan=one=quota=1000', '--format=common', '--cost=2.5');
ok($done == 0, '--cost=2.5');
like($text, qr/requests at most     units at most .*^ +100 % +4 +10  one$/ms, '--cost=2.5: the text has units');
unlike((simulate($site, '--plan=one=quota=1000', '--format=common'))[1], qr/units at most/, 'and none where they are requests');

# --- one of them

($done, $text) = simulate(line(0, 'a'), '--plan=one=quota=1', "--html=$dir/one.html");
like($text, qr/\A1 line, 1 request of 1 identity\n/, 'one is no many');
like(slurp("$dir/one.html"), qr/<p>1 request of 1 identity, .*under one, 1 hour in each bar/s, 'nor on the page');

# --- inputs

my $one = scratch('access.log', line(100, 'a') . line(101, 'a'));
my $older = scratch('access.log.1', line(0, 'a') . line(1, 'a'));
$said = report('', '--plan=one=quota=2', $one, $older);
is_deeply([ @{$said}{qw(first lines sorted late)} ], [ '2025-11-21T12:00:00Z', 4, 0, 0 ], 'files are read in the order of their times');
$said = report(line(0, 'a'), '--plan=one=quota=2', '-', $one);
is($said->{lines}, 3, 'standard input beside a file');
SKIP: {
    skip 'gzip is missing', 3 if system("gzip -k '$older' 2>/dev/null") != 0;
    $said = report('', '--plan=one=quota=2', $one, "$older.gz");
    is_deeply([ @{$said}{qw(first lines)} ], [ '2025-11-21T12:00:00Z', 4 ], 'compressed');
    my $packed = slurp("$older.gz");
    my ($status, undef, $err) = simulate('', '--plan=one=quota=2', scratch('cut.gz', substr $packed, 0, length($packed) - 12));
    ok($status == 66 && $err =~ /cannot read .*cut[.]gz to its end/, 'a compressed file that is cut off is told') or diag("$status $err");
}
my ($status, $out, $err) = simulate('', '--plan=one=quota=2', "$dir/missing", $one);
ok($status == 66 && $err =~ /cannot open .*missing/ && $out =~ /^2 lines/, 'a missing file is told, and the others are read');
$said = report("nonsense\n" . line(0, 'a') . "\n\xff\0\x1b[2J\n" . ('x' x 3_000_000) . "\n" . line(1, 'a'), '--plan=one=quota=2');
is_deeply([ $said->{requests}, $said->{malformed_at}[0] ], [ 2, 'standard input:1' ], 'malformed lines are skipped and named');
cmp_ok($said->{malformed}, '>=', 4, 'and counted');
$said = report(line(0, 'a') =~ s/\n\z//r, '--plan=one=quota=2');
is($said->{requests}, 1, 'the last line needs no end');
$said = report(line(0, 'a') =~ s/\n/\r\n/r, '--plan=one=quota=2');
is($said->{requests}, 1, 'ends of lines as Windows has them');
$said = report('', '--plan=one=quota=2');
is_deeply([ @{$said}{qw(requests first last)} ], [ 0, undef, undef ], 'nothing of nothing');
is((simulate('', '--plan=one=quota=2', "--html=$dir/empty.html"))[0], 0, 'which is no failure');
unlike(slurp("$dir/empty.html"), qr/1970|<svg/, 'nor a picture');
is((simulate("nonsense\n", '--plan=one=quota=2'))[0], 65, 'nothing of what is no log is one');

# --- a long log: memory is bounded by identities

SKIP: {
    skip '/proc is not here', 2 if !-e "/proc/$$/status";
    my $pid = open3(my $to, my $from, undef, $rlpctl, 'simulate', '--json', '--plan=one=rate=1/min');
    my $second = 0;
    my $highest = sub {
        my ($kilobytes) = slurp("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
        return $kilobytes;
    };
    my $feed = sub {
        my ($seconds) = @_;
        for my $at ($second .. $second + $seconds - 1) {
            my $time = line($at, '') =~ s/^ //r;
            print {$to} join '', map {"10.0.0.$_ $time"} 1 .. 100;
        }
        $second += $seconds;
    };
    $feed->(300);
    my $before = $highest->();
    $feed->(2700);
    my $after = $highest->();
    close $to or die "close: $!\n";
    my $report = decode_json(do { local $/ = undef; <$from> });
    waitpid $pid, 0;
    is($report->{requests}, 300_000, 'a long log on standard input');
    cmp_ok($after, '<', $before * 1.2 + 2000, 'ten times the lines take no more memory') or diag("$before kB, $after kB");
}

# --- text and HTML, with hostile names

my $hostile = qq{<script>alert(1)</script>&"'\x1b]0;x\x07\xe2\x80\xae\xff};
my $attack = join '', map { line(0, 'a', user => $hostile) } 1 .. 3;
($status, $out) = simulate($attack, '--plan=one=quota=1', '--key=user', "--html=$dir/report.html");
is($status, 0, 'hostile names are no failure');
unlike($out, qr/[^\n\x20-\x7e]/, 'nothing of them moves a terminal');
like($out, qr/user:<script>alert\(1\)<\/script>&"'\\x1b\]0;x\\x07\\xe2\\x80\\xae\\xff: 2 of 3/, 'they are shown escaped');
my $page = slurp("$dir/report.html");
unlike($page, qr/<script|[^\n\x20-\x7e]/, 'and so are they on the page');
like($page, qr/&lt;script&gt;alert\(1\)&lt;\/script&gt;&amp;&quot;/, 'as text');
unlike($page, qr/(?:src|href|url|\@import)\s*[=(]/i, 'the page has no outside resource');
like($page, qr/<html lang="en">.*<svg[^>]* role="img" aria-labelledby="c0".*<title id="c0">/s, 'pictures have a name');
like($page, qr/prefers-color-scheme: dark/, 'it knows the dark');
ok(decode_json((simulate($attack, '--json', '--plan=one=quota=1', '--key=user'))[1]), 'JSON with them is JSON');
($status, $out) = simulate(line(0, 'a') . line(1, 'a'), '--plan=one=rate=1/s');
like($out, qr/"A to B" are the fewest and the most.*requests refused +0 to 1 of 2 \(0.0 % to 50.0 %\)/s, 'text: both bounds');

($status, $out) = simulate(fine([ 0, 'a' ], [ 0, 'a' ], [ 0, 'b' ]), '--plan=one=rate=1/s', "--format=$fine", '--delay=1s', "--html=$dir/delay.html");
like($out, qr/requests refused +0 of 3.*requests delayed +1 of 3.*identities refused +0 of 2.*identities delayed +1 of 2 /s, 'text: delays');
like(slurp("$dir/delay.html"), qr/Identities delayed<.*<td>0<\/td><td>0<\/td><td>1<\/td><td>1<\/td>/s, 'and the page has them');
unlike($page, qr/delayed/, 'which has none where none waits');

# --- compare

my $same = own_line(0, 'a', 'pass') . own_line(0.25, 'a', 'deny') . own_line(1, 'a', '-') . own_line(1, 'b', 'exempt');
($status, $out) = simulate($same, '--compare', '--plan=one=rate=1/s');
is($status, 0, '--compare: the log and the plan agree');
like($out, qr/^0 of 3 verdicts are not those of the log/m, 'and so it says');
($status, $out) = simulate($same . own_line(1.5, 'a', 'pass'), '--compare', '--plan=one=rate=1/s');
is($status, 1, '--compare: they do not');
like($out, qr/^1 of 4 verdicts.*\n  -:5 ip:a: the log says pass, the plan deny$/m, 'and where');
($status, $out) = simulate($same . own_line(1.5, 'a', 'pass'), '--json', '--compare', '--plan=one=rate=1/s');
is_deeply(decode_json($out)->{different}, [ { at => '-:5', identity => 'ip:a', log => 'pass', plan => 'deny' } ], 'in JSON too');

# --- what is refused

my @plan = ('--plan=one=quota=1');
for my $case (
    [ [], qr/expected at least one --plan/ ],
    [ ['--plan'], qr/expected an option with its value, got "--plan"/ ],
    [ ['--plan=one'], qr/expected --plan='NAME=LIMIT...'.*got "one"/ ],
    [ ['--plan=one='], qr/plan "one": expected a limit/ ],
    [ ['--plan=one=rate=5/fortnight'], qr/plan "one": expected a span/ ],
    [ ['--plan=1=quota=1'], qr/expected .*\[A-Za-z\]|expected a name/ ],
    [ [ @plan, @plan ], qr/expected plans of different names/ ],
    [ ['--plan=one=concurrent=5'], qr/expected no concurrent=/ ],
    [ ['--plan=one=quota=5/day then=two'], qr/expected neither then=/ ],
    [ [ @plan, '--format=comon' ], qr/expected common, combined/ ],
    [ [ @plan, '--key=vhost' ], qr/the log format has nothing for "vhost"/ ],
    [ [ @plan, '--status=9xx' ], qr/expected statuses such as 200,4xx or !429, got "9xx"/ ],
    [ [ @plan, '--status=200', '--format=%a %t' ], qr/expected %>s in the log format/ ],
    [ [ @plan, '--cost=many' ], qr/expected a number/ ],
    [ [ @plan, '--cost=%O' ], qr/the log format has nothing for "%O" of --cost/ ],
    [ [ @plan, '--method=' ], qr/expected methods such as GET,POST or !OPTIONS, got ""/ ],
    [ [ @plan, '--method=GET;' ], qr/got "GET;"/ ],
    [ [ @plan, '--method=GET', '--format=%a %t' ], qr/expected %r or %m in the log format/ ],
    [ [ @plan, '--path=api' ], qr/expected --path with a path from the first \/ on.*got "api"/ ],
    [ [ @plan, '--path=/a*' ], qr/expected --path with "\*" or "\*\*" as a whole segment/ ],
    [ [ @plan, '--path=/a', '--format=%a %t' ], qr/expected %r or %U in the log format/ ],
    [ [ @plan, '--delay=soon' ], qr/expected a span/ ],
    [ [ @plan, '--json=yes' ], qr/got "--json=yes"/ ],
    [ [ @plan, '--compare', '--format=combined' ], qr/expected %\{RATELIMIT_ACTION\}e/ ],
    [ [ @plan, '--compare', '--format=%a %t %{RATELIMIT_ACTION}e' ], qr/expected microseconds/ ],
    [ [ @plan, '--plan=two=quota=2', '--compare' ], qr/expected one plan/ ],
    )
{
    my ($args, $pattern) = @{$case};
    ($status, $out, $err) = simulate('', @{$args});
    ok($status == 64 && $err =~ $pattern && $out eq '', "refused: @{$args}") or diag("$status $err");
}
is((simulate(line(0, 'a'), @plan, "--html=$dir/no/where.html"))[0], 74, 'a page that cannot be written');
($status, $out) = simulate('', '--help');
ok($status == 0 && $out =~ /^usage: rlpctl simulate/, '--help');
cmp_ok(scalar(my @lines = split /\n/, $out), '<=', 25, 'which fits a screen');
is_deeply([ grep { length > 80 } @lines ], [], 'in its width too');

# --- the manual page has all of it

my $manual = slurp(($ENV{top_srcdir} || dirname(dirname($0))) . '/docs/rlpctl.1');
for my $option ($out =~ /^  --(\w+)/mg) {
    like($manual, qr/^[.](?:It|Op)? ?Fl -$option\b/m, "--$option is in the manual page");
}
my $codes = join ' ', $out =~ /^Exit status: (.*)/ms;
like($manual, qr/^[.]It $_$/m, "and so is exit status $_") for $codes =~ /(\d+) /g;

# Names of members, but those that are percentages or the names of plans.
sub members {
    my ($value) = @_;
    return map { members($_) } @{$value} if ref $value eq 'ARRAY';
    return () if ref $value ne 'HASH';
    return map { ($_, members($value->{$_})) } keys %{$value};
}
my ($members) = $manual =~ /^The members of the JSON object(.*)^[.]Sh EXIT STATUS/ms;
my %member = map { $_ => 1 } members(decode_json((simulate($same . own_line(1.5, 'a', 'pass'), qw(--json --compare --plan=one=rate=1/s)))[1]));
delete @member{qw(one 50 90 95 99 99.9 100)};
cmp_ok(scalar keys %member, '>', 30, 'JSON has many members');
is_deeply([ grep { $members !~ /^[.](?:It )?Cm .*\b$_\b/m } sort keys %member ], [], 'all of which the manual page has');

done_testing();
