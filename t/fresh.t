#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# A client gets no fresh bucket by saying the same in other words. Each rule here admits one request an hour: of two
# that differ in spelling alone the second is refused, whichever comes first.

use strict;
use warnings;

use IO::Socket::IP;
use MIME::Base64 qw(encode_base64);
use Test::More;

use RLP::Http2;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
my @modules = qw(alias auth_basic authn_core authn_anon authz_user dir headers include mime negotiation remoteip rewrite setenvif);
my @absent = grep { !RLP::Httpd::has_module($_) } @modules;
plan skip_all => "httpd has no @absent" if @absent;
plan skip_all => 'the clock of the tests is missing (TESTCLOCK_SO)' if !RLP::Httpd::has_clock();

my $with_http2 = $RLP::Httpd::mpm ne 'prefork' && RLP::Httpd::has_module('http2');
my $server = RLP::Httpd->new(modules => [ @modules, $with_http2 ? 'http2' : () ], clock => 1);
my ($second, $double) = map { RLP::Httpd::free_port() } 1 .. 2; # another port; one for IPv6 and IPv4 alike

# A request as it is written; the lines that follow the first.
sub text {
    my ($first, @fields) = @_;
    return join("\r\n", $first, @fields) . "\r\n\r\n";
}

sub get {
    my ($path, @fields) = @_;
    return text("GET $path HTTP/1.1", 'Host: shop.test', @fields);
}

# The status of the answer to a text, on a connection of its own; a port of 127.0.0.1 or "[ADDRESS]:PORT" may be given.
sub status {
    my ($what) = @_;
    return $what->() if ref $what eq 'CODE';
    my ($text, $peer) = ref $what ? @{$what} : ($what, $server->port);
    my $socket = IO::Socket::IP->new(PeerAddr => $peer =~ /:/ ? $peer : "127.0.0.1:$peer", Timeout => 10) or die "$peer: $@\n";
    $socket->blocking(0);
    my $connection = bless { socket => $socket, in => '', eof => 0 }, 'RLP::Httpd::Connection';
    $connection->send($text);
    return $connection->response($text =~ /^HEAD/ ? 'HEAD' : 'GET')->{status};
}

my $hours = 0;

# Both ways round, each in an hour of its own. passed: statuses of those that pass, if they are not both 200.
sub same_bucket {
    my ($name, $plain, $other, @passed) = @_;
    my ($plain_passes, $other_passes) = @passed ? @passed : (200, 200);
    my @happened;
    for my $order ([ $plain, $other ], [ $other, $plain ]) {
        $server->set_clock(++$hours * 3600);
        push @happened, map { status($_) } @{$order};
    }
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is("@happened", "$plain_passes 429 $other_passes 429", $name);
}

# ... and two that are not the same to anybody.
sub own_bucket {
    my ($name, $one, $other) = @_;
    $server->set_clock(++$hours * 3600);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is(join(' ', map { status($_) } $one, $other, $one, $other), '200 200 429 429', $name);
}

