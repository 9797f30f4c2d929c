#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Plans in a database (RateLimitPlanMap dbd:), in SQLite and in a PostgreSQL of the test's own: what it answers,
# how long that is remembered, and what becomes of requests when it does not answer.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;
use RLP::Postgres;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'httpd has no mod_dbd' if !RLP::Httpd::has_module('dbd');
plan skip_all => 'no clock of the test (TESTCLOCK_SO)' if !RLP::Httpd::has_clock();

my $plans = "RateLimitPlan free rate=10/week\nRateLimitPlan pro rate=100/week\nRateLimitPlan enterprise rate=1000/week\n";
my $rules = "${plans}RateLimitEngine On\nRateLimitIdentity key=header:X-Key ip\nRateLimitRule site rate=5/s\n";
my $statement = 'SELECT plan FROM customers WHERE id = %s';
my $table = 'CREATE TABLE customers (id TEXT PRIMARY KEY, plan TEXT);'
    . q{INSERT INTO customers VALUES ('one', 'free'), ('two', 'pro'), ('none', NULL), ('odd', 'plaything'), ('it''s "three"', 'enterprise'),}
    . qq{('\xc3\xbcber', 'pro');};

my $time = 0; # of the test's clock

my $timeout = 6; # of the map, seconds: a slow machine is no failure
my $once = 900 * $timeout; # milliseconds in which nobody has waited for that, not even once

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

# How many milliseconds that took, too.
sub timed {
    my ($server, @keys) = @_;
    my $begin = time;
    my $limits = limits($server, @keys);
    return ($limits, (time - $begin) * 1000);
}

sub lines {
    my ($server, $pattern) = @_;
    return grep { /$pattern/ } split /\n/, $server->log_text;
}

sub later {
    my ($server, $seconds) = @_;
    $time += $seconds;
    $server->set_clock($time);
    return;
}

sub server {
    my ($driver, $params) = @_;
    $time = 0;
    return RLP::Httpd->new(clock => 1, modules => ['dbd'],
        config => qq{DBDriver $driver\nDBDParams "$params"\nDBDMin 0\n${rules}RateLimitPlanMap key "dbd:$statement" timeout=${timeout}s\n});
}

sub program {
    my ($name, @dirs) = @_;
    my ($found) = grep { -x } map { "$_/$name" } @dirs, split /:/, $ENV{PATH};
    return $found;
}

# What every database has to do. $sql runs statements in it.
sub answers {
    my ($name, $server, $sql) = @_;

    is(limits($server, qw(one two three), "it's \"three\"", "\xc3\xbcber"), '10 100 5 1000 100', "P-02 P-05 $name: the plans of keys");
    is(limits($server, "one' OR '1'='1", "one'; DROP TABLE customers; --", '%s'), '5 5 5', 'a key is never a part of the statement');
    later($server, 2);
    is(limits($server, 'none', 'odd'), '5 5', 'P-05 no plan, and one that is not declared: unknown');
    is(scalar lines($server, 'RLP018: plan map of key: a value has a plan that RateLimitPlan does not declare'), 1, 'with a line in the log');
    is(limits($server, "\xff\xfe", "\xed\xa0\x80", "\xc0\xaf", 'x' x 2000), '5 5 5 5', 'what is no text is unknown');
    is(scalar lines($server, 'RLP017'), 0, 'without asking');

    later($server, 2);
    $sql->("UPDATE customers SET plan = 'enterprise' WHERE id = 'one'; INSERT INTO customers VALUES ('three', 'pro');");
    is(limits($server, qw(one three)), '10 5', 'P-07 answers are remembered, also that there is none');
    later($server, 53);
    is(limits($server, qw(one three)), '10 5', 'for a while');
    later($server, 8);
    is(limits($server, qw(one three)), '1000 100', 'and after a minute asked again');
    $sql->("DELETE FROM customers WHERE id = 'three'");
    later($server, 61);
    is(limits($server, qw(one three)), '1000 5', 'a key that is gone is unknown after a minute');
    ok($server->graceful, 'graceful');
    $sql->("UPDATE customers SET plan = 'free' WHERE id = 'one'");
    is(limits($server, qw(one)), '1000', 'what is remembered outlives a graceful restart');
    later($server, 61);
    is(limits($server, qw(one)), '10', 'and no more than a minute');
    return;
}

