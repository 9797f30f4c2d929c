#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl against servers that answer wrongly: each is a script, and each ends in a status and a line. Needs RLPCTL in
# the environment.

use strict;
use warnings;

use File::Basename qw(dirname);
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Rlpctl qw($dir peer refused rlpctl);

my $elsewhere = qr/it is not ratelimit-admin that has this path$/;

# Reads the whole request: head and body.
sub request {
    my ($socket) = @_;
    my $head = '';
    while (my $line = <$socket>) {
        $head .= $line;
        last if $line eq "\r\n";
    }
    my ($length) = $head =~ /^Content-Length: (\d+)\r$/m;
    read $socket, my $body, $length // 0;
    return ($head, $body);
}

sub answers {
    my (@pieces) = @_;
    return sub {
        my ($socket) = @_;
        request($socket);
        print {$socket} @pieces;
    };
}

sub head {
    my ($status, @fields) = @_;
    return join "\r\n", "HTTP/1.1 $status", @fields, '', '';
}

# Arguments that ask the server with this script, which ends with it.
sub ask {
    my ($script, $run) = @_;
    my ($port, $pid) = peer($script);
    my @said = $run->("http://127.0.0.1:$port/admin");
    waitpid $pid, 0;
    return @said;
}

# --- answers

my $detail = '{"title":"no","status":400,"detail":"expected a plan, got \"gold\""}';
my @answers = (
    [ 'hangs up at once',            sub { request($_[0]) }, 69, qr/^rlpctl: the server did not answer: it hung up$/ ],
    [ 'a line that is no HTTP',      answers("220 mail.example ESMTP\r\n"),           69, qr/^rlpctl: expected an answer of an HTTP server$/ ],
    [ 'HTTP/0.9',                    answers('{"a":1}'),                              69, qr/expected an answer of an HTTP server$/ ],
    [ 'HTTP/2',                      answers("HTTP/2 200\r\n\r\n{}"),                 69, qr/expected an answer of an HTTP server$/ ],
    [ 'half a status line',          answers('HTTP/1.'),                              69, qr/expected an answer of an HTTP server$/ ],
    [ 'a head without an end',       answers("HTTP/1.1 200 OK\r\nX: y\r\n"),          69, qr/expected an answer of an HTTP server$/ ],
    [ 'a head with a NUL byte',      answers("HTTP/1.1 200 OK\r\nX: \0\r\n\r\n{}"),   69, qr/expected an answer of an HTTP server$/ ],
    [ 'no body',                     answers(head('200 OK')),                         69, qr/^rlpctl: the server answers 200: $elsewhere/ ],
    [ 'half an object',              answers(head('200 OK'), '{"plans":[{"name":"fr'), 69, $elsewhere ],
    [ 'an object and more',          answers(head('200 OK'), '{} {}'),                69, $elsewhere ],
    [ 'an array',                    answers(head('200 OK'), '[1]'),                  69, $elsewhere ],
    [ 'a page',                      answers(head('200 OK'), '<html><p>It works!'),   69, $elsewhere ],
    [ 'NUL bytes',                   answers(head('200 OK'), "{\"a\":\0}"),           69, $elsewhere ],
    [ 'arrays without end',          answers(head('200 OK'), '{"a":' . '[' x 1_000_000), 69, $elsewhere ],
    [ 'a status without a number',   answers("HTTP/1.1 OK OK\r\n\r\n{}"),             65, qr/^rlpctl: the server answers 0: / ],
    [ 'continue and no more',        answers(head('100 Continue')),                   65, qr/^rlpctl: the server answers 100: $elsewhere/ ],
    [ 'nothing to say',              answers(head('204 No Content')),                 65, qr/^rlpctl: the server answers 204: $elsewhere/ ],
    [ 'a redirect, not followed',    answers(head('302 Found', 'Location: http://127.0.0.1:1/')),   65, qr/^rlpctl: the server answers 302: / ],
    [ 'a lasting one',               answers(head('308 Permanent Redirect', 'Location: /other')),   65, qr/^rlpctl: the server answers 308: / ],
    [ 'a mistake of ours',           answers(head('400 Bad Request'), $detail),       65, qr/^rlpctl: the server answers 400: expected a plan, got "gold"$/ ],
    [ 'a detail that is a number',   answers(head('400 Bad Request'), '{"detail":7}'), 65, qr/answers 400: $elsewhere/ ],
    [ 'who are you',                 answers(head('401 Unauthorized', 'WWW-Authenticate: Basic realm="x"'), '<p>'), 77, qr/^rlpctl: the server answers 401: expected --login=NAME and --password=FILE of a user whom it lets in$/ ],
    [ 'not you',                     answers(head('403 Forbidden'), '{"detail":"not from there"}'), 77, qr/^rlpctl: the server answers 403: not from there$/ ],
    [ 'nobody',                      answers(head('403 Forbidden'), '<p>'),           77, qr/^rlpctl: the server answers 403: it does not let you$/ ],
    [ 'nowhere',                     answers(head('404 Not Found'), '<p>'),           69, qr/^rlpctl: the server answers 404: $elsewhere/ ],
    [ 'another method',              answers(head('405 Method Not Allowed')),         69, qr/^rlpctl: the server answers 405: / ],
    [ 'a conflict',                  answers(head('409 Conflict'), $detail),          65, qr/^rlpctl: the server answers 409: expected a plan/ ],
    [ 'too many',                    answers(head('429 Too Many Requests')),          65, qr/^rlpctl: the server answers 429: / ],
    [ 'broken',                      answers(head('500 Internal Server Error')),      69, qr/^rlpctl: the server answers 500: / ],
    [ 'out of order',                answers(head('503 Service Unavailable'), '{"detail":"Redis: cannot connect"}'), 69, qr/answers 503: Redis: cannot connect$/ ],
    [ 'a full store',                answers(head('507 Insufficient Storage'), '{"detail":"the store is full"}'),    69, qr/answers 507: the store is full$/ ],
);
for my $row (@answers) {
    my ($name, $script, $status, $pattern) = @{$row};
    my ($out) = ask($script, sub { refused($name, '', [ 'plans', "--url=$_[0]" ], $status, $pattern) });
    is($out, '', '  nothing is printed');
}