mkdir "@{[$server->dir]}/htdocs/$_" or die "$_: $!\n" for qw(named paths redirects sub);
$server->file("htdocs/$_", "the item\n") for qw(item named/item paths/item sub/item redirects/item redirects/item.html);
$server->file('htdocs/sub/page.shtml', qq{<!--#include virtual="/sub/item" -->\n});
$server->file('keys', "known-key pro\n");
my $http2 = $with_http2 ? "Protocols h2c http/1.1\nH2Direct on\n" : '';
$server->configure(<<"END");
Listen 127.0.0.1:$second
Listen $double
$http2
TypesConfig /dev/null
AddType text/html .html .shtml
RateLimitPlan pro rate=1/hour
RateLimitPlanMap apikey "txt:\@DIR\@/keys"
<VirtualHost *:\@PORT\@ *:$second *:$double>
    ServerName shop.test
    ServerAlias www.shop.test
    RateLimitEngine On
    AliasMatch "(?i)^/(?:located|matched|globbed|below)/+item/?(?:;.*)?\$" "\@DIR\@/htdocs/paths/item"
    <Location "/located/item">
        RateLimitRule located rate=1/hour
    </Location>
    <LocationMatch "(?i)^/matched/item">
        RateLimitRule matched rate=1/hour
    </LocationMatch>
    RateLimitRule globbed rate=1/hour path=/globbed/item
    RateLimitRule below rate=1/hour path=/below/**
    RateLimitRule script rate=1/hour path=/script/**
    Alias "/script" "\@DIR\@/htdocs/item"
    <Location "/script">
        AcceptPathInfo On
    </Location>
    RateLimitRule written rate=1/hour path=/item method=POST
    RateLimitRule read rate=1/hour path=/index.html method=GET
    AliasMatch "(?i)^/named/+item/?\$" "\@DIR\@/htdocs/named/item"
    <Directory "\@DIR\@/htdocs/named">
        <Files "item">
            RateLimitRule named rate=1/hour
        </Files>
    </Directory>
    <Location "/vhost">
        RateLimitRule vhost rate=1/hour key=vhost+ip
    </Location>
    <Location "/key">
        RateLimitIdentity apikey=header:X-API-Key ip
        RateLimitRule key rate=1/hour
    </Location>
    <Location "/user">
        AuthType Basic
        AuthName "any name"
        AuthBasicProvider anon
        Anonymous *
        Anonymous_VerifyEmail off
        Require valid-user
        RateLimitRule user rate=1/hour key=user
    </Location>
    RemoteIPHeader X-Client
    RemoteIPInternalProxy 127.0.0.1 ::1
    <Location "/address">
        RateLimitRule address rate=1/hour key=ip
    </Location>
    AliasMatch "^/(?:vhost|key|user|address)\$" "\@DIR\@/htdocs/item"
    <Directory "\@DIR\@/htdocs/sub">
        Options +Includes
        AddOutputFilter INCLUDES .shtml
        RateLimitRule sub rate=1/hour
    </Directory>
    Alias "/indexed" "\@DIR\@/htdocs/redirects"
    Alias "/fallback" "\@DIR\@/htdocs/redirects"
    <Directory "\@DIR\@/htdocs/redirects">
        Options +MultiViews +FollowSymLinks
        DirectoryIndex item
        FallbackResource /redirects/item
        RewriteEngine On
        RewriteBase "/redirects/"
        RewriteRule "^by/rewrite\$" "item"
        <Files "item">
            RateLimitRule redirects rate=1/hour
        </Files>
        <Files "item.html">
            RateLimitRule negotiated rate=1/hour
        </Files>
    </Directory>
    RewriteEngine On
    RewriteRule "^/redirects/by/server\$" "/redirects/item" [PT]
    RewriteRule "^/redirects/by/file\$" "\@DIR\@/htdocs/redirects/item" [L]
</VirtualHost>
END
$server->start;

# --- the path

my @spellings = (
    # name, what stands for "/item"
    [ 'an encoded letter', '/%69tem' ],
    [ 'all letters encoded', '/%69%74%65%6D' ],
    [ 'hexadecimal digits in another case', '/ite%6d' ],
    [ '//', '//item' ],
    [ '/// at the end', '/item///' ],
    [ '/./', '/./item' ],
    [ 'an encoded /./', '/%2e/item' ],
    [ '/a/../', '/a/../item' ],
    [ 'an encoded /a/../', '/a/%2E%2e/item' ],
    [ '/../ above the place', '/x/y/../../item' ],
    [ 'a slash at the end', '/item/' ],
    [ 'a dot at the end', '/item/.' ],
    [ 'a query', '/item?fresh=1' ],
    [ 'an empty query', '/item?' ],
);
my %ways = (globbed => 'path=', located => '<Location>', named => '<Files>');
for my $where (sort keys %ways) {
    for my $spelling (@spellings) {
        my ($name, $path) = @{$spelling};
        same_bucket("$name, under $ways{$where}", get("/$where/item"), get("/$where$path"));
    }
}
same_bucket('a whole URL', get('/globbed/item'), get('http://shop.test/globbed/item'));
same_bucket('a whole URL with a port and letters in another case', get('/globbed/item'), get('HTTP://Shop.Test:8080/globbed//item'));
same_bucket('another case, under a path= that covers both', get('/below/item'), get('/below/ITEM'));
same_bucket('another case, under <LocationMatch "(?i)...">', get('/matched/item'), get('/Matched/iTEM'));
same_bucket('another case, under <Files> of what it leads to', get('/named/item'), get('/NAMED/Item'));
same_bucket('what follows the name of a script, under path=/script/**', get('/script'), get('/script/fresh'));
same_bucket('another path of the same rule', get('/below/item'), get('/below/item;fresh=1'));

# --- the version of HTTP, and the method

my $plain = get('/globbed/item');
same_bucket('HTTP/1.0', $plain, text('GET /globbed/item HTTP/1.0', 'Host: shop.test'));
same_bucket('HTTP/1.0 without Host', $plain, text('GET /globbed/item HTTP/1.0'));
same_bucket('an unknown minor version', $plain, text('GET /globbed/item HTTP/1.9', 'Host: shop.test'));
same_bucket('a kept connection', $plain, text('GET /globbed/item HTTP/1.1', 'Host: shop.test', 'Connection: keep-alive'));
SKIP: {
    skip 'httpd has no HTTP/2 here', 2 if !$with_http2;
    my $over_h2 = sub {
        my ($path) = @_;
        my $h2 = h2_begin($server);
        return h2_answers($h2, 10, h2_ask($h2, 'GET', $path));
    };
    same_bucket('HTTP/2', $plain, sub { $over_h2->('/globbed/item') });
    same_bucket('HTTP/2 and an encoded letter', $plain, sub { $over_h2->('/globbed/./%69tem') });
}
same_bucket('HEAD for GET', get('/index.html'), text('HEAD /index.html HTTP/1.1', 'Host: shop.test'));
same_bucket('HEAD for GET, under a rule without methods', $plain, text('HEAD /globbed/item HTTP/1.1', 'Host: shop.test'));
same_bucket('letters of the method in another case', text('POST /item HTTP/1.1', 'Host: shop.test', 'Content-Length: 0'),
    text('Post /item HTTP/1.1', 'Host: shop.test', 'Content-Length: 0'), 200, 501);

# --- the host

my $host = get('/vhost');
for my $other ('SHOP.test', 'shop.test.', 'shop.test:8080', 'www.shop.test', 'nobody.test', '127.0.0.1') {
    same_bucket("Host: $other", $host, text('GET /vhost HTTP/1.1', "Host: $other"));
}
same_bucket('a field name in another case', $host, text('GET /vhost HTTP/1.1', 'hOST: shop.test'));
same_bucket('another port of the same host', $host, [ $host, $second ]);

# --- a key, and a name

my $known = get('/key', 'X-API-Key: known-key');
same_bucket('a known key: its field name in another case', $known, get('/key', 'x-api-KEY: known-key'));
same_bucket('a known key: blanks around it', $known, get('/key', "X-API-Key:  \t known-key \t "));
same_bucket('a known key: other fields beside it', $known, get('/key', 'X-API-Keys: x', 'X-API-Key: known-key', 'Cookie: a=b'));
my $nobody = get('/key');
same_bucket('an unknown key is none', $nobody, get('/key', 'X-API-Key: invented'));
same_bucket('another unknown key is none either', get('/key', 'X-API-Key: invented-1'), get('/key', 'X-API-Key: invented-2'));
same_bucket('a known key in another case is unknown', $nobody, get('/key', 'X-API-Key: KNOWN-KEY'));
same_bucket('a known key twice is unknown', $nobody, get('/key', 'X-API-Key: known-key', 'X-API-Key: known-key'));
same_bucket('an empty key is none', $nobody, get('/key', 'X-API-Key: '));
own_bucket('a known key has its own', $nobody, $known);
my $ann = encode_base64('ann:one', '');
my $same = encode_base64('ann:two', '');
same_bucket('a user: another password, and the scheme in another case', get('/user', "Authorization: Basic $ann"),
    get('/user', "authorization: bASIC $same"));

# --- the address

sub from {
    my ($address) = @_;
    return get('/address', "X-Client: $address");
}
my @networks = (
    # name, address, the same
    [ 'an address of the same /64', '2001:db8::1', '2001:db8::ffff:ffff:ffff:ffff' ],
    [ 'another spelling of an IPv6 address', '2001:db8::a', '2001:0DB8:0:0:0:0:0:A' ],
    [ 'IPv4 as v4-mapped IPv6', '192.0.2.7', '::ffff:192.0.2.7' ],
    [ 'IPv4 as v4-mapped IPv6, in hexadecimal digits', '192.0.2.7', '::FFFF:c000:0207' ],
    [ 'a link-local address of the same link', 'fe80::1%lo', 'fe80::2%lo' ],
    [ 'a link-local address, with the number of its link', 'fe80::1%lo', 'fe80::1%1' ],
);
same_bucket($_->[0], from($_->[1]), from($_->[2])) for @networks;
own_bucket('the next /64 has its own', from('2001:db8::1'), from('2001:db8:0:1::1'));
own_bucket('another link has its own', from('fe80::1%lo'), from('fe80::1%eth0')) if -e '/sys/class/net/eth0';
own_bucket('the next IPv4 address has its own', from('192.0.2.7'), from('::ffff:192.0.2.8'));
same_bucket('by a socket for IPv6, which sees it v4-mapped', get('/address'), [ get('/address'), $double ]);
SKIP: {
    skip 'this machine has no IPv6', 2 if !IO::Socket::IP->new(PeerAddr => "[::1]:$double", Timeout => 5);
    same_bucket('over IPv6 a v4-mapped address in the field of a proxy', from('192.0.2.7'), [ from('::ffff:192.0.2.7'), "[::1]:$double" ]);
    own_bucket('::1 is not 127.0.0.1', get('/address'), [ get('/address'), "[::1]:$double" ]);
}

# --- what httpd asks itself

same_bucket('a subrequest: a page that includes it', get('/sub/item'), get('/sub/page.shtml'));
my @redirects = (
    [ "DirectoryIndex", '/indexed/' ],
    [ "DirectoryIndex, by another spelling", '/indexed//.' ],
    [ 'FallbackResource', '/fallback/nothing-here' ],
    [ 'a rewrite in the directory', '/redirects/by/rewrite' ],
    [ 'a rewrite of the server', '/redirects/by/server' ],
    [ 'a rewrite to the file', '/redirects/by/file' ],
);
same_bucket("an internal redirect: $_->[0]", get('/redirects/item'), get($_->[1])) for @redirects;
unlike($server->log_text, qr/exit signal|segfault/i, 'no child has died');

done_testing;