# When the database does not answer; $break and $mend say how.
sub failures {
    my ($name, $server, $sql, $break, $mend) = @_;
    my ($limits, $ms);

    later($server, 100);
    is(limits($server, qw(one two)), '10 100', "$name: two keys that are remembered");
    $sql->("INSERT INTO customers VALUES ('four', 'pro'); UPDATE customers SET plan = 'enterprise' WHERE id = 'one'");
    my $before = lines($server, 'RLP017');
    $break->();
    ($limits, $ms) = timed($server, qw(one two));
    is($limits, '10 100', 'nobody asks a database for what is remembered');
    cmp_ok($ms, '<', $once, 'or waits for it (ms)');
    later($server, 100);
    ($limits, $ms) = timed($server, 'one');
    is($limits, '10', 'when it fails, what was remembered longer than that');
    cmp_ok($ms, '<', 4000 * $timeout, 'after the timeout (ms)');
    ($limits, $ms) = timed($server, ('one') x 10);
    is($limits, join(' ', (10) x 10), 'for all');
    cmp_ok($ms, '<', $once, 'and who comes next does not wait (ms)');
    is($server->get('/index.html', 'X-Key: four')->{status}, 200, 'a key that was never asked for: no error');
    is(limits($server, 'four'), '5', 'but unknown');
    ($limits, $ms) = timed($server, undef);
    cmp_ok($ms, '<', $once, 'and who has no key is served as ever (ms)');
    ok(lines($server, 'RLP017: plan map of key: ') > $before, 'a line in the log');
    my %said;
    $said{$_}++ for map { /\[pid (\d+)/ } lines($server, 'RLP017');
    my @often = grep { $_ > 1 } values %said;
    is("@often", '', 'each process says it once a minute');
    unlike($server->log_text, qr/four/, 'and shows no key');
    $mend->();
    ok(RLP::Httpd::wait_for(sub { later($server, 2); limits($server, qw(one four)) eq '1000 100' }, 20), 'it answers again, and is asked again');
    ok($server->stop, 'it stops as ever');
    return;
}

my $sqlite = program('sqlite3');

# Runs statements in a file.
sub sqlite {
    my ($file, @statements) = @_;
    open my $out, '|-', $sqlite, '-cmd', '.timeout 5000', $file or die "sqlite3: $!\n";
    print {$out} map { "$_;\n" } @statements;
    my $done = close $out;
    chmod 0666, $file;
    return $done;
}

# Hosts of one name and port have each a database of its own.
sub hosts {
    my $second = RLP::Httpd::free_port();
    my $hosts = RLP::Httpd->new(modules => ['dbd']);
    my @plans = qw(free pro);
    my $config = "Listen 127.0.0.1:$second\nDBDriver sqlite3\nDBDMin 0\n$rules";
    my $get = "GET /index.html HTTP/1.1\r\nHost: shop.test\r\nX-Key: one\r\nConnection: close\r\n\r\n";
    my @limits;

    for my $i (0, 1) {
        my $port = ($hosts->port, $second)[$i];
        my $file = $hosts->file("database$i");
        sqlite($file, $table, "UPDATE customers SET plan = '$plans[$i]' WHERE id = 'one'");
        $config .= qq{<VirtualHost 127.0.0.1:$port>\nServerName shop.test:80\nDBDParams "$file"\n}
            . qq{RateLimitPlanMap key "dbd:$statement" timeout=${timeout}s\n</VirtualHost>\n};
    }
    $hosts->configure($config)->start;
    for my $port ($hosts->port, $second, $hosts->port) {
        my $connection = RLP::Httpd::Connection->new($port);
        $connection->send($get);
        push @limits, $connection->response('GET')->{fields}{'x-ratelimit-limit'};
    }
    is("@limits", '10 100 10', 'what one host of a name was answered is not remembered for another');
    return;
}

# --- SQLite

SKIP: {
    skip 'sqlite3 is missing (Debian: sqlite3)', 1 if !$sqlite;
    my $server = server('sqlite3', '@DIR@/database');
    my $sql = sub { return sqlite($server->file('database'), @_) };
    $sql->($table);
    if (my $error = $server->try_start) {
        skip 'APR-util has no SQLite here (Debian: libaprutil1-dbd-sqlite3)', 1 if $error =~ /sqlite3/;
        die $error;
    }
    answers('SQLite', $server, $sql);
    hosts();
    my $lock;
    failures('SQLite, with the file locked', $server, $sql, sub {
        open $lock, '|-', $sqlite, $server->file('database') or die "sqlite3: $!\n";
        print {$lock} "BEGIN EXCLUSIVE;\n.shell touch '" . $server->file('locked') . "'\n";
        $lock->flush;
        RLP::Httpd::wait_for(sub { -e $server->file('locked') });
    }, sub { close $lock });
}

# --- PostgreSQL

SKIP: {
    skip 'PostgreSQL is missing (Debian: postgresql)', 1 if !RLP::Postgres::programs();
    my $postgres = RLP::Postgres->new;
    my $server = server('pgsql', 'host=' . $postgres->dir . ' dbname=postgres user=tester connect_timeout=10');
    my $sql = sub { return $postgres->sql(@_) };
    $sql->($table);
    if (my $error = $server->try_start) {
        skip 'APR-util has no PostgreSQL here (Debian: libaprutil1-dbd-pgsql)', 1 if $error =~ /pgsql/;
        die $error;
    }
    answers('PostgreSQL', $server, $sql);

    $postgres->stop;
    later($server, 100);
    is(limits($server, qw(one two)), '10 100', 'PostgreSQL has stopped: what was remembered');
    $postgres->start;
    $sql->("UPDATE customers SET plan = 'enterprise' WHERE id = 'two'");
    ok(RLP::Httpd::wait_for(sub { later($server, 2); limits($server, qw(two)) eq '1000' }, 20), 'it has started again, and is asked again');
    $sql->("UPDATE customers SET plan = 'pro' WHERE id = 'two'");

    $sql->('ALTER TABLE customers RENAME TO clients');
    later($server, 100);
    is(limits($server, qw(one two)), '10 1000', 'a statement that fails: what was remembered');
    $sql->('ALTER TABLE clients RENAME TO customers');
    ok(RLP::Httpd::wait_for(sub { later($server, 2); limits($server, qw(one two)) eq '10 100' }, 20), 'and when it does not, what it says');
    $server->stop;
    $server->start;
    later($server, 100);
    failures('PostgreSQL, standing still', $server, $sql, sub { $postgres->signal('STOP') }, sub { $postgres->signal('CONT') });
    $postgres->stop;
}

done_testing;
