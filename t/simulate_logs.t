#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl simulate: what logs look like, and what they must not do to it: formats and escapes, moments, zones, compressed
# files, lines of any length and byte, orders and several files. Needs RLPCTL in the environment.

use strict;
use warnings;

use File::Basename qw(dirname);
use IO::Compress::Gzip qw(gzip $GzipError);
use JSON::PP qw(decode_json);
use POSIX ();
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Rlpctl qw($dir rlpctl scratch);

my $base = 1_763_726_400; # 2025-11-21 12:00:00 UTC
my $noon = '[21/Nov/2025:12:00:00 +0000]';

sub packed {
    my ($text) = @_;
    gzip(\$text, \my $out) or die "gzip: $GzipError\n";
    return $out;
}

# The report of a plan that admits one request of each identity for ever: who is refused has sent more.
sub replay {
    my ($input, @args) = @_;
    my ($status, $out, $err) = rlpctl($input, qw(simulate --json --plan=one=quota=1), @args);
    my $said = $out =~ /^\{/ ? decode_json($out) : {};
    return { %{$said}, status => $status, complaint => $err };
}

sub counts {
    my ($said) = @_;
    return join ' ', map { $said->{$_} // 'none' } qw(status lines malformed requests identities);
}

sub line {
    my ($ip, %more) = @_;
    my $time = $more{time} // $noon;
    my $request = $more{request} // 'GET / HTTP/1.1';
    return qq{$ip - - $time "$request" 200 5 "-" "agent"\n};
}

# --- each directive of a format by itself: a line of it is read, the words are taken apart, and it is the identity

my @fields = (
    [ '%u',                'ann',                '%u',                'u:ann' ],
    [ '%u',                'ann smith',          'user',              'user:ann smith' ],
    [ '%u',                '-',                  'user',              undef ],
    [ '%v',                'www.example',        'vhost',             'vhost:www.example' ],
    [ '%V',                'www.example',        '%V',                'V:www.example' ],
    [ '%m',                'PUT',                'method',            'method:PUT' ],
    [ '%U',                '/a/b',               'path',              'path:/a/b' ],
    [ '"%r"',              '"GET /x?y HTTP/2.0"', 'path',             'path:/x' ],
    [ '"%r"',              '"-"',                'path',              undef ],
    [ '%a',                '192.0.2.1',          'ip',                'ip:192.0.2.1' ],
    [ '%h',                '192.0.2.1',          'ip/8',              'ip:192.0.0.0/8' ],
    [ '%a',                '192.0.2.1',          'ip/1',              'ip:128.0.0.0/1' ],
    [ '%a',                '2001:db8:1:2:3::4',  'ip',                'ip:2001:db8:1:2::/64' ],
    [ '%a',                '2001:db8:1:2:3::4',  'ip/32,128',         'ip:2001:db8:1:2:3::4' ],
    [ '%a',                '::ffff:192.0.2.9',   'ip/24',             'ip:192.0.2.0/24' ],
    [ '%{RATELIMIT_IDENTITY}e', 'user:ann',      'identity',          'user:ann' ],
    [ '%{RATELIMIT_IDENTITY}e', '-',             'identity',          undef ],
    [ '%{ORG}e',           'acme',               '%{ORG}e',           'ORG:acme' ],
    [ '"%{ORG}n"',         '"acme inc"',         '%{ORG}n',           'ORG:acme inc' ],
    [ '%{X-Org}o',         'acme',               '%{X-Org}o',         'X-Org:acme' ],
    [ '"%{X-Key}i"',       '"abc"',              '%{X-Key}i',         'X-Key:sha256:ba7816bf8f01cfea...' ],
    [ '"%{X-Key}i"',       '"\x61\x62c"',        '%{X-Key}i',         'X-Key:sha256:ba7816bf8f01cfea...' ],
    [ '"%{id}C"',          '"abc"',              '%{id}C',            'id:sha256:ba7816bf8f01cfea...' ],
);
for my $row (@fields) {
    my ($field, $word, $key, $wanted) = @{$row};
    my $line = "$noon $word\n";
    my $said = replay($line x 2, "--format=%t $field", "--key=$key");
    my $worst = $said->{plans}[0]{most_refused}[0];
    is($worst && $worst->{identity}, $wanted, "$field by $key of $word") or diag($said->{complaint});
    is(counts($said), defined $wanted ? '0 2 0 2 1' : '0 2 0 0 0', '  its lines are counted');
}

# --- moments: so many formats for the same

my %moments = (
    '%t'                               => $noon,
    '%{sec}t'                          => $base,
    '%{msec}t'                         => "${base}000",
    '%{usec}t'                         => "${base}000000",
    '%{%s}t'                           => $base,
    '%{begin:sec}t'                    => $base,
    '%{sec}t.%{msec_frac}t'            => "$base.000",
    '%{%F %T}t'                        => '2025-11-21 12:00:00',
    '%{%FT%T%z}t'                      => '2025-11-21T17:30:00+0530',
    '%{%Y%m%d%H%M%S}t'                 => '20251121120000',
    '%{%D %R:%S}t'                     => '11/21/25 12:00:00',
    '[%{%d/%b/%Y:%T %z}t]'             => $noon,
    '%{%e %h %y %H:%M:%S}t'            => '21 Nov 25 12:00:00',
    '%{RATELIMIT_TIME}e'               => "${base}000000",
    '%{sec}t %{RATELIMIT_TIME}e'       => "1 ${base}000000",
    '%t %{end:sec}t'                   => "$noon 1",
);
for my $format (sort keys %moments) {
    my $said = replay("$moments{$format} a\n", "--format=$format %h");
    is($said->{first}, '2025-11-21T12:00:00Z', "$format: $moments{$format}") or diag($said->{complaint});
}

# the hour that summer time repeats in Berlin (UTC+2, then UTC+1), and the one that it leaves out
my @zones = (
    [ '[26/Oct/2025:02:30:00 +0200]', '2025-10-26T00:30:00Z' ],
    [ '[26/Oct/2025:02:30:00 +0100]', '2025-10-26T01:30:00Z' ],
    [ '[30/Mar/2025:01:59:59 +0100]', '2025-03-30T00:59:59Z' ],
    [ '[30/Mar/2025:03:00:00 +0200]', '2025-03-30T01:00:00Z' ],
    [ '[01/Jan/2026:00:10:00 +1400]', '2025-12-31T10:10:00Z' ],
    [ '[31/Dec/2025:23:50:00 -1200]', '2026-01-01T11:50:00Z' ],
    [ '[21/Nov/2025:12:00:00 +0545]', '2025-11-21T06:15:00Z' ],
    [ '[29/Feb/2024:23:59:59 +0000]', '2024-02-29T23:59:59Z' ],
    [ '[29/Feb/2000:00:00:00 +0000]', '2000-02-29T00:00:00Z' ],
    [ '[31/Dec/2016:23:59:60 +0000]', '2017-01-01T00:00:00Z' ],
    [ '[01/Jan/1970:00:00:00 +0000]', '1970-01-01T00:00:00Z' ],
);
for my $row (@zones) {
    for my $zone (qw(UTC America/New_York Asia/Kathmandu)) {
        local $ENV{TZ} = $zone;
        is(replay(line('a', time => $row->[0]))->{first}, $row->[1], "$row->[0], in $zone");
    }
}
my $said = replay(line('a', time => '[26/Oct/2025:02:30:00 +0200]') . line('a', time => '[26/Oct/2025:02:30:00 +0100]'));
is_deeply([ map { $_->{hour} } @{ $said->{hours} } ], [ '2025-10-26T00:00:00Z', '2025-10-26T01:00:00Z' ], 'the repeated hour is two hours');

for my $time (
    '[29/Feb/2025:00:00:00 +0000]', '[31/Apr/2025:00:00:00 +0000]', '[00/Nov/2025:00:00:00 +0000]', '[21/nov/2025:00:00:00 +0000]',
    '[21/Nov/2025:24:00:00 +0000]', '[21/Nov/2025:00:60:00 +0000]', '[21/Nov/2025:00:00:61 +0000]', '[21/Nov/2025:00:00:00 0000]',
    '[21/Nov/2025:00:00:00 +2400]', '[21/Nov/2025:00:00:00 +0060]', '[31/Dec/1969:23:59:59 +0000]', '[01/Jan/1970:00:00:00 +0001]',
    '[21/Nov/2025:00:00:00]',       '21/Nov/2025:00:00:00 +0000',   '[]',                           '-',
    )
{
    is(counts(replay(line('a', time => $time))), '65 1 1 0 0', "no moment: $time");
}

# --- lines

my $good = line('192.0.2.1');
my $bare = $good =~ s/\n//r;
for my $row (
    [ 'CR LF',                          "$bare\r\n" x 2,                              '0 2 0 2 1' ],
    [ 'no newline at the end',          $good . $bare,                                '0 2 0 2 1' ],
    [ 'an empty line',                  "$good\n$good",                               '0 3 1 2 1' ],
    [ 'a line of a CR alone',           "$good\r\n$good",                             '0 3 1 2 1' ],
    [ 'two CR',                         $good . "$bare\r\r\n",                        '0 2 1 1 1' ],
    [ 'a NUL byte in the user agent',   $good . ($good =~ s/agent/a\0b/r),            '0 2 0 2 1' ],
    [ 'a NUL byte for the end',         $good . "$bare\0\n",                          '0 2 1 1 1' ],
    [ 'NUL bytes as a crash leaves',    $good . "\0" x 4096 . "\n$good",              '0 3 1 2 1' ],
    [ 'every byte but newline',         $good . join('', map { chr } grep { $_ != 10 } 0 .. 255) . "\n", '0 2 1 1 1' ],
    [ 'bytes that are no UTF-8',        $good . line('192.0.2.1', request => "GET /\xff\xfe HTTP/1.1"),  '0 2 0 2 1' ],
    [ 'an escaped quote',               line('a', request => 'GET /\"x\" HTTP/1.1'),  '0 1 0 1 1' ],
    [ 'an escaped backslash',           line('a', request => 'GET /\\\\'),            '0 1 0 1 1' ],
    [ 'a quote that is not escaped',    line('a', request => 'GET /"x HTTP/1.1') . $good, '0 2 1 1 1' ],
    [ 'a backslash at the end',         line('a', request => 'GET /\\') . $good,      '0 2 1 1 1' ],
    [ 'a byte order mark',              "\xef\xbb\xbf$good$good",                     '0 2 0 2 2' ],
    [ 'a megabyte of path',             $good . line('192.0.2.1', request => 'GET /' . 'x' x 1_000_000 . ' HTTP/1.1'), '0 2 0 2 1' ],
    [ 'three megabytes of nothing',     $good . 'x' x 3_145_728 . "\n$good",          undef ],
    [ 'cut off',                        $good . substr($good, 0, 40),                 '0 2 1 1 1' ],
    [ 'nothing at all',                 '',                                           '0 0 0 0 0' ],
    )
{
    my ($name, $input, $wanted) = @{$row};
    $said = replay($input);
    if (defined $wanted) {
        is(counts($said), $wanted, $name) or diag($said->{complaint});
    } else {
        is("$said->{status} $said->{requests} " . ($said->{lines} - $said->{malformed}), '0 2 2', "$name: what is around it counts");
    }
}
$said = replay("x\n" x 7 . $good);
is_deeply($said->{malformed_at}, [ map { "standard input:$_" } 1 .. 5 ], 'the first five that are not understood are named');

# an identity of any length and byte is shown in the report without what a terminal obeys
for my $user ("\e[31mred", "a\x07b", "\xff\xfe", '<script>', '\x1b[31m', 'x' x 100_000) {
    my $line = qq{$noon "$user"\n} x 2;
    my ($status, $out) = rlpctl($line, qw(simulate --plan=one=quota=1 --key=user), '--format=%t "%u"', "--html=$dir/page.html");
    my $shown = (substr $user, 0, 8) =~ s/([^ -~])/sprintf '%%%02x', ord $1/ger;
    ok($status == 0 && $out =~ /most refused +user:.*: 1 of 2$/m && $out !~ /[^ -~\n]/, "the user $shown in text") or diag($out);
    open my $page, '<:raw', "$dir/page.html" or die "$dir: $!\n";
    local $/ = undef;
    ok(<$page> !~ /[^ -~\n]|<script/, '  and on the page');
}

# --- compressed

my $hundred = join '', map { line("192.0.2.$_") } 1 .. 100;
my $gz = packed($hundred);
is(counts(replay('', scratch('a.gz', $gz))), '0 100 0 100 100', 'gzip');
is(counts(replay($gz)), '0 100 0 100 100', 'gzip on standard input');
is(counts(replay('', scratch('log', $gz))), '0 100 0 100 100', 'gzip by what it is, not by its name');
is(counts(replay('', scratch('plain.gz', $hundred))), '0 100 0 100 100', 'plain text with a name of gzip');
is(counts(replay('', scratch('two.gz', packed($good) . packed($good)))), '0 2 0 2 1', 'one behind the other');
is(counts(replay('', scratch('none.gz', packed('')))), '0 0 0 0 0', 'gzip of nothing');
for my $cut (length($gz) - 1, length($gz) - 8, int(length($gz) / 2), 11) {
    $said = replay('', scratch('cut.gz', substr $gz, 0, $cut), scratch('b', $good));
    is($said->{status}, 66, "cut off behind $cut bytes: 66");
    like($said->{complaint}, qr/\Q$dir\E\/cut\.gz/, '  it is named');
    ok($said->{requests} >= 1, '  the other is read');
}
my $wrong = $gz;
substr $wrong, -8, 4, "\0\0\0\0";
is(replay('', scratch('sum.gz', $wrong))->{status}, 66, 'a checksum that is not its own: 66');

# --- order and several files

sub at { return sprintf "%d %s\n", ($base + $_[0]) * 1_000_000, $_[1] }
my @fine = ('--format=%{usec}t %h', '--plan=second=rate=1/s');
my ($first, $second) = (scratch('1', at(0, 'a') . at(2, 'a')), scratch('2', at(1, 'a') . at(3, 'a')));
{
    # pipes with names: who writes into one is gone when it has been closed once
    my @pipes = map { "$dir/pipe-$_" } 1 .. 2;
    my @writers = map {
        my $pipe = $_;
        POSIX::mkfifo($pipe, 0600) or die "$pipe: $!\n";
        my $pid = fork // die "fork: $!\n";
        if (!$pid) {
            alarm 60;
            open my $out, '>', $pipe or POSIX::_exit(1);
            print {$out} $good x 2000;
            close $out;
            POSIX::_exit(0);
        }
        $pid;
    } @pipes;
    my $out = qx(timeout 30 '$ENV{RLPCTL}' simulate --json --plan=one=quota=1 @pipes);
    is($out =~ /^\{/ ? decode_json($out)->{lines} : 'none', 4000, 'pipes with names are read once');
    kill 'TERM', @writers;
    waitpid $_, 0 for @writers;
}
for my $order ([ $first, $second ], [ $second, $first ]) {
    $said = replay('', @fine, @{$order});
    is(join(' ', counts($said), $said->{late}, $said->{plans}[1]{refused}{most}), '0 4 0 4 1 0 0', 'two files that overlap, in any order');
    is_deeply([ @{$said}{qw(first last)} ], [ '2025-11-21T12:00:00Z', '2025-11-21T12:00:03Z' ], '  from the first to the last');
}
$said = replay(at(1, 'a') . at(3, 'a'), @fine, $first, '-');
is(join(' ', counts($said), $said->{plans}[1]{refused}{most}), '0 4 0 4 1 0', 'standard input among them');
my @shuffled = map { at($_, 'a') } 5, 3, 1, 4, 2, 0;
$said = replay(join('', @shuffled), @fine);
is("$said->{requests} $said->{late} $said->{plans}[1]{refused}{most}", '6 0 0', 'backwards: sorted');
$said = replay(at(0, 'a') . at(120, 'a') . at(0, 'b'), @fine);
is($said->{late}, 0, 'two minutes late: sorted');
$said = replay(at(0, 'a') . at(300, 'a') . at(100, 'b'), @fine);
is($said->{late}, 1, 'more than that: late, and counted');
is($said->{requests}, 3, '  and judged all the same');
is(counts(replay('', $first, $first, '--format=%{usec}t %h')), '0 4 0 4 1', 'a file twice is read twice');

done_testing();
