#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The example configurations do what they say. Each runs as it stands in conf/examples; all that is changed are the
# port, the address of the application behind it, and where the database is. Clients have the addresses that
# X-Forwarded-For gives them.

use strict;
use warnings;

use File::Basename qw(basename dirname);
use File::Temp ();
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(time);

use RLP::Backend;
use RLP::Httpd;
use RLP::Postgres;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
my @modules = qw(alias auth_basic authn_core authn_file authz_user dir headers mime proxy proxy_http remoteip setenvif);
my @absent = grep { !RLP::Httpd::has_module($_) } @modules;
plan skip_all => "httpd has no @absent" if @absent;
plan skip_all => 'the clock of the tests is missing (TESTCLOCK_SO)' if !RLP::Httpd::has_clock();

my $examples = dirname(dirname(File::Spec->rel2abs($0))) . '/conf/examples';
my $bandwidth = RLP::Httpd::has_module('ratelimit') ? 'ratelimit' : ();
my $database = RLP::Httpd::has_module('dbd') ? 'dbd' : ();
my %exercised;
my @dbd; # driver and parameters of mod_dbd
my ($server, $backend, $seconds);

# The server is stopped before its application, and both before others come.
sub finish {
    $server->stop if $server;
    undef $_ for $server, $backend;
    return;
}

