#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The figures of ratelimit-status where rules count in several stores, are dry, wait, or do not count somebody: in JSON, in
# metrics and over restarts.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;

use RLP::Httpd;
use RLP::Metrics;
use RLP::Redis;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'httpd has no mod_setenvif or mod_alias' if grep { !RLP::Httpd::has_module($_) } qw(setenvif alias);

my @kinds = qw(admitted delayed refused would_refuse errors exempt);
my %action = (admitted => 'pass', delayed => 'delay', refused => 'deny', would_refuse => 'would-deny', errors => 'error', exempt => 'exempt');

sub text {
    my ($config) = @_;
    my $paths = join '|', $config =~ m{<Location /(\w+)>}g;
    return <<"END";
RateLimitEngine On
RateLimitKeyLog plain
SetEnvIf X-Who (.+) WHO=\$1
RateLimitIdentity who=env:WHO ip
AliasMatch "^/(?:$paths)\$" "\@DIR\@/htdocs/index.html"
<Location "/status">
    SetHandler ratelimit-status
    RateLimitEngine Off
</Location>
$config
END
}

sub server {
    my ($config) = @_;
    return RLP::Httpd->new(modules => [qw(setenvif alias)], config => text($config))->start;
}

sub status {
    my ($server) = @_;
    my $response = $server->get('/status?format=json');
    is($response->{status}, 200, 'the page') or diag($response->{body});
    return decode_json($response->{body});
}

# "refused 3" and so on of a row, without what is 0
sub counts {
    my ($status, $rule, $plan) = @_;
    my ($row) = grep { $_->{rule} eq $rule && $_->{plan} eq $plan } @{ $status->{counts} };
    return $row ? join ', ', map { $row->{$_} ? "$_ $row->{$_}" : () } @kinds : 'no row';
}

# Metrics say the same as JSON, of each row.
sub agree {
    my ($server, $name) = @_;
    my %sample = RLP::Metrics::samples($server->get('/status?format=prometheus')->{body});
    my (%json, %metrics);
    for my $row (@{ status($server)->{counts} }) {
        for my $kind (@kinds) {
            my $series = qq{ratelimit_requests_total{rule="$row->{rule}",plan="$row->{plan}",action="$action{$kind}"}};
            $json{$series} = $row->{$kind};
            $metrics{$series} = $sample{$series} // 0;
        }
    }
    return is_deeply(\%metrics, \%json, "$name: metrics and JSON agree");
}

# Runs steps, then looks at all their rows at once; and again after each kind of restart.
sub run {
    my ($server, $name, @steps) = @_;
    for my $step (@steps) {
        my ($path, $statuses, $fields) = @{$step};
        my @statuses = split / /, $statuses;
        is($server->statuses(scalar @statuses, $path, @{$fields}), $statuses, "$name: $path @{$fields}") if @statuses;
    }
    my %life = (
        'then' => sub { 1 },
        'after a graceful restart' => sub { $server->graceful },
        'after a restart' => sub { $server->restart },
        'after a stop and a start' => sub { $server->stop && $server->start },
    );
    for my $life ('then', 'after a graceful restart', 'after a restart', 'after a stop and a start') {
        ok($life{$life}->(), "$name $life");
        my $status = status($server);
        for my $step (@steps) {
            my ($path, undef, undef, %rows) = @{$step};
            for my $row (sort keys %rows) {
                is(counts($status, split(m{/}, $row, 2)), $rows{$row}, "$name, $row $life");
            }
        }
    }
    agree($server, $name);
    return ok($server->stop, "$name: it stops as ever");
}

