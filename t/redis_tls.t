#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Redis by TLS, where hiredis was built with it: who may be the server, who may be the client, and faults.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use RLP::Httpd;
use RLP::Redis;

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

# For a name, signed by an authority.
sub certificate {
    my ($name, $by, $for) = @_;
    RLP::Httpd::spill("$dir/$name.ext", "subjectAltName=$for\n");
    openssl("req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$name -keyout $dir/$name.key -out $dir/$name.csr");
    openssl("x509 -req -in $dir/$name.csr -CA $dir/$by.pem -CAkey $dir/$by.key -CAcreateserial -days 2 -extfile $dir/$name.ext -out $dir/$name.pem");
    return;
}

authority('ours');
authority('theirs');
certificate('server', 'ours', 'DNS:redis.example,IP:127.0.0.1');
certificate('client', 'ours', 'DNS:httpd.example');
certificate('stranger', 'theirs', 'DNS:httpd.example');

my $tls_port = RLP::Httpd::free_port();
my $redis = eval {
    RLP::Redis->alone('--tls-port', $tls_port, '--tls-cert-file', "$dir/server.pem", '--tls-key-file', "$dir/server.key", '--tls-ca-cert-file',
        "$dir/ours.pem", '--tls-auth-clients', 'optional');
} or plan skip_all => 'redis-server was built without TLS';

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
fails('no certificate', "tls-ca=$dir/ours.pem", '');
fails('a certificate by another authority', "tls-ca=$dir/ours.pem tls-cert=$dir/stranger.pem tls-key=$dir/stranger.key", '');
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

subtest 'a peer without TLS' => sub {
    my $server = server("tls-ca=$dir/ours.pem", '', '500ms');
    $server->configure(RLP::Httpd::slurp($server->config_file) =~ s/:$tls_port/:@{[ $redis->port ]}/r)->start;
    is($server->statuses(3, '/index.html'), '503 503 503', 'is not spoken to in the open');
    ok($server->stop, 'it stops as ever');
};

# --- configuration

my @refused = (
    ["tls-ca=$dir/none.pem", qr/expected a file of certificates in tls-ca=, got "/],
    ["tls-cert=$dir/none.pem", qr/expected a certificate in tls-cert=, got "/],
    ["tls-key=$dir/client.key", qr/expected tls-cert=FILE with tls-key=/],
    ["tls-cert=$dir/client.pem tls-key=$dir/server.key", qr/expected the key of tls-cert=, got "/],
    ['tls-name=', qr/expected a host name after tls-name=/],
);
for my $case (@refused) {
    my ($options, $expected) = @$case;
    my ($code, $message) = server($options)->configtest;
    isnt($code, 0, "refused: $options");
    like($message, qr/line 1 of .*$expected/s, 'and says why');
}

done_testing;
