#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# TLS: the certificate of a client as its identity, as long as mod_ssl has verified it; and what is sent over it.

use strict;
use warnings;

use Test::More;

use RLP::Httpd;

my $missing = RLP::Httpd::missing() || (RLP::Httpd::has_module('ssl') ? '' : 'mod_ssl is missing');
$missing ||= 'openssl is missing' if !qx(openssl version 2>/dev/null);
plan skip_all => $missing if $missing;

my $server = RLP::Httpd->new(modules => [qw(ssl headers)]);
my $dir = $server->dir;
my ($strict, $lax) = map { RLP::Httpd::free_port() } 1 .. 2;

sub openssl {
    my (@words) = @_;
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDERR, '>', '/dev/null' or POSIX::_exit(126);
        exec 'openssl', @words or POSIX::_exit(127);
    }
    waitpid $pid, 0;
    return $? == 0 || die "openssl @words failed\n";
}

# NAME.pem and NAME.key: signed by the authority given, or by itself.
sub certificate {
    my ($name, $subject, @authority) = @_;
    my @sign = @authority ? ('-CA', "$dir/$authority[0].pem", '-CAkey', "$dir/$authority[0].key") : ();
    return openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', 2, '-subj', $subject, '-keyout', "$dir/$name.key",
        '-out', "$dir/$name.pem", @sign);
}

# What is answered to requests for these paths that are sent at once.
sub said {
    my ($port, $name, @paths) = @_;
    my $last = pop @paths;
    my $request = $server->file('request', join '', (map { "GET $_ HTTP/1.1\r\nHost: localhost\r\n\r\n" } @paths),
        "GET $last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    my $with = $name ? "-cert '$dir/$name.pem' -key '$dir/$name.key'" : '';
    return scalar qx(openssl s_client -quiet -connect 127.0.0.1:$port $with <'$request' 2>/dev/null);
}

# What a request with this certificate is counted for.
sub identity {
    my ($port, $name) = @_;
    my $said = said($port, $name, '/');
    my ($identity) = $said =~ /^X-Was-Identity: (\S+)/m;
    return $identity // "nothing: $said";
}

my $long = join '', map { '/OU=' . $_ x 60 } qw(x y);
certificate('authority', '/CN=authority');
certificate('server', '/CN=localhost');
certificate(@$_, 'authority') for ['ann', '/O=Some, Co/CN=ann'], ['bob', '/CN=bob'], ['long', "$long/CN=long"];
certificate('forged', '/CN=bob');

my $host = <<'END';
Listen 127.0.0.1:%s
<VirtualHost *:%s>
    SSLEngine On
    SSLCertificateFile "@DIR@/server.pem"
    SSLCertificateKeyFile "@DIR@/server.key"
    SSLCACertificateFile "@DIR@/authority.pem"
    SSLVerifyClient %s
</VirtualHost>
END
$server->configure("RateLimitEngine On\nRateLimitEnv always\nRateLimitIdentity cert ip\nRateLimitRule all rate=1000/s\n"
    . "Header always set X-Was-Identity %{RATELIMIT_IDENTITY}e\n"
    . qq{<Location "/place">\nRateLimitRule place concurrent=1\n</Location>\n}
    . qq{<Location "/turn">\nRateLimitRule turn rate=1/100ms burst=1 action=delay\n</Location>\nRateLimitDelay max=10s\n}
    . sprintf($host, $strict, $strict, 'optional') . sprintf $host, $lax, $lax, 'optional_no_ca');
$server->start;

is(identity($strict, 'ann'), 'cert:CN%3Dann%2CO%3DSome%5C%2C%20Co', 'a certificate is its subject, escaped');
is(identity($strict, 'bob'), 'cert:CN%3Dbob', 'another one is another');
like(identity($strict, 'long'), qr/^cert:#[0-9a-f]{32}$/, 'I-14 a long subject is a digest');
is(identity($strict, ''), 'ip:127.0.0.1', 'I-08 no certificate is no identity');
is(identity($lax, 'bob'), 'cert:CN%3Dbob', 'one that is verified where none need be');
is(identity($lax, 'forged'), 'ip:127.0.0.1', 'one that anybody could have made is no identity');

# the answers before a request that lacks something are sent first; the connection is one of TLS all the same
for my $case ([ 'for the place of the one before', '/place', 404 ], [ 'for their turns', '/turn', 404 ], [ 'for nothing', '/index.html', 200 ]) {
    my ($what, $path, $status) = @{$case};
    my @answered = said($strict, '', ($path) x 4) =~ m{^HTTP/1[.]1 (\d+)}mg;
    is("@answered", join(' ', ($status) x 4), "pipelined requests over TLS that wait $what are answered, all of them");
}
$server->stop;

done_testing;
