#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Plan maps: where plans come from, and what becomes of them when that changes while httpd runs.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use Fcntl qw(:flock);
use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $plans = "RateLimitPlan free rate=10/week\nRateLimitPlan pro rate=100/week\nRateLimitPlan enterprise rate=1000/week\n";
my $one_process = "StartServers 1\nServerLimit 1\n"
    . ($RLP::Httpd::mpm eq 'prefork' ? "MinSpareServers 1\nMaxSpareServers 1\nMaxRequestWorkers 1\n" : "ThreadsPerChild 8\nMaxRequestWorkers 8\n");
my $keys = "${plans}RateLimitEngine On\nRateLimitIdentity key=header:X-Key ip\nRateLimitRule site rate=5/week\n";

# The limit that a request with this key is told: 5 is that of whom no plan is known.
sub limit {
    my ($server, $key) = @_;
    my $response = $server->get('/index.html', defined $key ? "X-Key: $key" : ());
    return $response->{fields}{'x-ratelimit-limit'} // $response->{status};
}

sub limits {
    my ($server, @keys) = @_;
    return join ' ', map { limit($server, $_) } @keys;
}

# --- txt

{
    my $server = RLP::Httpd->new(config => "${keys}RateLimitPlanMap key txt:keys\n");
    my ($one, $two) = map { sha256_hex($_) } 'key-one', 'a key, "two"';
    my ($binary) = grep { pack('H*', sha256_hex($_)) !~ /[\0-\x20\x7f]/ } 'a' .. 'zzz'; # its digest can be a header field
    $server->file('keys', "# keys\n\nsha256:$one enterprise # as rlpctl hash-key says it\nclear\tpro\r\n  sha256:\U$two\E free\n"
            . 'sha256:' . sha256_hex('both') . " pro\nboth enterprise\n"
            . 'sha256:' . sha256_hex($binary) . " pro\nlast pro");
    $server->start;
    is(limits($server, 'key-one', 'clear', 'a key, "two"', 'last'), '1000 100 10 100',
        'P-02 P-03 keys in clear text and as digests, whatever ends a line');
    is(limits($server, 'other', undef), '5 5', 'P-05 another key, and none: the rule\'s own limits');
    is(limits($server, "sha256:$one", "sha256:\U$one", $one, pack 'H*', sha256_hex($binary)), '5 5 5 5', 'a digest is no key: who has read the file has none');
    is(limit($server, 'both'), 1000, 'a key that stands there in both forms: clear text counts');
    is(limits($server, 'Clear', 'clea', 'clear1', 'x' x 8000), '5 5 5 5', 'nothing but the whole key, in its case');
}

# --- a file that changes while httpd runs

# Writes a new version beside the file, then puts it in its place.
sub replace {
    my ($server, $name, $text) = @_;
    $server->file("$name.new", $text);
    return rename $server->file("$name.new"), $server->file($name);
}

# Until every child that answers has said so for a while.
sub becomes {
    my ($server, $key, $limit) = @_;
    my $in_a_row = 0;
    return RLP::Httpd::wait_for(sub {
        $in_a_row = limit($server, $key) eq $limit ? $in_a_row + 1 : 0;
        return $in_a_row > 20;
    }, 15);
}

sub lines {
    my ($server, $pattern) = @_;
    return grep { /$pattern/ } split /\n/, $server->log_text;
}

sub logged {
    my ($server, $pattern) = @_;
    return RLP::Httpd::wait_for(sub { limit($server, 'any'); lines($server, $pattern) }, 15);
}

