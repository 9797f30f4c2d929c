#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Redis by TLS, where hiredis was built with it: who may be the server, who may be the client, and faults.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use RLP::Httpd;
use RLP::Redis;
use RLP::RedisSet;
use RLP::Rlpctl qw(refused rlpctl);

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();
my (undef, $said) = RLP::Httpd->new(config => "RateLimitStore x redis url=rediss://localhost\n")->configtest;
plan skip_all => 'hiredis was built without TLS' if $said =~ /no TLS/;
my ($openssl) = grep { -x } map { "$_/openssl" } split(/:/, $ENV{PATH}), '/usr/bin';
plan skip_all => 'openssl is missing' if !$openssl;

my $dir = File::Temp->newdir('rlp-tls-XXXXXX', TMPDIR => 1);

# --- certificates

sub openssl {
    my (@words) = @_;
    my $out = "$dir/openssl.log";
    system("'$openssl' @words >'$out' 2>&1") == 0 or die "openssl @words: " . RLP::Httpd::slurp($out);
    return;
}

sub authority {
    my ($name) = @_;
    openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=$name -keyout $dir/$name.key -out $dir/$name.pem");
    return;
}

# For a name, signed by an authority; for two days, if nothing else is given.
sub certificate {
    my ($name, $by, $for, $time) = @_;
    RLP::Httpd::spill("$dir/$name.ext", "subjectAltName=$for\n");
    openssl("req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$name -keyout $dir/$name.key -out $dir/$name.csr");
    openssl("x509 -req -in $dir/$name.csr -CA $dir/$by.pem -CAkey $dir/$by.key -CAcreateserial @{[ $time || '-days 2' ]} -extfile $dir/$name.ext -out $dir/$name.pem");
    return;
}

authority('ours');
authority('theirs');
certificate('server', 'ours', 'DNS:redis.example,IP:127.0.0.1');
certificate('seed', 'ours', 'DNS:localhost');
certificate('client', 'ours', 'DNS:httpd.example');
certificate('stranger', 'theirs', 'DNS:httpd.example');
my @expired = ('expired', 'ours', 'DNS:redis.example,IP:127.0.0.1');
eval { certificate(@expired, '-not_before 20200101000000Z -not_after 20200201000000Z'); 1 } or certificate(@expired, '-days -1'); # OpenSSL before 3.4

# The options of a server that has both, with a port for TLS of its own.
sub tls_options {
    my ($port) = @_;
    return ('--tls-port', $port // RLP::Httpd::free_port(), '--tls-cert-file', "$dir/server.pem", '--tls-key-file', "$dir/server.key",
        '--tls-ca-cert-file', "$dir/ours.pem", '--tls-auth-clients', 'optional');
}

my $tls_port = RLP::Httpd::free_port();
my $redis = eval { RLP::Redis->alone(tls_options($tls_port)) } or plan skip_all => 'redis-server was built without TLS';

sub server {
    my ($options, $host, $timeout) = @_;
    my $url = 'rediss://' . ($host || '127.0.0.1') . ":$tls_port/0";
    return RLP::Httpd->new(config => <<"CONF");
RateLimitStore shared redis url=$url failure=closed timeout=@{[ $timeout || '5s' ]} connect=5s recovery=200ms $options
RateLimitEngine On
RateLimitIdentity ip
RateLimitRule site rate=10/hour
CONF
}

sub works {
    my ($what, $options, $host) = @_;
    $redis->ask('FLUSHALL');
    my $server = server($options, $host)->start;
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), "$what: is served") or diag $server->log_text;
    is(scalar(my @keys = $redis->keys_like), 1, 'and counted');
    ok($server->stop, 'it stops as ever');
    return;
}

sub fails {
    my ($what, $options, $why, $host) = @_;
    my $server = server($options, $host)->start;
    is($server->statuses(3, '/index.html'), '503 503 503', "$what: is not served");
    like($server->log_text, qr/RLP030: .*$why/, 'and the log says why');
    ok($server->stop, 'it stops as ever');
    return;
}

