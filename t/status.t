#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The handler ratelimit-status: its figures agree with what clients counted, over several children and restarts; its
# formats are what their readers expect; names that attack a reader do nothing. RLP_STATUS_REQUESTS: how many requests
# are counted (4000). RLP_STATUS_IDENTITIES: how many are refused (400); if given, what is shown has its time measured.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;
use RLP::Metrics;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $requests = $ENV{RLP_STATUS_REQUESTS} || 4000;
my $crowd = $ENV{RLP_STATUS_IDENTITIES} || 400;
my $clients = 4;
my $room = int($requests / 2);
my $children = $RLP::Httpd::mpm eq 'prefork' ? '' : "StartServers 4\nMinSpareThreads 32\n";
my $page = "<Location /status>\n    SetHandler ratelimit-status\n    RateLimitEngine Off\n</Location>\n";
my @kinds = qw(admitted delayed refused would_refuse errors exempt unidentified);

sub server {
    my ($config, %option) = @_;
    return RLP::Httpd->new(config => "${children}RateLimitEngine On\nRateLimitHeaders Off\n$config$page", clock => 1, %option);
}

sub status {
    my ($server) = @_;
    my $response = $server->get('/status?format=json');
    $response->{status} == 200 or die "status: $response->{status} $response->{body}\n";
    return decode_json($response->{body});
}

sub metrics {
    my ($server) = @_;
    return $server->get('/status?format=prometheus')->{body};
}

# "refused 3" and so on of a rule under a plan, without what is 0.
sub counts {
    my ($server, $rule, $plan) = @_;
    my ($row) = grep { $_->{rule} eq $rule && $_->{plan} eq $plan } @{ status($server)->{counts} };
    return 'no row' if !$row;
    return join ', ', map { $row->{$_} ? "$_ $row->{$_}" : () } @kinds;
}

# n requests by so many clients at once, 20 on a connection: how often each status came.
sub load {
    my ($server, $n, $path) = @_;
    my (%count, @from);
    for my $client (1 .. $clients) {
        my $pid = open my $from, '-|';
        die "fork: $!\n" if !defined $pid;
        if ($pid == 0) {
            my %mine;
            my $connection;
            for my $i (0 .. $n / $clients - 1) {
                $connection = $server->connection if $i % 20 == 0;
                my $ask = sub {
                    $connection->send("GET $path HTTP/1.1\r\nHost: localhost\r\n\r\n");
                    return $connection->response->{status};
                };
                my $status = $ask->();
                if (!$status) { # a child of the generation before has ended the connection, unasked
                    $connection = $server->connection;
                    $status = $ask->();
                }
                $mine{$status}++;
            }
            syswrite STDOUT, join ' ', %mine;
            POSIX::_exit(0);
        }
        push @from, $from;
    }
    for my $from (@from) {
        my %mine = split ' ', readline $from;
        $count{$_} += $mine{$_} for keys %mine;
        close $from;
    }
    return %count;
}

# --- figures agree with what clients counted, exactly

{
    my $server = server("RateLimitStore s shm size=1M file=store\n"
            . "<Location /index.html>\n    RateLimitRule site rate=$room/week key=ip\n</Location>\n");
    my %sum = (200 => 0, 429 => 0);
    my %life = (
        'a first start' => sub { $server->start },
        'a graceful restart' => sub { $server->graceful },
        'a restart' => sub { $server->restart },
        'a stop and a start' => sub { $server->stop && $server->start },
    );
    my $sent = 0;
    for my $life ('a first start', 'a graceful restart', 'a restart', 'a stop and a start') {
        ok($life{$life}->(), $life);
        my %count = load($server, $requests / 4, '/index.html');
        $sum{$_} += $count{$_} for keys %count;
        $sent += $requests / 4;
        is($sum{200} + $sum{429}, $sent, "all were answered with 200 or 429 after $life");
        my $expected = join ', ', "admitted $sum{200}", $sum{429} ? "refused $sum{429}" : ();
        is(counts($server, 'site', 'default'), $expected, "clients counted what JSON says after $life");
        my %sample = RLP::Metrics::samples(metrics($server));
        is($sample{'ratelimit_requests_total{rule="site",plan="default",action="pass"}'}, $sum{200},
            "and metrics after $life");
        is($sample{'ratelimit_requests_total{rule="site",plan="default",action="deny"}'}, $sum{429},
            "of refusals too after $life");
    }
    is($sum{200}, $room, 'the limit was met exactly');
    my $status = status($server);
    is($status->{most_refused}[0]{identity}, 'ip:127.0.0.1', 'who was refused is named');
    is($status->{most_refused}[0]{rule}, 'site', 'and by which rule');
    is($status->{store}{evictions}, 0, 'nothing was evicted');
    cmp_ok($status->{store}{slots}, '>', 1000, 'the store has a size');
    $server->stop;
}