# what is longer than any answer is cut off, whatever it says it will be
my ($status, $out, $err) = ask(
    sub {
        my ($socket) = @_;
        request($socket);
        print {$socket} head('200 OK', 'Content-Length: 99999999999'), '{"a":"';
        my $piece = 'x' x 1_048_576;
        for (1 .. 200) {
            print {$socket} $piece or last;
        }
    },
    sub { rlpctl('', 'plans', "--url=$_[0]") }
);
ok($status == 69 && $out eq '' && $err =~ $elsewhere, 'an answer without end: 69') or diag("$status $err");
my $long = '{"a":"' . 'x' x 1_048_576 . '"}';
is_deeply([ ask(answers(head('200 OK'), $long), sub { rlpctl('', 'plans', '--json', "--url=$_[0]") }) ], [ 0, $long, '' ], 'a megabyte is read whole');

# what a terminal would obey is never printed
($status, $out) = ask(answers(head('200 OK'), '{"a":"\u001b[31m\u0007","b\u001b":"' . "\xff\xfe" . '"}'), sub { rlpctl('', 'plans', "--url=$_[0]") });
ok($status == 0 && $out =~ /^a .*\[31m/m && $out !~ /[^ -~\n]/, 'escapes and bytes that are no text are shown as something else') or diag($out =~ s/([^ -~\n])/sprintf '<%02x>', ord $1/ger);
($status, $out, $err) = ask(answers(head('400 Bad Request'), '{"detail":"\u001b[31m"}'), sub { rlpctl('', 'plans', "--url=$_[0]") });
ok($status == 65 && $err !~ /[^ -~\n]/, '  nor complained of') or diag($err =~ s/([^ -~\n])/sprintf '<%02x>', ord $1/ger);

# --- in pieces, and before the question

($status, $out) = ask(
    sub {
        my ($socket) = @_;
        request($socket);
        print {$socket} $_ for split //, head('200 OK') . '{"a":1}';
    },
    sub { rlpctl('', 'plans', '--json', "--url=$_[0]") }
);
is("$status $out", '0 {"a":1}', 'byte by byte');
($status, undef, $err) = ask(
    sub {
        my ($socket) = @_;
        sysread $socket, my $some, 1;
        print {$socket} head('403 Forbidden'), '{"detail":"at once"}';
        1 while sysread $socket, $some, 65536 and $some !~ /\}\z/;
    },
    sub { rlpctl('', 'plans', "--url=$_[0]") }
);
is("$status $err", "77 rlpctl: the server answers 403: at once\n", 'an answer before the whole question is read');
($status, undef, $err) = ask(
    sub {
        my ($socket) = @_;
        request($socket);
        setsockopt $socket, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    },
    sub { rlpctl('', 'plans', "--url=$_[0]") }
);
ok($status == 69 && $err =~ /^rlpctl: the server did not answer: /, 'a reset') or diag("$status $err");

# --- nobody there

refused('nobody listens', '', [ 'plans', '--url=http://127.0.0.1:1/a' ], 69, qr/^rlpctl: cannot reach 127\.0\.0\.1:1: /);
refused('no such socket', '', [ 'plans', "--socket=$dir/no" ], 69, qr/^rlpctl: cannot reach \Q$dir\E\/no: /);

# --- what is asked