works('by address', "tls-ca=$dir/ours.pem");
works('by name', "tls-ca=$dir/ours.pem tls-name=redis.example");
fails('another name', "tls-ca=$dir/ours.pem tls-name=other.example", 'TLS: .*mismatch');
fails('another authority', "tls-ca=$dir/theirs.pem", 'TLS: ');
fails('the authorities of the system', '', 'TLS: ');

$redis->ask('CONFIG', 'SET', 'tls-auth-clients', 'yes');
fails('no certificate', "tls-ca=$dir/ours.pem", 'TLS: .*alert');
fails('a certificate by another authority', "tls-ca=$dir/ours.pem tls-cert=$dir/stranger.pem tls-key=$dir/stranger.key", 'TLS: .*alert');
works('a certificate', "tls-ca=$dir/ours.pem tls-cert=$dir/client.pem tls-key=$dir/client.key");

subtest 'faults' => sub {
    my $server = server("tls-ca=$dir/ours.pem tls-cert=$dir/client.pem tls-key=$dir/client.key", '', '500ms')->start;
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'it is there');
    $redis->suspend;
    is($server->statuses(6, '/index.html'), join(' ', (503) x 6), 'it hangs');
    $redis->resume;
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'it goes on');
    $redis->kill9;
    is($server->statuses(6, '/index.html'), join(' ', (503) x 6), 'it is killed');
    $redis->start;
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'it comes back');
    unlike($server->log_text, qr/exit signal/, 'no child dies');
    ok($server->stop, 'it stops as ever');
};

# The server shows this one from now on, on new connections.
sub shows {
    my ($name) = @_;
    is($redis->ask('CONFIG', 'SET', 'tls-cert-file', "$dir/$name.pem", 'tls-key-file', "$dir/$name.key"), 'OK', "the server takes its certificate: $name");
    $redis->ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    return;
}

my ($major) = $redis->ask('INFO', 'server') =~ /^redis_version:(\d+)/m;

subtest 'a certificate that expires' => sub {
    plan skip_all => 'Redis before 7 cannot change both files at once' if $major < 7;
    my $server = server("tls-ca=$dir/ours.pem tls-cert=$dir/client.pem tls-key=$dir/client.key")->start;
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'it is good');
    shows('expired');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html'); $server->log_text =~ /RLP030: .*TLS: certificate has expired/ }), 'the log says it');
    is($server->get('/index.html')->{status}, 503, 'nobody is served');
    shows('server');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'renewed, it is taken by itself');
    ok($server->stop, 'it stops as ever');
};

subtest 'files of ours are read when the configuration is' => sub {
    my $put = sub { RLP::Httpd::spill("$dir/ca.pem", RLP::Httpd::slurp("$dir/$_[0].pem")) };
    $put->('theirs');
    my $server = server("tls-ca=$dir/ca.pem tls-cert=$dir/client.pem tls-key=$dir/client.key")->start;
    is($server->statuses(3, '/index.html'), '503 503 503', 'the wrong authority');
    $put->('ours');
    ok($server->graceful, 'a graceful restart');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'the right one');
    unlink "$dir/ca.pem";
    $redis->ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'which is not looked for again');
    ok($server->stop, 'it stops as ever');
};

# Each leaves nothing behind.
subtest 'a hundred connections' => sub {
    my $server = server("tls-ca=$dir/ours.pem tls-cert=$dir/client.pem tls-key=$dir/client.key failure-threshold=1000");
    $server->configure(RLP::Httpd::slurp($server->config_file) =~ s{rate=10/hour}{rate=100000/hour}r)->start;
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'it is there');
    my @children = $server->children;
    my $open = sub { return scalar map { glob "/proc/$_/fd/*" } @children };
    my $before = $open->();
    my ($opened) = $redis->ask('INFO', 'stats') =~ /^total_connections_received:(\d+)/m;
    my $more = sub { $redis->ask('INFO', 'stats') =~ /^total_connections_received:(\d+)/m ? $1 - $opened : 0 };
    for (1 .. 100) {
        $redis->ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
        $server->statuses(4, '/index.html');
    }
    cmp_ok($more->(), '>=', 100, 'one after the other');
    cmp_ok($open->(), '<=', $before + 2 * @children, 'no descriptor stays open');
    is(join(' ', sort @children), join(' ', sort $server->children), 'no child dies');
    ok($server->stop, 'it stops as ever');
};