# --- what each kind of answer counts as

{
    my $server = server(
        "RateLimitDelay max=10s\nRateLimitPlan free rate=3/week\n"
            . "<Location /dry>\n    RateLimitRule dry rate=2/week mode=log\n</Location>\n"
            . "<Location /mark>\n    RateLimitRule mark rate=2/week action=mark\n</Location>\n"
            . "<Location /plan>\n    RateLimitRule plan plan=free\n</Location>\n"
            . "<Location /exempt>\n    RateLimitRule exempt rate=1/week\n    RateLimitExempt ip 127.0.0.1\n</Location>\n"
            . "<Location /two>\n    RateLimitRule wide rate=100/week\n    RateLimitRule narrow rate=2/week\n</Location>\n"
            . "<Location /never>\n    RateLimitRule never quota=0\n</Location>\n"
            . "<Location /fields>\n    RateLimitHeaders Both\n    RateLimitRule fields rate=2/week\n</Location>\n"
            . "<Location /get>\n    RateLimitRule get rate=2/week method=GET\n    RateLimitRule any rate=9/week\n</Location>\n",
    );
    my @cases = (
        # path, requests, rule, plan, counts
        [ '/dry', 5, 'dry', 'default', 'admitted 2, would_refuse 3', 'a dry run' ],
        [ '/mark', 5, 'mark', 'default', 'admitted 2, would_refuse 3', 'a rule that marks' ],
        [ '/plan', 5, 'plan', 'free', 'admitted 3, refused 2', 'a plan' ],
        [ '/exempt', 4, 'exempt', '', 'exempt 4', 'who is exempt' ],
        [ '/two', 5, 'narrow', 'default', 'admitted 2, refused 3', 'the rule that refuses' ],
        [ '/two', 0, 'wide', 'default', 'admitted 2', 'one beside it that does not' ],
        [ '/never', 2, 'never', 'default', 'refused 2', 'a quota of nothing' ],
        [ '/fields', 3, 'fields', 'default', 'admitted 2, refused 1', 'with header fields' ],
        [ '/get', 3, 'get', 'default', 'admitted 2, refused 1', 'a rule for a method' ],
        [ '/get', 0, 'any', 'default', 'admitted 2', 'and one for all' ],
    );
    $server->start;
    for my $case (@cases) {
        my ($path, $n, $rule, $plan, $expected, $name) = @{$case};
        $server->get($path) for 1 .. $n;
        is(counts($server, $rule, $plan), $expected, $name);
    }
    $server->request('HEAD', '/get');
    $server->request('POST', '/get');
    is(counts($server, 'any', 'default'), 'admitted 3', 'what the rule for GET refuses counts there');

    # how it is asked
    my $head = $server->request('HEAD', '/status');
    is("$head->{status} $head->{body}", '200 ', 'HEAD has no body');
    my $posted = $server->request('POST', '/status', 'Content-Length: 0');
    is($posted->{status}, 405, 'POST is refused');
    like($posted->{fields}{allow}, qr/\bGET\b/, 'and what is allowed');
    is($server->get('/status?format=xml')->{status}, 400, 'a format that there is not');
    is($server->get("/status?format=$_")->{status}, 400, "nor $_, which but begins like one") for qw(jsonx js);
    for my $format ([ '', 'text/html; charset=utf-8' ], [ '?format=json', 'application/json' ],
        [ '?a=b&format=prometheus', 'text/plain; version=0.0.4; charset=utf-8' ]) {
        my $response = $server->get("/status$format->[0]");
        is($response->{fields}{'content-type'}, $format->[1], "the type of \"$format->[0]\"");
        is($response->{fields}{'cache-control'}, 'no-store', 'nobody keeps it');
    }
    my $html = $server->get('/status');
    like($html->{fields}{'content-security-policy'}, qr/^default-src 'none';/, 'the page may load nothing');
    unlike($html->{body}, qr{\bsrc=|https?://|href="(?!\?format=)|\bstyle="|\bon\w+="}, 'and does not try');
    unlike($html->{body}, qr/\@\w+\@/, 'all its figures are filled in');
    like($html->{body}, qr/<strong>plan<\/strong>.*plan free for everybody/, 'rules stand in words');
    like($html->{body}, qr/<strong>free<\/strong>.*3 at once/, 'and plans');

    my $metrics = metrics($server);
    is(join("\n", RLP::Metrics::lint($metrics)), '', 'metrics are as Prometheus wants them');
    my %sample = RLP::Metrics::samples($metrics);
    my %json = map {
        my $row = $_;
        map { ("$row->{rule}/$row->{plan}/$_" => $row->{$_}) } @kinds
    } @{ status($server)->{counts} };
    my %action = (pass => 'admitted', delay => 'delayed', deny => 'refused', 'would-deny' => 'would_refuse',
        error => 'errors', exempt => 'exempt', unidentified => 'unidentified');
    my %same = map {
        /^ratelimit_requests_total\{rule="(.*)",plan="(.*)",action="(.*)"\}$/ ? ("$1/$2/$action{$3}" => $sample{$_}) : ()
    } keys %sample;
    is_deeply(\%same, \%json, 'metrics and JSON have the same figures');
    $server->stop;
}

# Plans that take over, maps that refuse, and a server that only logs.
{
    my $server = server(
        "RateLimitPlan slow rate=2/week\nRateLimitPlan first quota=3 then=slow\n"
            . "SetEnvIf X-Who ^(.*)\$ WHO=\$1\nRateLimitIdentity who=env:WHO\n"
            . "RateLimitPlanMap who \"txt:\@DIR\@/who\" unknown=deny\n"
            . "<Location /then>\n    RateLimitRule then plan=first key=ip\n</Location>\n"
            . "<Location /map>\n    RateLimitRule map key=who\n</Location>\n"
            . "Alias \"/index\" \"\@DIR\@/htdocs\"\n"
            . "<Location /index>\n    RateLimitRule index\n    RateLimitRule seen rate=99/week key=ip\n</Location>\n"
            . "<LocationMatch ^/(again|spared)>\n    RewriteEngine On\n    RewriteRule /(again|spared)\$ /\$1-page\n</LocationMatch>\n"
            . "<LocationMatch ^/again>\n    RateLimitRule again rate=9/week\n</LocationMatch>\n"
            . "<LocationMatch ^/spared>\n    RateLimitExempt ip 127.0.0.1\n    RateLimitRule spared rate=1/week\n</LocationMatch>\n"
            . "<Location /nobody>\n    RateLimitRule log key=who mode=log rate=1/week\n    RateLimitRule nobody key=who rate=1/week\n</Location>\n"
            . "<Location /log>\n    RateLimitEngine LogOnly\n    RateLimitRule log rate=2/week key=ip\n</Location>\n"
            . "<Location /free>\n    RateLimitRule free rate=1/week key=ip\n    RateLimitCost 0\n</Location>\n"
            . "<Location /back>\n    RateLimitRule back rate=1/week key=ip \"count=response:%{REQUEST_STATUS} -eq 500\"\n"
            . "</Location>\n",
        modules => [qw(setenvif alias dir rewrite)],
    );
    $server->file('who', "ann slow\n");
    $server->file("htdocs/$_-page", "a page\n") for qw(again spared);
    $server->start;
    is($server->get("/$_", 'X-Who: ann')->{body}, "a page\n", "$_ is redirected inside") for qw(again spared);
    my @cases = (
        # path, requests, fields, rule, plan, counts, what it is
        [ '/then', 7, [], 'then', 'first', 'admitted 3', 'a plan as long as its quota lasts' ],
        [ '/then', 0, [], 'then', 'slow', 'admitted 2, refused 2', 'and the one that takes over' ],
        [ '/map', 3, ['X-Who: ann'], 'map', 'slow', 'admitted 2, refused 1', 'whom the map knows' ],
        [ '/map', 2, ['X-Who: eve'], 'map', '', 'refused 2', 'and whom it does not' ],
        [ '/map', 3, [], 'map', '', 'refused 2, unidentified 3', 'I-05 and who is nobody' ],
        [ '/index/', 4, [], 'index', '', 'unidentified 4', 'I-05 each once, though an index file answers' ],
        [ '/index/', 0, [], 'seen', 'default', 'admitted 4', 'I-05 and other rules are judged' ],
        [ '/again', 3, [], 'again', '', 'unidentified 3', 'I-05 each once, though it is redirected inside' ],
        [ '/spared', 3, [], 'spared', '', 'exempt 4', 'and who is exempt' ],
        [ '/nobody', 3, [], 'log', '', 'unidentified 3', 'I-05 in a dry run' ],
        [ '/nobody', 0, [], 'nobody', '', 'unidentified 3', 'I-05 and beside one, each once' ],
        [ '/index/', 2, ['X-Who: ann'], 'index', 'slow', 'admitted 2', 'I-05 but not who is somebody' ],
        [ '/log', 5, [], 'log', 'default', 'admitted 2, would_refuse 3', 'RateLimitEngine LogOnly' ],
        [ '/free', 4, [], 'free', 'default', 'admitted 4', 'what costs nothing' ],
        [ '/back', 4, [], 'back', 'default', 'admitted 4', 'what is given back' ],
    );
    for my $case (@cases) {
        my ($path, $n, $fields, $rule, $plan, $expected, $name) = @{$case};
        $server->get_to_the_end($path, @{$fields}) for 1 .. $n;
        is(counts($server, $rule, $plan), $expected, $name);
    }
    $server->stop;
}

# Children that are killed take no figure with them: what was answered is counted, and what is counted was asked.
{
    my $server = server("RateLimitRule site rate=100/week key=ip\n");
    my ($sent, %answered) = (0);
    $server->start;
    for my $round (1 .. 6) {
        for (1 .. 40) {
            my $response = eval { $server->get('/index.html') };
            $answered{ $response ? $response->{status} : 0 }++;
            $sent++;
        }
        $server->kill9;
    }
    # one that is to be killed may take this connection with it
    my $status = RLP::Httpd::wait_for(sub { return eval { status($server) } });
    my ($row) = @{ $status->{counts} };
    cmp_ok($row->{admitted}, '>=', $answered{200}, 'what was admitted is counted');
    cmp_ok($row->{refused}, '>=', $answered{429}, 'what was refused, too');
    cmp_ok($row->{admitted} + $row->{refused}, '<=', $sent, 'and nothing twice');
    $server->stop;
}

# A request that waits for its turn. On the clock of the system, since the server sleeps by it.
{
    my $server = RLP::Httpd->new(config => "RateLimitEngine On\nRateLimitDelay max=10s budget=90%\n"
            . "<Location /slow>\n    RateLimitRule slow rate=10/s burst=1 action=delay\n</Location>\n$page");
    $server->start;
    is($server->statuses(3, '/slow'), '404 404 404', 'requests that wait are let through');
    my ($admitted, $delayed) = counts($server, 'slow', 'default') =~ /^admitted (\d), delayed (\d)$/;
    is(($admitted // 0) + ($delayed // 0), 3, 'and counted as delayed, each once');
    my $minutes = 0;
    $minutes += $_ for map { @{ $_->{minutes}{admitted} } } @{ status($server)->{counts} };
    is($minutes, 3, 'and as admitted in the chart');
    $server->stop;
}

# --- the chart

SKIP: {
    skip 'there is no test clock', 6 if !RLP::Httpd::has_clock();
    my $server = server("<Location /index.html>\n    RateLimitRule site rate=4/week\n    RateLimitRule trial rate=1/week mode=log\n</Location>\n");
    $server->start;
    $server->get('/index.html') for 1 .. 3;
    $server->set_clock(60);
    status($server); # writes down the minute that is over
    $server->get('/index.html') for 1 .. 3; # one passes
    $server->set_clock(120);
    status($server);
    $server->set_clock(300);
    my ($row, $trial) = @{ status($server)->{counts} };
    my %minutes = %{ $row->{minutes} };
    is(scalar @{ $minutes{admitted} }, 60, 'an hour of minutes');
    my $sum = 0;
    $sum += $_ for map { @{$_} } @minutes{qw(admitted refused)};
    is($sum, 6, 'has each request once');
    is(join(' ', @{ $minutes{admitted} }[53 .. 59]), '0 3 1 0 0 0 0', 'in its minute, and none where there were none');
    is(join(' ', @{ $minutes{refused} }[53 .. 59]), '0 0 2 0 0 0 0', 'refused ones, too');
    is(join(' ', @{ $trial->{minutes}{would_refuse} }[53 .. 59]), '0 2 3 0 0 0 0', 'and those that a dry run would refuse');
    is(join(' ', @{ $trial->{minutes}{refused} }[53 .. 59]), '0 0 0 0 0 0 0', 'which it does not');
    $server->stop;
}

# --- names that attack whoever reads the page

{
    my $sign = "\xe2\x80\xae"; # turns the direction of writing
    my @names = ('<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "bidi${sign}txt", 'nul%00\\x00', '@host@',
        "\xff\xfe", "quote' \\\" {}", 'a' x 300);
    my $config = "SetEnvIf X-Who ^(.*)\$ WHO=\$1\nRateLimitIdentity who=env:WHO\n"
        . "<Location /who>\n    RateLimitRule who quota=0 key=who\n</Location>\n";
    my $server = server("$config RateLimitKeyLog plain\n", modules => ['setenvif']);
    $server->start;
    is($server->get('/who', "X-Who: $_")->{status}, 429, 'somebody is refused') for @names;
    my $status = status($server);
    is(scalar @{ $status->{most_refused} }, scalar @names, 'all of them are named');
    is(scalar(grep { $_->{identity} !~ /\Awho:[A-Za-z0-9_.:@%#-]+\z/ } @{ $status->{most_refused} }), 0,
        'by signs that mean nothing anywhere');
    my $body = $server->get('/status')->{body};
    unlike($body, qr/alert\(1\)|<img|[^\x0a\x20-\x7e]/, 'the page has no sign of theirs');
    like($body, qr/who:%3Cscript%3E/, 'but shows them escaped');
    unlike(metrics($server), qr/who:|script/, 'metrics never name anybody');
    is(join("\n", RLP::Metrics::lint(metrics($server))), '', 'and are still in order');

    # many of them: what is kept is bounded, and the page quick
    my $connection = $server->connection;
    for my $i (1 .. $crowd) {
        $connection->send("GET /who HTTP/1.1\r\nHost: localhost\r\nX-Who: <b>$sign$i\r\n\r\n");
        $connection->response;
    }
    my @took;
    for my $format ('', '?format=json', '?format=prometheus') {
        my $begin = time;
        my $response = $server->get("/status$format");
        push @took, sprintf '%.1f ms', 1000 * (time - $begin);
        is($response->{status}, 200, "\"$format\" with $crowd identities");
        unlike($response->{body}, qr/<b>|[^\x0a\x20-\x7e]/, 'none of which does anything');
        cmp_ok(time - $begin, '<', 0.05, 'in less than 50 ms') if $ENV{RLP_STATUS_IDENTITIES};
    }
    note("page, JSON, metrics: @took");
    my @most = @{ status($server)->{most_refused} };
    cmp_ok(scalar @most, '<=', 256, 'no more are kept than there is room for');
    cmp_ok(scalar(grep { $_->{error} > 0 } @most), '>', 0, 'of those who took the places of others it is told how much may be theirs');
    is(scalar(grep { $_->{error} >= $_->{refused} } @most), 0, 'which is not all');
    is(counts($server, 'who', 'default'), 'refused ' . ($crowd + @names), 'and all are counted');

    # what the page may show is what the log may
    $server->configure("${children}RateLimitEngine On\n$config$page");
    ok($server->graceful, 'RateLimitKeyLog hash comes with a graceful restart');
    is(scalar @{ status($server)->{most_refused} }, 0, 'what was kept plainly is forgotten');
    $server->get('/who', 'X-Who: somebody');
    like(status($server)->{most_refused}[0]{identity}, qr/^who:[0-9a-f]{32}$/, 'and digests stand in its place');
    $server->stop;
}

# --- an area that is damaged

{
    my $server = server("RateLimitStore s shm size=1M file=store\n<Location /x>\n    RateLimitRule x rate=2/week\n</Location>\n");
    $server->start;
    $server->get('/x') for 1 .. 3;
    $server->stop;
    my $text = RLP::Httpd::slurp($server->file('store'));
    my $noise = join '', map { chr(1 + ($_ * 7919) % 255) } 1 .. 600_000;
    substr $text, 1024 * 1024 + 4096, length $noise, $noise;
    $server->file('store', $text);
    $server->start;
    my $response = $server->get('/status');
    is($response->{status}, 200, 'a damaged area is shown for what it is');
    unlike($response->{body}, qr/[^\x0a\x20-\x7e]/, 'without its signs');
    is($server->get('/status?format=json')->{status}, 200, 'in JSON too');
    is(join("\n", RLP::Metrics::lint(metrics($server))), '', 'and for Prometheus, in order');
    is($server->get('/x')->{status}, 429, 'and rules count on');
    $server->stop;

    substr $text, 1024 * 1024, 8, 'FOREIGN!';
    $server->file('store', $text);
    $server->start;
    is(scalar @{ status($server)->{counts} }, 0, 'a foreign area begins anew');
    is($server->get('/x')->{status}, 429, 'and the counters do not');
    is(counts($server, 'x', 'default'), 'refused 1', 'statistics go on from there');
    $server->stop;
}

# --- more rules under plans than there is room for

{
    my $n = 530;
    my $server = server(join '', map { "<Location /r$_>\n    RateLimitRule r$_ rate=5/week\n</Location>\n" } 1 .. $n);
    $server->start;
    my $connection = $server->connection;
    for my $i (1 .. $n) {
        $connection->send("GET /r$i HTTP/1.1\r\nHost: localhost\r\n\r\n");
        $connection->response;
    }
    my $status = status($server);
    my $sum = 0;
    $sum += $_->{admitted} for @{ $status->{counts} };
    is($sum, $n, 'what has no room is counted too');
    is(counts($server, '(other)', ''), 'admitted ' . ($n - 512), 'together');
    is(join("\n", RLP::Metrics::lint(metrics($server))), '', 'and metrics are in order');
    $server->stop;
}

# --- rules of .htaccess

{
    my $server = server("<Directory \"\@DIR\@/htdocs\">\n    AllowOverride Limit\n</Directory>\n");
    mkdir $server->file('htdocs/tenant'), 0755;
    $server->file('htdocs/tenant/.htaccess', "RateLimitRule mine rate=2/week key=ip\n");
    $server->file('htdocs/tenant/page', "hello\n");
    $server->start;
    is($server->statuses(4, '/tenant/page'), '200 200 429 429', 'a rule of .htaccess refuses');
    my ($row) = @{ status($server)->{counts} };
    like($row->{rule}, qr{^mine@}, 'it is counted under its name and place');
    is("$row->{admitted} $row->{refused}", '2 2', 'as any other');
    $server->stop;
}

# --- plan maps and Redis

{
    my $server = server("RateLimitPlan free rate=5/week\nRateLimitPlanMap user \"txt:\@DIR\@/us\\ers\"\n"
            . "<Location /x>\n    RateLimitRule x plan=auto key=user\n</Location>\n");
    my $users = $server->file('us\ers', "ann free\n");
    utime 1, 1, $users;
    $server->start;
    is_deeply(status($server)->{maps}, [], 'a map that was read but once is not told of');
    $server->file('us\ers', "ann free\nbob free\n");
    utime 1000, 1000, $users;
    my $map;
    my $read = sub { ($map) = @{ status($server)->{maps} }; return $map && $map->{reloads} + $map->{failed_reloads} == $_[0] };
    ok(RLP::Httpd::wait_for(sub { $read->(1) }), 'a changed map is read again');
    is("$map->{identity} $map->{file} $map->{reloads} $map->{failed_reloads}", "user $users 1 0", 'and told of, by its name');
    my $escaped = $users =~ s/\\/\\\\/gr;
    my %sample = RLP::Metrics::samples(metrics($server));
    is(join(' ', map { $sample{qq(ratelimit_map_reloads_total{identity="user",file="$escaped",result="$_"})} // 'none' } qw(ok failed)), '1 0',
        'as metrics have it, with an escape');
    $server->file('us\ers', "ann nonesuch\n");
    utime 2000, 2000, $users;
    ok(RLP::Httpd::wait_for(sub { $read->(2) }), 'a wrong one is not');
    is("$map->{reloads} $map->{failed_reloads}", '1 1', 'and told of, too');
    is(join("\n", RLP::Metrics::lint(metrics($server))), '', 'metrics of maps are in order');
    like($server->get('/status')->{body}, qr/<h3 id="h-maps">/, 'the page has maps');
    $server->stop;
}

SKIP: {
    skip 'it was built without Redis', 8 if !RLP::Httpd::has_redis();
    my $closed = RLP::Httpd::free_port();
    my $server = server("RateLimitStore far redis url=redis://127.0.0.1:$closed failure=open\n"
            . "RateLimitStore again redis url=redis://127.0.0.1:$closed/1 prefix=two failure=open\n"
            . "<Location /x>\n    RateLimitRule x rate=2/week key=ip\n</Location>\n"
            . "<Location /y>\n    RateLimitRule y rate=2/week key=ip store=again\n</Location>\n");
    $server->start;
    $server->get('/x') for 1 .. 12;
    is(counts($server, 'x', 'default'), 'errors 12', 'what Redis did not answer');
    my $server_seen;
    my $open = sub { ($server_seen) = @{ status($server)->{store}{servers} }; return $server_seen && $server_seen->{breaker} ne 'closed' };
    ok(RLP::Httpd::wait_for($open), 'its breaker is open') or diag(explain($server_seen));
    like($server_seen->{name} // '', qr/\Q$closed\E/, 'the server is named');
    cmp_ok($server_seen->{asked_again_ms}, '<=', 36_000, 'it is asked again in half a minute and a bit at the latest, in milliseconds');
    my %sample = RLP::Metrics::samples(metrics($server));
    my ($up) = grep { /^ratelimit_redis_up/ } keys %sample;
    is($up ? $sample{$up} : 'none', 0, 'metrics say that it is away');
    $server->get('/y');
    is(join("\n", RLP::Metrics::lint(metrics($server))), '', 'in order, with two stores in one server too');
    like($server->get('/status')->{body}, qr/class="note">Redis at .*\Q$closed\E/, 'and the page says so first');
    ok($server->graceful, 'graceful');
    is(counts($server, 'x', 'default'), 'errors 12', 'figures beside Redis live through it');
    $server->stop;
}

# --- mod_status

SKIP: {
    skip 'httpd has no mod_status', 3 if !RLP::Httpd::has_module('status');
    my $server = server("RateLimitRule site rate=2/week\n<Location /server-status>\n    SetHandler server-status\n"
            . "    RateLimitEngine Off\n</Location>\n", modules => ['status']);
    $server->start;
    $server->get('/index.html') for 1 .. 5;
    my $auto = $server->get('/server-status?auto')->{body};
    like($auto, qr/^RateLimitAdmitted: 2$/m, 'server-status?auto has the figures');
    like($auto, qr/^RateLimitRefused: 3$/m, 'of refusals too');
    like($server->get('/server-status')->{body}, qr{<td>site</td><td>default</td><td>2</td><td>0</td><td>3</td>},
        'and the page has a table');
    $server->stop;
}

# --- without anything to tell

{
    my $server = RLP::Httpd->new(config => $page);
    $server->start;
    my $response = $server->get('/status');
    is($response->{status}, 200, 'a server without rules has a page');
    like($response->{body}, qr/nothing is enforced/, 'that says so');
    is_deeply(status($server)->{counts}, [], 'and JSON');
    is(join("\n", RLP::Metrics::lint(metrics($server))), '', 'and metrics');
    $server->stop;
}

done_testing;