sub question {
    my ($input, @args) = @_;
    open my $file, '>', "$dir/asked" or die "$dir: $!\n";
    close $file or die "$dir: $!\n";
    ask(
        sub {
            my ($socket) = @_;
            open my $asked, '>', "$dir/asked" or die "$dir: $!\n";
            print {$asked} map { s/\r\n/\n/gr } request($socket);
            close $asked or die "$dir: $!\n";
            print {$socket} head('200 OK'), '{}';
        },
        sub { rlpctl($input, $args[0], "--url=$_[0]?x=y", @args[ 1 .. $#args ]) }
    );
    open my $asked, '<', "$dir/asked" or die "$dir: $!\n";
    local $/ = undef;
    return split /\n\n/, scalar(<$asked>), 2;
}

for my $row (
    [ ['plans'],                                           '{"action":"plans"}' ],
    [ [qw(get ip:192.0.2.1 --rule=api --plan=free)],       '{"action":"get","identity":"ip:192.0.2.1","rule":"api","plan":"free"}' ],
    [ [qw(grant user:ann 1.5)],                            '{"action":"grant","identity":"user:ann","units":1.5}' ],
    [ [qw(grant user:ann many)],                           '{"action":"grant","identity":"user:ann","units":"many"}' ],
    [ [qw(grant user:ann .5)],                             '{"action":"grant","identity":"user:ann","units":0.5}' ],
    [ [qw(grant user:ann 007.50)],                         '{"action":"grant","identity":"user:ann","units":7.50}' ],
    [ [qw(grant user:ann 0)],                              '{"action":"grant","identity":"user:ann","units":0}' ],
    [ [qw(grant user:ann 1.2.3)],                          '{"action":"grant","identity":"user:ann","units":"1.2.3"}' ],
    [ [ 'unban', "user:Zo\xeb Zo\xc3\xab" ],               "{\"action\":\"unban\",\"identity\":\"user:Zo\xeb Zo\xc3\xab\"}" ],
    [ [qw(ban ip:a 2h)],                                   '{"action":"ban","identity":"ip:a","for":"2h"}' ],
    [ [qw(ban ip:a 2026-12-31T23:59:59Z)],                 '{"action":"ban","identity":"ip:a","until":"2026-12-31T23:59:59Z"}' ],
    [ [qw(set-plan ip:a none)],                            '{"action":"set-plan","identity":"ip:a","plan":null}' ],
    [ [qw(set-plan ip:a gold 1d)],                         '{"action":"set-plan","identity":"ip:a","plan":"gold","for":"1d"}' ],
    [ [ 'unban', "user:\"\\\t" ],                          '{"action":"unban","identity":"user:\"\\\\\u0009"}' ],
    [   [ 'explain', '/a', '--method=PUT', '--ip=::1', '--user=ann', '--header=X: 1', '--header=Y:2', '--env=A=b=c' ],
        '{"action":"explain","url":"/a","method":"PUT","ip":"::1","user":"ann","headers":{"X":"1","Y":"2"},"env":{"A":"b=c"}}'
    ],
    )
{
    my ($head, $body) = question('', @{ $row->[0] });
    is($body, $row->[1], "@{$row->[0]}");
    like($head, qr{\APOST /admin\?x=y HTTP/1\.0\nHost: 127\.0\.0\.1:\d+\nUser-Agent: rlpctl\nContent-Type: application/json\n}, '  by POST');
}
my ($head, $body) = question("s3cret\r\nmore\n", qw(ban key 1h --secret));
is($body, '{"action":"ban","identity":"key","for":"1h","secret":"s3cret"}', '--secret: the first line of standard input');
($head) = question("pass\n", qw(plans --login=ann --password=-));
like($head, qr/^Authorization: Basic YW5uOnBhc3M=$/m, '--login: ann:pass');
($head) = question('', qw(plans --host=api.example));
like($head, qr/^Host: api\.example$/m, '--host');

# --- Redis that is none

SKIP: {
    skip 'no Redis in this build', 1 if (rlpctl("0\n", qw(try --store=redis://127.0.0.1:1 rate=1/s)))[2] =~ /built without Redis/;
    for my $row (
        [ 'redis://',                   qr/^rlpctl: expected a host name/ ],
        [ 'redis://h:0',                qr/^rlpctl: expected a port from 1 to 65535/ ],
        [ 'redis://h:65536',            qr/^rlpctl: expected a port/ ],
        [ 'redis://h:x',                qr/^rlpctl: expected a port/ ],
        [ 'redis://h/abc',              qr/^rlpctl: expected the number of a database/ ],
        [ 'redis://h/65536',            qr/^rlpctl: expected the number of a database/ ],
        [ 'redis://h/0/1',              qr/^rlpctl: expected the number of a database/ ],
        [ 'redis://h/0?x=y',            qr/^rlpctl: expected the number of a database/ ],
        [ 'redis://[::1',               qr/^rlpctl: expected a host name/ ],
        [ 'redis://u:secret@h',         qr/^rlpctl: expected no password in the URL/ ],
        [ 'redis://u@h',                qr/^rlpctl: expected --password=file:PATH or --password=env:NAME with the user of the URL$/ ],
        [ 'http://h',                   qr{^rlpctl: expected redis://} ],
        [ 'localhost',                  qr{^rlpctl: expected redis://} ],
        [ '',                           qr{^rlpctl: expected redis://} ],
        )
    {
        for my $command (qw(get reset)) {
            my (undef, $complaint) = refused("$command --store=$row->[0]", '', [ $command, "--store=$row->[0]", 'ip:a', 'r' ], 64, $row->[1]);
            unlike($complaint, qr/secret/, '  without the password');
        }
        refused("try --store=$row->[0]", '', [ 'try', "--store=$row->[0]", 'rate=1/s' ], 70, $row->[1]) if $row->[0] =~ m{://};
    }
    my @get = ('get', '--store=redis://127.0.0.1:1');
    for my $row (
        [ [ @get, 'ip:a' ],                          qr/^rlpctl: expected RULE, such as api, behind IDENTITY$/ ],
        [ [ 'top', '--store=redis://127.0.0.1:1' ],  qr/^rlpctl: expected RULE, such as api, and its limits behind it$/ ],
        [ [ @get, 'a', 'r' ],                        qr/^rlpctl: expected IDENTITY/ ],
        [ [ @get, 'ip:a', 'r', 'rate=1/fortnight' ], qr/^rlpctl: expected a span/ ],
        [ [ @get, '--colour', 'ip:a', 'r' ],         qr/^rlpctl: expected --file=, --store=, --password=, --prefix=, --tls-...=, --plan=, --secret or --json, got "--colour"$/ ],
        [ [ @get, '--prefix=a{b', 'ip:a', 'r' ],     qr/^rlpctl: expected a --prefix= without braces$/ ],
        [ [ @get, '--password=x', 'ip:a', 'r' ],     qr/^rlpctl: expected/ ],
        [ [ @get, "--password=file:$dir/no", 'ip:a', 'r' ],               qr/^rlpctl: / ],
        [ [ @get, '--password=env:RLP_NOT_SET', 'ip:a', 'r' ],            qr/^rlpctl: expected the environment to have "RLP_NOT_SET"$/ ],
        [ [ 'reset', '--store=redis://127.0.0.1:1', '--colour', 'ip:a', 'r' ], qr/got "--colour"$/ ],
        [ [ 'reset', '--store=redis://127.0.0.1:1', 'ip:a', 'r', 'rate=1/s' ], qr/^rlpctl: expected IDENTITY/ ],
        )
    {
        refused("@{ $row->[0] }", '', $row->[0], 64, $row->[1]);
    }
    for my $row (
        [ 'hangs up',            sub { 1 } ],
        [ 'no Redis',            sub { my ($s) = @_; sysread $s, my $x, 65536; print {$s} "HTTP/1.1 400 Bad Request\r\n\r\n" } ],
        [ 'an error',            sub { my ($s) = @_; sysread $s, my $x, 65536; print {$s} "-NOAUTH Authentication required.\r\n" } ],
        [ 'an error with escapes', sub { my ($s) = @_; sysread $s, my $x, 65536; print {$s} "-ERR \e[31m\a\r\n" } ],
        [ 'half a reply',        sub { my ($s) = @_; sysread $s, my $x, 65536; print {$s} "\$100\r\nabc" } ],
        [ 'a length of too much', sub { my ($s) = @_; sysread $s, my $x, 65536; print {$s} "\$99999999999999999999\r\n" } ],
        [ 'arrays in arrays',    sub { my ($s) = @_; sysread $s, my $x, 65536; print {$s} "*1\r\n" x 10_000 } ],
        )
    {
        my ($at, $server) = peer($row->[1]);
        my (undef, $complaint) = refused("get from a Redis: $row->[0]", '', [ 'get', "--store=redis://127.0.0.1:$at", 'ip:a', 'r' ], 69, qr/^rlpctl: Redis: /);
        unlike($complaint, qr/[^ -~\n]/, '  in plain words');
        kill 'KILL', $server; # it may wait for a second connection that never comes
        waitpid $server, 0;
    }
    refused('get from nobody', '', [ @get, 'ip:a', 'r' ], 69, qr/^rlpctl: Redis: cannot connect$/);
    refused('try with nobody', "0\n", [ 'try', '--store=redis://127.0.0.1:1', 'rate=1/s' ], 70, qr/^rlpctl: Redis: cannot connect$/);
}

done_testing();