subtest 'a peer without TLS' => sub {
    my $server = server("tls-ca=$dir/ours.pem", '', '500ms');
    $server->configure(RLP::Httpd::slurp($server->config_file) =~ s/:$tls_port/:@{[ $redis->port ]}/r)->start;
    is($server->statuses(3, '/index.html'), '503 503 503', 'is not spoken to in the open');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html'); $server->log_text =~ /RLP030: .*TLS: no answer/ }), 'and the log says why');
    ok($server->stop, 'it stops as ever');
};

# --- several servers

# By clients that nobody else is, until all are counted: the statuses that there were.
sub clients {
    my ($url, $options) = @_;
    my $server = RLP::Httpd->new(modules => ['setenvif'], config => <<"CONF")->start;
RateLimitStore shared redis url=$url failure=closed timeout=5s connect=5s recovery=200ms $options
RateLimitEngine On
SetEnvIf X-Client (.+) CLIENT=\$1
RateLimitIdentity client=env:CLIENT ip
RateLimitRule site rate=10/hour
CONF
    RLP::Httpd::wait_for(sub { $server->get('/index.html', 'X-Client: first')->{status} == 200 }) if $options !~ /wrong/;
    my %seen;
    $seen{ $server->get('/index.html', "X-Client: $_")->{status} }++ for 1 .. 30;
    my $log = $server->log_text;
    ok($server->stop, 'it stops as ever');
    return (join(' ', sort keys %seen), $log);
}

sub tls_port_of { return $_[0]->ask('CONFIG', 'GET', 'tls-port')->[1] }

subtest 'a Cluster' => sub {
    my $cluster = RLP::RedisSet->cluster(\&tls_options);
    my @masters = ($cluster->servers)[0 .. 2];
    my $port = tls_port_of($masters[0]);
    is((clients("rediss-cluster://127.0.0.1:$port", "tls-ca=$dir/ours.pem"))[0], '200', 'all are served');
    cmp_ok(scalar(my @keys = $_->keys_like), '>', 0, 'a master has some of the counters') for @masters;
    is((clients("rediss-cluster://127.0.0.1:$port", "tls-ca=$dir/ours.pem tls-name=redis.example"))[0], '200', 'one name for all');
    my ($status, $log) = clients("rediss-cluster://127.0.0.1:$port", "tls-ca=$dir/ours.pem tls-name=wrong.example");
    is($status, '503', 'another name for all');
    like($log, qr/RLP030: .*TLS: .*mismatch/, 'and the log says why');

    ($status, my ($out, $err)) = rlpctl('', 'dump', "--store=rediss-cluster://127.0.0.1:$port", "--tls-ca=$dir/ours.pem");
    is("$status $err", '0 ', 'rlpctl dumps it');
    is(($out =~ /"counters":(\d+)/)[0], scalar(map { $_->keys_like } @masters), 'all of it');

    # what the one in the URL may be called is not what its fellows are
    $masters[0]->ask('CONFIG', 'SET', 'tls-cert-file', "$dir/seed.pem", 'tls-key-file', "$dir/seed.key");
    ($status, $log) = clients("rediss-cluster://localhost:$port", "tls-ca=$dir/ours.pem");
    like($status, qr/200.* 503/, 'each server must have a certificate for its own name or address');
    like($log, qr/RLP030: .*127\.0\.0\.1:$port.*TLS: .*mismatch/, 'the log says which has none');
    for my $server ($cluster->servers) {
        $server->ask('CONFIG', 'SET', 'tls-cert-file', "$dir/seed.pem", 'tls-key-file', "$dir/seed.key");
        $server->ask('CONFIG', 'SET', 'cluster-announce-hostname', 'localhost', 'cluster-preferred-endpoint-type', 'hostname');
    }
    $masters[0]->await(qr/(?:,localhost\b.*){6}/s, 'CLUSTER', 'NODES');
    is((clients("rediss-cluster://localhost:$port", "tls-ca=$dir/ours.pem"))[0], '200', 'which may be the one that it announces');
};