{
    my $server = RLP::Httpd->new(config => "${keys}RateLimitPlanMap key txt:keys\n");
    $server->file('keys', "one pro\ntwo free\n");
    $server->start;
    is(limits($server, qw(one two three)), '100 10 5', 'P-02 as the file is at the start');
    replace($server, 'keys', "one enterprise\nthree free\n");
    ok(becomes($server, 'one', 1000), 'P-07 a new version counts without a restart');
    ok(becomes($server, 'three', 10), 'with its new keys');
    ok(becomes($server, 'two', 5), 'and without those that are gone');
    is(scalar lines($server, 'RLP012'), 0, 'and there is nothing to complain of');

    replace($server, 'keys', "one free\nhush-hush no-plan\n");
    ok(logged($server, 'RLP012: plan map of key: line 2 of .*: expected the name of a plan'), 'P-05 a version with an unknown plan: a line in the log');
    is(limit($server, 'one'), 1000, 'and the last good version counts');
    my %said;
    $said{$_}++ for map { /\[pid (\d+)/ } lines($server, 'RLP012');
    my @often = grep { $_ > 1 } values %said;
    is("@often", '', 'each process says it once');
    unlike($server->log_text, qr/hush-hush/, 'and shows no key');
    unlink $server->file('keys');
    ok(logged($server, 'RLP012: plan map of key: cannot open'), 'a version that is missing: a line in the log');
    is(limit($server, 'one'), 1000, 'and the last good version counts');
    replace($server, 'keys', "one free\n");
    ok(becomes($server, 'one', 10), 'the next good version counts');

    my @children = $server->children;
    kill 'KILL', @children;
    RLP::Httpd::wait_for(sub { limit($server, 'two'); my %old = map { $_ => 1 } @children; grep { !$old{$_} } $server->children });
    ok(becomes($server, 'one', 10), 'a child that starts later has that version too');
    ok($server->graceful, 'graceful');
    is(limits($server, qw(one two)), '10 5', 'and so has the next generation');
    ok($server->stop, 'it stops as ever');
}

# What of /proc says that a child has the file open.
sub reading {
    my ($server) = @_;
    my $file = $server->file('keys');
    return grep { (readlink // '') eq $file } map { glob "/proc/$_/fd/*" } $server->children;
}

# A map of many keys, in memory that unknown ones do not change.
{
    my $server = RLP::Httpd->new(config => "${keys}RateLimitPlanMap key txt:keys\n");
    my $many = join '', map { sprintf "%032x free\n", $_ } 1 .. 300_000;
    $server->file('keys', "${many}one pro\n");
    $server->start;
    is(limits($server, sprintf('%032x', 300_000), sprintf('%032x', 300_001)), '10 5', 'a map of 300 000 keys');
    my $sum = sub { my $kb = 0; $kb += (RLP::Httpd::slurp("/proc/$_/status") =~ /^RssAnon:\s+(\d+)/m)[0] // 0 for $server->children; $kb };
    limit($server, "random-$_-" . rand) for 1 .. 200;
    my $before = $sum->();
    limit($server, "random-$_-" . rand) for 1 .. 1500;
    cmp_ok($sum->() - $before, '<', 2048, 'random unknown keys take no memory (kB)');
    replace($server, 'keys', "${many}one enterprise\n");
    ok(becomes($server, 'one', 1000), 'a large map is read again');

    # who reads a new version is killed in the midst of it; where it was read before anybody has looked, there is another
    my $limit = 1000;
    my $killed = RLP::Httpd::wait_for(sub {
        $limit = 1010 - $limit;
        replace($server, 'keys', "${many}one " . ($limit == 10 ? 'free' : 'enterprise') . "\n");
        my $seen = RLP::Httpd::wait_for(sub { (reading($server))[0] // (limit($server, 'one') eq $limit) });
        return $seen =~ m{/proc/(\d+)} && kill 'KILL', $1;
    });
    ok($killed, 'P-07 the child that reads a new version is killed');
    ok(becomes($server, 'one', $limit), 'and another reads it');
}

# While it is read, somebody writes into it: where few long lines have been counted, there are many short ones then.
{
    my $server = RLP::Httpd->new(config => "${keys}RateLimitPlanMap key txt:keys\n");
    my $file = $server->file('keys', "one free\n");
    $server->start;
    replace($server, 'keys', join '', map { sprintf "%0200x free\n", $_ } 1 .. 200_000);
    my $short = join '', map { sprintf "%08x pro\n", $_ } 1 .. 150_000;
    my $end = time + 15;
    my $read = 0; # bytes
    while ($read < length $short && time < $end) {
        limit($server, 'one');
        my ($reader) = reading($server);
        ($read) = defined $reader ? RLP::Httpd::slurp($reader =~ s{/fd/}{/fdinfo/}r) =~ /^pos:\s+(\d+)/ : 0;
        $read //= 0;
    }
    open my $out, '+<', $file or die "$file: $!\n";
    syswrite $out, $short;
    truncate $out, length $short;
    close $out or die "$file: $!\n";
    ok(becomes($server, '00000001', 100), 'P-07 what somebody has written into the file while it was read counts in the end');
    ok($server->stop, 'and nobody reads for ever');
}

# --- expr

{
    my $server = RLP::Httpd->new(modules => ['setenvif'], config => "${keys}SetEnvIf X-Plan (.*) PLAN=\$1\n"
        . "RateLimitIdentity key=header:X-Key ip\nRateLimitPlanMap key expr:%{env:PLAN}\n");
    $server->start;
    my $plan = sub { $server->get('/index.html', 'X-Key: any', "X-Plan: $_[0]")->{fields}{'x-ratelimit-limit'} };
    is($plan->('pro'), 100, 'P-02 the plan that the expression names');
    is($plan->('enterprise'), 1000, 'P-02 for each request');
    is($plan->(''), 5, 'P-05 an empty text: unknown, so the next identity');
    is(scalar lines($server, 'RLP014'), 0, 'with nothing to say about it');
    is($plan->('plaything'), 5, 'P-05 what is no plan: unknown');
    is(scalar lines($server, 'RLP014: plan map of key: the expression names no plan'), 1, 'with one line in the log');
    unlike($server->log_text, qr/plaything/, 'that does not repeat what may come from the client');
}

# --- dbm

my ($httxt2dbm) = grep { -x } map { "$_/httxt2dbm" } (split /:/, $ENV{PATH}), '/usr/sbin', '/usr/bin';

# Makes it under another name, then puts all of its files into their places.
sub make_dbm {
    my ($server, $type, $name, $text) = @_;
    my ($from, $to) = ($server->file("$name.text", $text), $server->file("$name.new"));
    system($httxt2dbm, ($type ? ('-f', $type) : ()), '-i', $from, '-o', $to) == 0 or die "httxt2dbm failed\n";
    my @files = grep { -f } glob $server->file("$name.new") =~ s/([ ])/\\$1/gr . '*' or die "httxt2dbm made nothing\n";
    for my $file (@files) {
        chmod 0644, $file;
        rename $file, $file =~ s/\.new((?:\.\w+)?)$/$1/r or die "$file: $!\n";
    }
    return scalar @files;
}

SKIP: {
    skip 'httxt2dbm is missing (Debian: apache2-utils)', 1 if !$httxt2dbm;
    my $hashed = 'sha256:' . sha256_hex('secret');
    for my $type (qw(db gdbm sdbm)) {
        # one process: each opens the file by itself, and the last good version is what it has seen
        my $server = RLP::Httpd->new(config => "${keys}${one_process}RateLimitPlanMap key dbm=$type:keys\n");
        if (!eval { make_dbm($server, $type, 'keys', "one pro\ntwo enterprise\n$hashed pro\n") }) {
            diag("no DBM files of the type $type here");
            next;
        }
        $server->start;
        is(limits($server, qw(one two three secret), $hashed), '100 1000 5 100 5', "P-02 P-03 P-05 a DBM file of the type $type");
        is(limits($server, qw(one two three secret)), '100 1000 5 100', 'and again, from what is remembered');
        make_dbm($server, $type, 'keys', "one free\nthree pro\n");
        ok(becomes($server, 'one', 10), "P-07 $type: a new version counts without a restart");
        is(limits($server, qw(two three)), '5 100', 'at once, whatever is remembered');
        is(scalar lines($server, 'RLP012'), 0, 'and there is nothing to complain of');
        ok(scalar lines($server, 'RLP013: plan map of key: read again: .*keys'), 'which the log says');
        if ($type ne 'sdbm') { # of which there are two, of any content
            replace($server, 'keys', "one pro, this is no DBM file\n" x 1000);
            ok(logged($server, 'RLP012: plan map of key: cannot use .*keys: .*make it anew with httxt2dbm'), 'a damaged version: a line in the log that says what to do');
            is(limits($server, qw(one two three new)), '10 5 100 5', 'and the last good version counts');
        }
        if ($type ne 'db') { # whose files are locked by who writes them
            my $complaints = lines($server, 'RLP012');
            my $made = $server->file('locked');
            system($httxt2dbm, '-f', $type, '-i', $server->file('locked.text', "one enterprise\n"), '-o', $made) == 0 or die "httxt2dbm failed\n";
            my @ends = $type eq 'sdbm' ? qw(.dir .pag) : ('');
            chmod 0644, map { "$made$_" } @ends;
            open my $lock, '<', "$made$ends[0]" or die "$made: $!\n";
            flock $lock, LOCK_EX | LOCK_NB or die "flock: $!\n";
            rename "$made$_", $server->file('keys') . $_ for @ends;
            ok(RLP::Httpd::wait_for(sub { limit($server, 'one'); lines($server, 'RLP012') > $complaints }), 'a version that its writer has locked: a line in the log');
            is(limit($server, 'one'), 10, 'the last good version counts');
            my ($code, $said) = $server->configtest;
            ok($code != 0 && $said =~ /locked by its writer/, 'nor does httpd start with it, or wait for it') or diag $said;
            close $lock;
            ok(becomes($server, 'one', 1000), 'and that one when the lock is gone, though the file has not changed since');
            is(lines($server, 'RLP012') - $complaints, 1, 'which was said once');
        }
        ok($server->stop, 'it stops as ever');
    }

    my $closed = RLP::Httpd->new(config => "${keys}${one_process}RateLimitPlanMap key dbm:keys\n");
    make_dbm($closed, '', 'keys', "one pro\ntwo pro\n");
    $closed->start;
    is(limit($closed, 'one'), 100, 'a DBM file that children may read ...');
    chmod 0, glob $closed->file('keys') =~ s/([ ])/\\$1/gr . '*';
    $closed->kill9;
    ok(logged($closed, q{RLP012: plan map of key: cannot open .*keys: Permission denied; the user of httpd's children reads it; this process knows none of its values}),
        '... and the next one may not: a line in the log');
    is(limit($closed, 'two'), 5, '... and its values are unknown');
    unlike($closed->log_text, qr/RLP012.*(?:httxt2dbm|stays in force)/, '... of which the log says nothing else');
    $closed->stop;

    my $server = RLP::Httpd->new(config => "${keys}RateLimitPlanMap key dbm:keys\n");
    make_dbm($server, '', 'keys', "one plaything\ntwo pro\n");
    $server->start;
    is(limits($server, qw(one two)), '5 100', 'P-05 a plan that is none: unknown');
    is(scalar lines($server, 'RLP018: plan map of key: a value has a plan that RateLimitPlan does not declare'), 1, 'with a line in the log');
    unlink glob $server->file('keys') =~ s/([ ])/\\$1/gr . '*';
    ok(logged($server, 'RLP012: plan map of key: cannot open .*keys'), 'a file that is gone: a line in the log');
    is(limits($server, qw(two three)), '100 5', 'and what was open stays');
}

# One address asks for ten values a second that nobody has asked for.
SKIP: {
    skip 'httxt2dbm is missing (Debian: apache2-utils)', 1 if !$httxt2dbm;
    skip 'no clock of the test (TESTCLOCK_SO)', 1 if !RLP::Httpd::has_clock();
    my $server = RLP::Httpd->new(clock => 1, modules => ['remoteip'],
        config => "RemoteIPHeader X-From\nRemoteIPInternalProxy 127.0.0.1\n${keys}RateLimitPlanMap key dbm:keys\n");
    make_dbm($server, '', 'keys', "early pro\n" . join '', map { "known-$_ pro\n" } 1 .. 20);
    $server->start;
    is(limit($server, 'early'), 100, 'a key that is known');
    limit($server, "random-$_") for 1 .. 9;
    is(limits($server, map { "known-$_" } 1 .. 3), '5 5 5', 'whoever has asked for ten keys in a second is not answered');
    is(limit($server, 'early'), 100, 'but what is remembered stays known');
    is($server->get('/index.html', 'X-Key: known-1', 'X-From: 192.0.2.1')->{fields}{'x-ratelimit-limit'}, 100, 'and another address is answered');
    is(limits($server, map { "known-$_" } 1), '100', 'for all');
    $server->set_clock(0.1);
    is(limits($server, map { "known-$_" } 2 .. 3), '100 5', 'a tenth of a second later there is room for one more');
    $server->set_clock(1.1);
    is(limits($server, map { "known-$_" } 3 .. 13), '100 ' x 10 . '5', 'and a second later for ten');
    $server->set_clock(3);
    my $from = sub { $server->get('/index.html', "X-Key: $_[0]", "X-From: 2001:db8:0:1::$_[1]")->{fields}{'x-ratelimit-limit'} };
    $from->("random-v6-$_", $_) for 1 .. 10;
    is($from->('known-20', 11), 5, 'addresses of one /64 are one');

    # what was known in the version before is asked for in any case
    $server = RLP::Httpd->new(clock => 1, config => "${keys}${one_process}RateLimitPlanMap key dbm:keys\n");
    my @known = map { "known-$_" } 1 .. 30;
    make_dbm($server, '', 'keys', join '', map { "$_ pro\n" } @known);
    $server->start;
    for my $i (0 .. 2) {
        $server->set_clock(2 * $i);
        is(limits($server, @known[10 * $i .. 10 * $i + 9]), join(' ', (100) x 10), 'ten keys');
    }
    $server->set_clock(10);
    make_dbm($server, '', 'keys', join '', "later pro\n", map { "$_ enterprise\n" } @known);
    ok(becomes($server, 'known-1', 1000), 'another version');
    is(limits($server, @known), join(' ', (1000) x 30), 'in which all of them are known at once');
    is(limits($server, map({ "random-$_" } 1 .. 10), 'later'), join(' ', (5) x 11), 'but what nobody knew is asked for ten times a second');
}

done_testing;