my $ok = sub { my ($n, $m) = @_; return join ' ', (200) x $n, (429) x ($m // 0) };

# --- several stores

run(server("RateLimitStore near shm size=1M\nRateLimitStore beside shm size=1M\nRateLimitPlan pro rate=4/week\n"
            . "<Location /both>\nRateLimitRule both-near rate=9/week key=ip\nRateLimitRule both-beside rate=3/week key=ip store=beside\n</Location>\n"
            . "<Location /first>\nRateLimitRule first-near rate=2/week key=ip\nRateLimitRule first-beside rate=9/week key=ip store=beside\n</Location>\n"
            . "<Location /apart>\nRateLimitRule apart rate=2/week key=ip store=beside\n</Location>\n"
            . "<Location /plans>\nRateLimitRule plans plan=pro key=ip store=beside\n</Location>\n"
            . "<Location /dry>\nRateLimitRule dry-near rate=9/week key=ip\nRateLimitRule dry-beside rate=2/week key=ip mode=log store=beside\n</Location>\n"),
    'stores',
    [ '/both', $ok->(3, 2), [], 'both-near/default' => 'admitted 3', 'both-beside/default' => 'admitted 3, refused 2' ],
    [ '/first', $ok->(2, 3), [], 'first-near/default' => 'admitted 2, refused 3', 'first-beside/default' => 'admitted 2' ],
    [ '/apart', $ok->(2, 1), [], 'apart/default' => 'admitted 2, refused 1' ],
    [ '/plans', $ok->(4, 1), [], 'plans/pro' => 'admitted 4, refused 1' ],
    [ '/dry', $ok->(5), [], 'dry-near/default' => 'admitted 5', 'dry-beside/default' => 'admitted 2, would_refuse 3' ],
);

# what is kept lies in the file of the first, and has its time also when there are others
{
    my ($near, $beside, $rest) = ("RateLimitStore near shm size=1M\n", "RateLimitStore beside shm size=1M\n",
        "<Location /near>\nRateLimitRule near rate=2/week key=ip store=near\n</Location>\n");
    my $server = server($near . $rest);
    is($server->statuses(5, '/near'), $ok->(2, 3), 'one store');
    my $told = sub {
        my $status = status($server);
        return join ' ', counts($status, 'near', 'default'), map { "$_->{identity} $_->{refused}" } @{ $status->{most_refused} };
    };
    is($told->(), 'admitted 2, refused 3 ip:127.0.0.1 3', 'who was refused most');
    for my $stores ($near . $beside, $near) {
        $server->configure(text($stores . $rest));
        ok($server->graceful, 'other stores');
        is($told->(), 'admitted 2, refused 3 ip:127.0.0.1 3', 'who was refused most, as before');
    }
    $server->stop;
}

# --- a server that only logs, exemptions

run(server("RateLimitEngine LogOnly\nRateLimitPlan pro rate=3/week\n"
            . "<Location /one>\nRateLimitRule one rate=2/week key=ip\n</Location>\n"
            . "<Location /two>\nRateLimitRule two-wide rate=4/week key=ip\nRateLimitRule two-narrow rate=1/week key=ip\n</Location>\n"
            . "<Location /plan>\nRateLimitRule plan plan=pro key=ip\n</Location>\n"
            . "<Location /early>\nRateLimitRule early rate=2/week key=ip phase=early\n</Location>\n"
            . "<Location /mark>\nRateLimitRule mark rate=2/week key=ip action=mark\n</Location>\n"
            . "<Location /exempt>\nRateLimitExempt ip 127.0.0.0/8\nRateLimitRule exempt-a rate=1/week key=ip\nRateLimitRule exempt-b rate=1/week key=ip\n</Location>\n"
            . "<Location /some>\nRateLimitExempt \"expr=%{HTTP:X-Who} == 'ann'\"\nRateLimitRule some rate=2/week key=who\n</Location>\n"
            . "<Location /on>\nRateLimitEngine On\nRateLimitRule on rate=2/week key=ip\n</Location>\n"
            . "<Location /off>\nRateLimitEngine Off\nRateLimitRule off rate=2/week key=ip\n</Location>\n"),
    'LogOnly',
    [ '/one', $ok->(5), [], 'one/default' => 'admitted 2, would_refuse 3' ],
    [ '/two', $ok->(6), [], 'two-wide/default' => 'admitted 4, would_refuse 2', 'two-narrow/default' => 'admitted 1, would_refuse 5' ],
    [ '/plan', $ok->(5), [], 'plan/pro' => 'admitted 3, would_refuse 2' ],
    [ '/early', $ok->(4), [], 'early/default' => 'admitted 2, would_refuse 2' ],
    [ '/mark', $ok->(4), [], 'mark/default' => 'admitted 2, would_refuse 2' ],
    [ '/exempt', $ok->(3), [], 'exempt-a/' => 'exempt 3', 'exempt-b/' => 'exempt 3', 'exempt-a/default' => 'no row' ],
    [ '/some', $ok->(4), ['X-Who: ann'], 'some/' => 'exempt 4' ],
    [ '/some', $ok->(4), ['X-Who: bob'], 'some/default' => 'admitted 2, would_refuse 2' ],
    [ '/some', $ok->(4), [] ],
    [ '/on', $ok->(2, 2), [], 'on/default' => 'admitted 2, refused 2' ],
    [ '/off', $ok->(4), [], 'off/default' => 'no row' ],
);

# --- rules that would let wait: turns that are too far away are refusals

run(server("RateLimitDelay max=20s budget=90%\n"
            . "<Location /never>\nRateLimitRule never rate=2/week key=ip action=delay\n</Location>\n"
            . "<Location /short>\nRateLimitRule short rate=2/week key=ip action=delay:100ms\n</Location>\n"
            . "<Location /beside>\nRateLimitRule beside-wide rate=9/week key=ip\nRateLimitRule beside-slow rate=2/week key=ip action=delay\n</Location>\n"
            . "<Location /dry>\nRateLimitRule dry rate=2/week key=ip action=delay mode=log\n</Location>\n"),
    'delay',
    [ '/never', $ok->(2, 2), [], 'never/default' => 'admitted 2, refused 2' ],
    [ '/short', $ok->(2, 2), [], 'short/default' => 'admitted 2, refused 2' ],
    [ '/beside', $ok->(2, 2), [], 'beside-wide/default' => 'admitted 2', 'beside-slow/default' => 'admitted 2, refused 2' ],
    [ '/dry', $ok->(4), [], 'dry/default' => 'admitted 2, would_refuse 2' ],
);

# All are sent before the first answer is read.
{
    my $server = server("RateLimitDelay max=20s budget=90%\nRateLimitStore near shm size=1M\nRateLimitStore beside shm size=1M\n"
            . "<Location /turn>\nRateLimitRule turn rate=1/2s burst=1 key=ip action=delay store=beside\nRateLimitRule turn-wide rate=99/week key=ip\n</Location>\n");
    my $sent = 0;
    my %row;
    my $waited = sub {
        my @open = map { $server->connection } 1 .. 2;
        $_->send("GET /turn HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") for @open;
        $sent += grep { $_->response->{status} == 200 } @open;
        %row = map { $_->{rule} => $_ } @{ status($server)->{counts} };
        return $row{turn}{delayed};
    };
    ok(RLP::Httpd::wait_for($waited), 'of two at once, one waits');
    is($row{turn}{admitted} + $row{turn}{delayed}, $sent, 'each counts once');
    is($row{turn}{refused} + $row{turn}{errors}, 0, 'and none as anything else');
    is($row{'turn-wide'}{admitted} + $row{'turn-wide'}{delayed}, $sent, 'the rule beside it, too');
    agree($server, 'a delay');
    $server->stop;
}

# --- names that are too long for the list of who is refused most

{
    my $server = server("<Location /long>\nRateLimitRule long quota=0\n</Location>\n");
    my $long = "\xfc" x 63;
    is($server->get('/long', "X-Who: $long$_")->{status}, 429, "somebody with a long name, $_") for qw(a b);
    my @named = map { $_->{identity} } @{ status($server)->{most_refused} };
    is(scalar(@named), 2, 'two are refused');
    isnt($named[0], $named[1], 'and told apart');
    like($_, qr/\Awho:(?:%FC)+%?F?-[0-9a-f]{16}\z/, 'by what stands at the end') for @named;
    $server->stop;
}

# --- a store in Redis beside one of shared memory, and without Redis

SKIP: {
    skip RLP::Redis::missing(), 1 if RLP::Redis::missing();
    my %gone = (local => [ $ok->(3), 'admitted 5' ], open => [ $ok->(3), 'admitted 2, errors 3' ], closed => [ '503 503 503', 'admitted 2, errors 3' ]);
    for my $failure (sort keys %gone) {
        my $redis = RLP::Redis->alone;
        my $server = server("RateLimitStore near shm size=1M file=near\nRateLimitStore far redis url=redis://127.0.0.1:" . $redis->port
                . " timeout=5s connect=5s recovery=60s hosts=1 failure=$failure\n"
                . "<Location /far>\nRateLimitRule far rate=9/week key=ip store=far\n</Location>\n"
                . "<Location /beside>\nRateLimitRule far-a rate=9/week key=ip store=far\nRateLimitRule near-a rate=9/week key=ip\n</Location>\n"
                . "<Location /within>\nRateLimitRule far-b rate=9/week key=ip store=far\nRateLimitRule far-c rate=9/week key=ip store=far failure=local\n</Location>\n"
                . "<Location /near>\nRateLimitRule near rate=2/week key=ip\n</Location>\n");
        my ($statuses, $counts) = @{ $gone{$failure} };
        my %beside = (
            local => [ $ok->(3), 'far-a' => 'admitted 3', 'near-a' => 'admitted 3', 'far-b' => 'admitted 3', 'far-c' => 'admitted 3' ],
            open => [ $ok->(3), 'far-a' => 'errors 3', 'near-a' => 'admitted 3', 'far-b' => 'errors 3', 'far-c' => 'admitted 3' ],
            closed => [ '503 503 503', 'far-a' => 'errors 3', 'near-a' => 'errors 3', 'far-b' => 'errors 3', 'far-c' => 'errors 3' ],
        );
        is($server->statuses(2, '/far'), '200 200', "Redis $failure: requests");
        is(counts(status($server), 'far', 'default'), 'admitted 2', "Redis $failure: are counted");
        $redis->kill9;
        is($server->statuses(3, '/far'), $statuses, "Redis $failure: requests without it");
        is($server->statuses(3, '/near'), '200 200 429', "Redis $failure: where another store counts");
        my ($together, %rows) = @{ $beside{$failure} };
        is($server->statuses(3, $_), $together, "Redis $failure: where both count, $_") for qw(/beside /within);
        my $status = status($server);
        is(counts($status, $_, 'default'), $rows{$_}, "Redis $failure: each rule has all, $_") for sort keys %rows;
        is(counts($status, 'far', 'default'), $counts, "Redis $failure: are what they were");
        is(counts($status, 'near', 'default'), 'admitted 2, refused 1', "Redis $failure: nothing of it there");
        agree($server, "Redis $failure");
        ok($server->graceful, "Redis $failure: a graceful restart");
        is(counts(status($server), 'far', 'default'), $counts, "Redis $failure: which forgets no figure");
        ok($server->stop, "Redis $failure: it stops as ever");
    }
}

done_testing;