subtest 'a Sentinel' => sub {
    my ($port, $watch) = (RLP::Httpd::free_port(), RLP::Httpd::free_port());
    my $master = RLP::Redis->alone(tls_options($port));
    my $sentinel = RLP::Redis->new(file => "sentinel monitor main 127.0.0.1 $port 1\n",
        options => ['--sentinel', tls_options($watch), '--tls-replication', 'yes'])->start;
    $sentinel->await(qr/status=ok/, 'INFO', 'sentinel');
    my ($status, $log) = clients("rediss-sentinel://127.0.0.1:$watch/main", "tls-ca=$dir/ours.pem");
    is($status, '200', 'all are served') or diag $log;
    is(scalar(my @keys = $master->keys_like), 31, 'and counted');
    is((clients("rediss-sentinel://127.0.0.1:$watch/main", "tls-ca=$dir/theirs.pem tls-name=wrong"))[0], '503', 'a Sentinel by another authority');
    is((clients('rediss-sentinel://127.0.0.1:' . $sentinel->port . '/main', "tls-ca=$dir/ours.pem tls-name=wrong"))[0],
        '503', 'none is spoken to in the open');
};

subtest 'rlpctl' => sub {
    my @store = ("--store=rediss://127.0.0.1:$tls_port", "--tls-ca=$dir/ours.pem", "--tls-cert=$dir/client.pem", "--tls-key=$dir/client.key");
    my ($status, $out, $err) = rlpctl("0\n", 'try', @store, 'rate=1/s');
    is("$status $err", '0 ', 'try');
    like($out, qr/\b0\b.*allow/, 'answers');
    ($status, $out, $err) = rlpctl('', 'ban', @store, 'ip:192.0.2.1', '1h');
    is("$status $err", '0 ', 'ban');
    ($status, $out, $err) = rlpctl('', 'overrides', @store, '--tls-name=redis.example');
    like("$status $err$out", qr/\A0 .*ip:192\.0\.2\.1/s, 'overrides');
    ($status, $out, $err) = rlpctl('', 'get', @store, 'ip:192.0.2.9', 'site');
    is("$status $err", "1 rlpctl: nothing is counted under rlp:{ip:192.0.2.9}:site\n", 'get');
    ($status, undef, $err) = rlpctl('', 'overrides', @store, '--tls-name=other.example');
    like("$status $err", qr/\A\d+ rlpctl: .*TLS: .*mismatch/, 'another name');
    refused('in the open', '', ['overrides', '--store=redis://127.0.0.1', $store[1]], 64, qr/expected --tls-\.\.\.= with --store=rediss:/);
    refused('no such file', '', ['overrides', $store[0], "--tls-ca=$dir/none.pem"], 64, qr/expected a file of certificates/);
};

# --- configuration

openssl("ec -in $dir/client.key -aes128 -passout pass:opensesame -out $dir/locked.key");
my @refused = (
    ["tls-ca=$dir/none.pem", qr/expected a file of certificates in tls-ca=, got "/],
    ["tls-cert=$dir/none.pem", qr/expected a certificate in tls-cert=, got "/],
    ["tls-key=$dir/client.key", qr/expected tls-cert=FILE with tls-key=/],
    ["tls-cert=$dir/client.pem tls-key=$dir/server.key", qr/expected the key of tls-cert= without a passphrase, got "/],
    ["tls-cert=$dir/client.pem tls-key=$dir/locked.key", qr/expected the key of tls-cert= without a passphrase, got "/],
    ['tls-name=', qr/expected a host name after tls-name=/],
);
for my $case (@refused) {
    my ($options, $expected) = @$case;
    my ($code, $message) = server($options)->configtest;
    isnt($code, 0, "refused: $options");
    like($message, qr/line 1 of .*$expected/s, 'and says why');
}

done_testing;