# A server with an example and the files it names; before: lines in front of it, before its port and application are put in.
sub serve {
    my ($name, $files, $before) = @_;
    my $text = RLP::Httpd::slurp("$examples/$name.conf") or die "$examples/$name.conf is missing\n";

    $exercised{$name} = 1;
    finish();
    $server = RLP::Httpd->new(modules => [ @modules, $bandwidth, $database ], clock => 1);
    mkdir $server->dir . '/conf' or die "conf: $!\n";
    $server->file("conf/$_", $files->{$_}) for keys %{$files};
    $server->file('htdocs/logo.png', "png\n");
    $backend = RLP::Backend->new;
    $backend->serve(0);
    my $port = $backend->port;
    $text =~ s/<VirtualHost [*]:80>/<VirtualHost *:\@PORT\@>/g;
    $text =~ s{http://127[.]0[.]0[.]1:8000/}{http://127.0.0.1:$port/}g;
    if (@dbd) {
        $text =~ s/^DBDriver pgsql$/DBDriver $dbd[0]/m;
        $text =~ s/^DBDParams .*/DBDParams "$dbd[1]"/m;
    }
    $before =~ s/\@BACKEND\@/http:\/\/127.0.0.1:$port/g if $before;
    $server->configure("TypesConfig /dev/null\nRemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 127.0.0.1\n" . ($before // '') . $text);
    $server->start;
    $seconds = 0;
    return;
}

# So many seconds later.
sub later {
    my ($more) = @_;
    return $server->set_clock($seconds += $more);
}

sub host { return "Host: $_[0]" }
sub from { return "X-Forwarded-For: $_[0]" }

sub basic {
    my ($user, $password) = @_;
    return 'Authorization: Basic ' . encode_base64("$user:$password", '');
}

sub text {
    my ($method, $path, @fields) = @_;
    push @fields, host('localhost') if !grep { /^Host:/ } @fields;
    return join("\r\n", "$method $path HTTP/1.1", 'Connection: close', @fields) . "\r\n\r\n";
}

# One request as "METHOD PATH" or a path, fields behind it.
sub ask {
    my ($what, @fields) = @_;
    my ($method, $path) = $what =~ / / ? split / /, $what : ('GET', $what);
    push @fields, 'Content-Length: 0' if $method eq 'POST';
    my $connection = $server->connection;
    $connection->send(text($method, $path, @fields));
    my $response = $connection->response($method);
    $connection->closed; # what is done after the response is done by then
    return $response;
}

# How often each status came, "200 x 5, 429 x 2", in the order of coming.
sub statuses {
    my ($n, @request) = @_;
    my @runs;
    for (1 .. $n) {
        my $status = ask(@request)->{status};
        push @runs, [ $status, 0 ] if !@runs || $runs[-1][0] != $status;
        $runs[-1][1]++;
    }
    return join ', ', map { "$_->[0] x $_->[1]" } @runs;
}

# Requests that the application holds: connections that wait for their answers.
sub hold {
    my ($n, $path, @fields) = @_;
    my $before = $backend->open;
    my @waiting = map { $server->connection } 1 .. $n;
    $_->send(text('GET', $path, @fields)) for @waiting;
    is($backend->until_open($before + $n), $before + $n, "$n requests for $path are in flight");
    return @waiting;
}

# Lets the application answer all of them, and waits for httpd.
sub release {
    my (@waiting) = @_;
    $backend->serve(0);
    my @statuses = map { my $response = $_->response; $_->closed; $response->{status} } @waiting;
    return join ' ', @statuses;
}

# --- shared hosting

# A page that takes what follows its name, and answers for what is missing.
my $script = qq{<Files "index.html">\n    AcceptPathInfo On\n</Files>\nFallbackResource "/index.html"\n};
serve('shared-hosting', { 'tiers.txt' => "bakery.example  starter\nshop.example  business\n" }, $script);
my @visitors = map { from("192.0.2.$_") } 1 .. 120;

sub visits {
    my ($n, $host, $path) = @_;
    my %count;
    $count{ ask($path, host($host), $visitors[ $_ % @visitors ])->{status} }++ for 0 .. $n - 1;
    return join ', ', map { "$_ x $count{$_}" } sort keys %count;
}
is(visits(110, 'bakery.example', '/'), '200 x 100, 503 x 10', 'shared hosting: a starter has a hundred at once, of all visitors together');
is(visits(10, 'Bakery.Example:80', '/'), '503 x 10', 'shared hosting: however its name is spelled');
is(visits(110, 'shop.example', '/'), '200 x 110', 'shared hosting: a business has more, and nothing of it is used up by others');
is(visits(30, 'club.example', '/'), '200 x 25, 503 x 5', 'shared hosting: a site that the file does not have is free');
is(visits(10, 'bakery.example', '/logo.png'), '200 x 10', 'shared hosting: pictures are not counted');
is(visits(10, 'bakery.example', "/$_"), '503 x 10', "shared hosting: $_ is none") for 'index.html/logo.png', 'missing.png';
is(ask('/', host('bakery.example'))->{fields}{ratelimit}, undef, 'shared hosting: visitors are not told of tiers');
later(1);
is(visits(30, 'bakery.example', '/'), '200 x 20, 503 x 10', 'shared hosting: a second later twenty more');
later(3600);
is(statuses(30, '/', host('bakery.example'), from('198.51.100.1')), '200 x 20, 503 x 10', 'shared hosting: one visitor has a part of it');
is(statuses(1, '/', host('bakery.example'), from('198.51.100.2')), '200 x 1', 'shared hosting: and the next his own');
is(statuses(210, '/', host('www.shop.example'), from('198.51.100.1')), '200 x 200, 503 x 10', 'shared hosting: a shop may say otherwise for itself');
later(3600);
$server->file('conf/tiers.txt', "bakery.example  business\nshop.example  business\n");
ok($server->graceful, 'shared hosting: the panel writes another tier');
is(visits(240, 'bakery.example', '/'), '200 x 240', 'shared hosting: which is in force');

# --- an API with keys

serve('api-keys', { 'api-keys.txt' => "key-free free\nkey-pro pro\nkey-big enterprise\n" }, qq{AliasMatch "^/(api|search)" "\@DIR\@/htdocs/index.html"\n});
is(statuses(12, '/api/x', from('192.0.2.1')), '200 x 10, 429 x 2', 'keys: a visitor has ten a minute');
is(statuses(2, '/api/x', from('192.0.2.1'), 'X-API-Key: invented'), '429 x 2', 'keys: an invented key makes him no other');
is(statuses(61, '/api/x', from('192.0.2.1'), 'X-API-Key: key-free'), '200 x 60, 429 x 1', 'keys: a known one has its plan');
is(statuses(1, '/api/x', from('192.0.2.2'), 'X-API-Key: key-free'), '429 x 1', 'keys: from everywhere');
is(ask('/api/x', 'X-API-Key: key-pro')->{fields}{'ratelimit-policy'}, '"pro";q=1200;w=120', 'keys: pro is told of its plan');
is(ask('/api/x', 'X-API-Key: key-big')->{fields}{'x-ratelimit-limit'}, 12_000, 'keys: and enterprise');
is(statuses(7, '/api/search', 'X-API-Key: key-pro'), '200 x 5, 429 x 2', 'keys: searches have a limit of their own');
is(statuses(2, '/api/x', 'X-API-Key: key-pro'), '200 x 2', 'keys: which leaves the rest alone');
is(statuses(20, '/'), '200 x 20', 'keys: elsewhere nothing is counted');

# $parameters replaces DBDParams.
sub database {
    my ($name, $driver, $parameters) = @_;
    @dbd = ($driver, $parameters);
    serve('api-keys-postgresql', {}, qq{AliasMatch "^/api" "\@DIR\@/htdocs/index.html"\n});
    is(statuses(61, '/api/x', 'X-API-Key: key-free'), '200 x 60, 429 x 1', "$name: a key has its plan");
    is(ask('/api/x', 'X-API-Key: key-pro')->{fields}{'x-ratelimit-limit'} // '', 100, "$name: told of the tightest, the tries");
    like(ask('/api/x', 'X-API-Key: key-pro')->{fields}{'ratelimit-policy'}, qr/"pro";q=1200;w=120/, "$name: and of its plan");
    is(ask('/api/x', 'X-API-Key: key-gone', from('192.0.2.1'))->{status}, 401, "$name: a blocked key is none");
    is(statuses(102, '/api/x', 'X-API-Key: key-guess', from('192.0.2.2')), '401 x 100, 429 x 2', "$name: a hundred tries");
    return;
}

# As the example has it, and what it may be asked.
my ($table) = RLP::Httpd::slurp("$examples/api-keys-postgresql.conf") =~ /^#\s+(CREATE TABLE .*);$/m;
my $rows = "INSERT INTO api_keys VALUES ('key-free', 'free', false), ('key-pro', 'pro', false), ('key-gone', 'pro', true);";
SKIP: {
    $exercised{'api-keys-postgresql'} = 1;
    skip 'httpd has no mod_dbd, or sqlite3 is missing (Debian: sqlite3 libaprutil1-dbd-sqlite3)', 1 if !$database || !qx(sqlite3 -version 2>/dev/null);
    my $tables = File::Temp->new;
    open my $out, '|-', 'sqlite3', "$tables" or die "sqlite3: $!\n";
    print {$out} "$table;\n$rows\n";
    close $out or die "sqlite3 failed\n";
    chmod 0644, "$tables";
    database('SQLite', 'sqlite3', "$tables");
}
SKIP: {
    skip 'httpd has no mod_dbd, or PostgreSQL is missing (Debian: postgresql libaprutil1-dbd-pgsql)', 1 if !$database || !RLP::Postgres::programs();
    my $postgres = RLP::Postgres->new;
    my ($grant) = RLP::Httpd::slurp("$examples/api-keys-postgresql.conf") =~ /^#\s+(GRANT .*);$/m;
    $postgres->sql('CREATE DATABASE shop; CREATE USER www');
    $postgres->sql("\\c shop\n$table; $rows $grant");
    my ($parameters) = RLP::Httpd::slurp("$examples/api-keys-postgresql.conf") =~ /^DBDParams "(.*)"$/m;
    $parameters =~ s{host=/run/postgresql}{'host=' . $postgres->dir}e;
    database('PostgreSQL', 'pgsql', $parameters);
    $postgres->stop;
    is(statuses(1, '/api/x', 'X-API-Key: key-pro'), '200 x 1', 'PostgreSQL is away: what it said last counts');
    is(statuses(1, '/api/x', 'X-API-Key: key-new', from('192.0.2.3')), '401 x 1', 'PostgreSQL is away: and a new key is unknown');
    finish();
}

# --- quotas, places, waiting and costs

serve('api-quotas', { 'api-keys.txt' => "key-team team\nkey-business business\n" }, <<'END');
ProxyPass "/api/" "@BACKEND@/"
END
like(ask('/api/x', 'X-API-Key: key-business')->{fields}{'ratelimit-policy'}, qr/"business";q=200;w=4.*"business-month";q=1000000/, 'quotas: business is told of its rate and its month');
is(statuses(3, '/api/health'), '200 x 3', 'quotas: health is free');
my $before = ask('/api/x')->{head};
like($before, qr/"trial";r=499/, 'quotas: a trial has 500 units, once and for all');
like(ask('/api/search')->{head}, qr/"trial";r=494/, 'quotas: a search costs five of them');
$backend->hold;
my @waiting = hold(1, '/api/x', from('192.0.2.9'));
is(ask('/api/x', from('192.0.2.9'))->{status}, 429, 'quotas: a trial has one request in flight');
is(release(@waiting), 200, 'quotas: the first is answered');
$backend->hold;
my $most = $RLP::Httpd::mpm eq 'prefork' ? 12 : 20; # of its workers
@waiting = hold($most, '/api/x', from('192.0.2.13'), 'X-API-Key: key-business');
is(release(@waiting), join(' ', (200) x $most), 'quotas: a business has twenty in flight, and none of them is a guess');
is(statuses(27, '/api/status/401', from('192.0.2.10'), 'X-API-Key: guess'), '401 x 25, 429 x 2', 'quotas: 25 wrong keys, then no more');
is(ask('/api/x', from('192.0.2.10'), 'X-API-Key: key-team')->{status}, 429, 'quotas: not even a right one from there');
is(ask('/api/x', from('192.0.2.11'), 'X-API-Key: key-team')->{status}, 200, 'quotas: which is good elsewhere');
my ($left) = ask('/api/x', from('192.0.2.12'))->{head} =~ /"trial";r=(\d+)/;
is(ask('/api/status/500', from('192.0.2.12'))->{status}, 500, 'quotas: an error of ours ...');
like(ask('/api/x', from('192.0.2.12'))->{head}, qr/"trial";r=@{[$left - 1]}/, 'quotas: ... is not charged');
SKIP: {
    skip 'httpd has no mod_ratelimit', 1 if !$bandwidth;
    is(statuses(6, '/api/export', 'X-API-Key: key-business'), '200 x 5, 429 x 1', 'quotas: five exports in ten minutes');
}

# --- a reverse proxy

serve('reverse-proxy', {});
my @app = (host('app.example'), from('192.0.2.1'));
is(statuses(70, '/page', @app), '200 x 60, 429 x 10', 'proxy: sixty at once');
is($backend->total, 60, 'H-04 proxy: the application has heard of these alone');
is(statuses(1, '/page', host('app.example'), from('192.0.2.2')), '200 x 1', 'proxy: another address is another client');
is(statuses(5, '/health', @app), '200 x 5', 'proxy: health checks pass');
later(3600);
is(statuses(7, 'POST /login', @app), '200 x 5, 429 x 2', 'proxy: five logins');
is(statuses(7, '/login', @app), '200 x 7', 'proxy: to look at the form is none');
is(statuses(1, 'POST //login/', @app), '429 x 1', 'proxy: however it is spelled');

# --- from mod_evasive

serve('from-mod_evasive', {}, $script . qq{AliasMatch "^/page" "\@DIR\@/htdocs/index.html"\n});
is(statuses(7, '/page', from('198.51.100.1')), '200 x 5, 429 x 2', 'mod_evasive: DOSPageCount');
is(statuses(2, '//page?again', from('198.51.100.1')), '429 x 2', 'mod_evasive: DOSPageCount, however it is spelled');
is(join(', ', map { statuses(1, "/page$_", from('198.51.100.1')) } 1 .. 47), join(', ', ('200 x 1') x 45, ('429 x 1') x 2), 'mod_evasive: DOSSiteCount');
is(statuses(1, '/page', from('198.51.100.2')), '200 x 1', 'mod_evasive: another client');
is(statuses(20, '/logo.png', from('198.51.100.1')), '200 x 20', 'mod_evasive: pictures');
is(statuses(7, '/index.html/logo.png', from('198.51.100.4')), '200 x 5, 429 x 2', 'mod_evasive: what ends as a picture is a page, if a page answers');
is(join(', ', map { statuses(1, "/missing-$_.png", from('198.51.100.4')) } 1 .. 46), join(', ', ('200 x 1') x 45, '429 x 1'),
    'mod_evasive: and counts for DOSSiteCount');
is(statuses(60, '/page', from('192.0.2.200')), '200 x 60', 'mod_evasive: DOSWhitelist');
later(1);
is(statuses(7, '/page', from('198.51.100.2')), '200 x 5, 429 x 2', 'mod_evasive: DOSPageInterval');
is(statuses(7, '/page', from('198.51.100.1')), '200 x 5, 429 x 2', 'mod_evasive: DOSBlockingPeriod: as slowly as the limit says');
for my $second (1 .. 12) {
    later(1);
    is(join(', ', map { statuses(10, "/page$_", from('198.51.100.3')) =~ s/200 x 5, 429 x 5/half/r } 1 .. 8), join(', ', ('half') x 8),
        "mod_evasive: DOSSiteCount: 40 pages a second are not too many, in second $second");
}
like($server->log_text, qr/RLP001: rule \S+, plan \S+ refuses ip\S*:198[.]51[.]100[.]1/, 'mod_evasive: DOSSystemCommand: fail2ban has its line');

# --- from mod_qos

serve('from-mod_qos', {}, qq{AliasMatch "^/(?!proxied|app|report|feed|missing|download)" "\@DIR\@/htdocs/index.html"\n}
    . join '', map { qq{ProxyPass "/$_" "\@BACKEND\@/$_"\n} } qw(proxied app report feed download));
my @qos = (from('198.51.100.1'));
$backend->hold;
@waiting = hold(10, '/proxied', @qos);
my $busy = ask('/proxied', @qos);
is("$busy->{status} $busy->{body}", "503 Come back a little later.\n", 'mod_qos: QS_ClientEventRequestLimit, QS_ErrorResponseCode, QS_ErrorPage');
is(ask('/', from('198.51.100.2'))->{status}, 200, 'mod_qos: another client');
is(release(@waiting), join(' ', (200) x 10), 'mod_qos: they end');
is(statuses(22, '/missing', @qos), '404 x 20, 503 x 2', 'mod_qos: QS_ClientEventBlockCount');
later(3600);
is(statuses(30, '/', @qos), '200 x 30', 'mod_qos: what is found does not count');
is(statuses(31, 'POST /', @qos), '200 x 30, 503 x 1', 'mod_qos: QS_ClientEventLimitCount');
later(60);
is(statuses(1, 'POST /', @qos), '200 x 1', 'mod_qos: QS_ClientEventLimitCount: the next minute');
$backend->hold;
my @robots = hold(3, '/feed/a', 'User-Agent: Some-Bot/1', from('198.51.100.3'));
is(ask('/feed/b', 'User-Agent: a Crawler', from('198.51.100.4'))->{status}, 503, 'mod_qos: QS_CondLocRequestLimitMatch');
push @robots, hold(1, '/feed/c', 'User-Agent: a reader', from('198.51.100.4'));
is(release(@robots), '200 200 200 200', 'mod_qos: QS_CondLocRequestLimitMatch: others pass');
$backend->hold;
my @reports = hold(1, '/report', @qos);
my $second = $server->connection;
$second->send(text('GET', '/report', @qos));
select undef, undef, undef, 0.2;
is($backend->open . ($second->ready(0, time() + 0.01) ? ' and an answer' : ''), 1, 'mod_qos: QS_ClientSerialize: the second waits');
is(release(@reports, $second), '200 200', 'mod_qos: QS_ClientSerialize: for its turn');
is($backend->most >= 1 ? ask('/app', @qos)->{status} : 0, 200, 'mod_qos: QS_LocRequestLimit');
is(statuses(5, '/search', @qos), '200 x 5', 'mod_qos: QS_LocRequestPerSecLimit');
my $began = time;
is(ask('/search', from('198.51.100.9'))->{status}, 200, 'mod_qos: QS_LocRequestPerSecLimit: the sixth waits');
cmp_ok(time() - $began, '>=', 0.15, 'mod_qos: QS_LocRequestPerSecLimit: for a fifth of a second');
is(statuses(40, 'POST /', from('192.0.2.1')), '200 x 40', 'mod_qos: QS_VipIPHeaderName');
SKIP: {
    skip 'httpd has no mod_ratelimit', 1 if !$bandwidth;
    is(ask('/download', @qos)->{status}, 200, 'mod_qos: QS_LocKBytesPerSecLimit');
}

# --- the login

serve('login-protection', { admins => 'ann:$2y$08$xvT0dIPDF2bAYL2EUl0fCOYaOtFAhxHS0rGrab9XLkLbtlOGCvn2S' . "\n" },
    qq{LogLevel auth_basic:info\nProxyPass "/admin/held" "\@BACKEND\@/held"\nProxyPass "/login" "\@BACKEND\@/"\nAliasMatch "^/admin/(?!held)" "\@DIR\@/htdocs/index.html"\n}
    . <<'END');
ProxyPass "/form" "@BACKEND@/"
<LocationMatch "^/form">
    RateLimitEngine On
</LocationMatch>
<Location "/form/again">
    RateLimitRule again rate=2/hour key=ip plan=none "count=response:%{REQUEST_STATUS} -lt 300"
</Location>
<Location "/form/told">
    RateLimitRule told rate=2/hour key=ip plan=none "count=response:%{resp:X-Login} == 'failed'"
</Location>
<Location "/form/told/wrong">
    Header set X-Login failed
</Location>
END
my @intranet = host('intranet.example');
my @guesser = (@intranet, from('192.0.2.66'));
my @ann = (basic('ann', 'right'), @intranet);

# Passwords that were compared, by what mod_auth_basic says of the wrong ones.
sub compared { return scalar(() = $server->log_text =~ /AH0161[78]/g) }

# Processor time of all children, in ticks.
sub ticks {
    my $sum = 0;
    for my $pid ($server->children) {
        my ($user, $system) = (split ' ', RLP::Httpd::slurp("/proc/$pid/stat") =~ s/^.*\) //sr)[ 11, 12 ];
        $sum += $user + $system;
    }
    return $sum;
}

is(ask('/admin/', @ann, from('192.0.2.1'))->{status}, 200, 'login: ann has the right password');
is(statuses(60, '/admin/', @ann, from('192.0.2.1')), '200 x 60', 'login: sixty times, and none of them counts');
is(statuses(60, '/admin/', @guesser), '401 x 60', 'login: without a password nobody has guessed');
my $at = ticks();
is(join(', ', map { statuses(1, '/admin/', basic('ann', "guess-$_"), @guesser) } 1 .. 40), join(', ', ('401 x 1') x 40), 'login: forty guesses are answered');
is(compared(), 40, 'login: and compared');
my $guessing = ticks() - $at;
$at = ticks();
is(join(', ', map { statuses(1, '/admin/', basic('ann', "guess-$_"), @guesser) } 41 .. 80), join(', ', ('429 x 1') x 40), 'login: forty more are refused');
is(compared(), 40, 'login: and no password is compared for them');
cmp_ok(ticks() - $at, '<', $guessing / 4 + 1, 'login: which takes little of the processor');
is(statuses(1, '/admin/', basic('bob', 'x'), @guesser), '429 x 1', 'login: another name makes nobody another');
is(statuses(1, '/admin/', basic('ann', 'right'), @guesser), '429 x 1', 'login: nor does a lucky guess help now');
is(statuses(60, '/admin/', @ann, from('192.0.2.1')), '200 x 60', 'login: ann, elsewhere, notices nothing');
is(ask('/admin/', @guesser, basic('ann', 'x'))->{fields}{'retry-after'}, 360, 'login: the next guess is due in six minutes');
later(360);
is(join(' ', map { ask('/admin/', @guesser, basic('ann', "late-$_"))->{status} } 1 .. 2), '401 429', 'login: and is one');
$backend->hold;
my $many = $RLP::Httpd::mpm eq 'prefork' ? 12 : 24; # of its workers
my @busy = hold($many, '/admin/held', @ann, from('192.0.2.1'));
is(release(@busy), join(' ', (200) x $many), 'login: many at once with the right password, before the first is answered');
is(statuses(60, '/admin/', @ann, from('192.0.2.1')), '200 x 60', 'login: and none of them counts');
is(join(' ', map { ask('POST /login/status/403', @intranet, from('192.0.2.67'))->{status} } 1 .. 6), '403 403 403 403 403 429', 'login: a form has five tries');
is(statuses(20, 'POST /login/status/302', @intranet, from('192.0.2.68')), '302 x 20', 'login: those who get in are not counted');
is(statuses(5, 'POST /form/again/status/302', from('192.0.2.69')), '302 x 5', 'login: another form sends on those who get in ...');
is(statuses(3, 'POST /form/again', from('192.0.2.69')), '200 x 2, 429 x 1', '... and shows itself to others: they are counted');
is(statuses(5, 'POST /form/told/right', from('192.0.2.69')), '200 x 5', 'login: a third says nothing of those who get in ...');
is(statuses(3, 'POST /form/told/wrong', from('192.0.2.69')), '200 x 2, 429 x 1', '... and of others in a field: they are counted');
is(statuses(50, '/admin/', basic('ann', 'x'), @intranet, from('198.51.100.7')), '401 x 50', 'login: RateLimitExempt');
is(ask('/admin/', @ann, from('192.0.2.1'))->{fields}{ratelimit}, undef, 'login: nobody is told what is left');

finish();
my @examples = map { basename($_, '.conf') } glob "\Q$examples\E/*.conf";
is(join(' ', grep { !$exercised{$_} } sort @examples), '', 'V-16 each example has been exercised');

done_testing;
