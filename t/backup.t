#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# docs/operations.md, Backup: a copy of the store's file, made and put back while httpd is stopped, has the counters and the
# bans of that moment.

use strict;
use warnings;

use File::Copy qw(cp);
use Test::More;

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $server = RLP::Httpd->new(modules => ['setenvif'], config => <<'END');
RateLimitStore counters shm size=1M file=counters
RateLimitEngine On
SetEnvIf X-Who (.+) WHO=$1
RateLimitIdentity who=env:WHO
RateLimitRule site quota=5
<Location "/ratelimit-admin">
    SetHandler ratelimit-admin
</Location>
END
my ($ann, $bob) = map { ["X-Who: $_"] } qw(ann bob);
my ($file, $copy) = map { $server->file($_) } qw(counters copy);

# As cp -p does it; owner and mode, too.
sub copy_file {
    my ($from, $to) = @_;
    unlink $to;
    cp($from, $to) or die "$to: $!\n";
    my ($mode, $user, $group) = (stat $from)[ 2, 4, 5 ];
    chown($user, $group, $to) && chmod($mode & 07777, $to) or die "$to: $!\n";
    return;
}

sub ask {
    my ($json) = @_;
    my $connection = $server->connection;
    $connection->send("POST /ratelimit-admin HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "
            . length($json) . "\r\n\r\n$json");
    return $connection->response('POST');
}

$server->start;
is($server->statuses(3, '/index.html', @{$ann}), '200 200 200', 'three of five are used');
is(ask('{"action":"ban","identity":"who:bob","for":"1day"}')->{status}, 200, 'somebody is banned');
ok($server->stop, 'httpd is stopped');
copy_file($file, $copy);
$server->start;
is($server->statuses(3, '/index.html', @{$ann}), '200 200 429', 'the rest is used');
is(ask('{"action":"unban","identity":"who:bob"}')->{status}, 200, 'the ban is lifted');
is($server->statuses(1, '/index.html', @{$bob}), '200', 'and is');
ok($server->stop, 'httpd is stopped');
copy_file($copy, $file);
$server->start;
unlike($server->said, qr/RLP010/, 'the copy is taken as it is');
is($server->statuses(3, '/index.html', @{$ann}), '200 200 429', 'two of five are left again');
is($server->statuses(1, '/index.html', @{$bob}), '429', 'and the ban is in force');
ok($server->stop, 'httpd ends as ever');

done_testing;
