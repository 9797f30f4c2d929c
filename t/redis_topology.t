#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# A Cluster whose slots move and whose masters die, and Sentinels that name a new master: httpd is not restarted.

use strict;
use warnings;

use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;
use RLP::Redis;
use RLP::RedisSet;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();
plan skip_all => 'the topology is the same with each MPM: once is enough' if $RLP::Httpd::mpm ne 'event';

my $limit = 400;
my $few = 12; # of the rule that some requests are counted by, too
my $patience = 60;

# Without seeds: one host, whose limits are those of all.
sub server {
    my ($url, $failure) = @_;
    return RLP::Httpd->new(modules => ['setenvif'], config => <<"CONF")->start;
RateLimitStore shared redis url=$url failure=$failure timeout=5s connect=5s recovery=200ms
RateLimitEngine On
SetEnvIf X-Client (.+) CLIENT=\$1
RateLimitIdentity client=env:CLIENT ip
RateLimitRule site rate=$limit/30d
RateLimitRule also rate=$few/30d concurrent=2 "if=-n req('X-Also')"
CONF
}

sub key { return "rlp:{client:$_[0]}:site" }

# n requests of a client; how many were served, and how many responses were neither that nor a refusal.
sub requests {
    my ($server, $client, $n) = @_;
    my ($served, $other) = (0, 0);
    for (1 .. $n) {
        my $status = $server->get('/index.html', "X-Client: $client")->{status};
        $served++ if $status == 200;
        $other++ if $status != 200 && $status != 429;
    }
    return ($served, $other);
}

# Requests of a client without end, by a process of its own; what ends them, and says what became of them.
sub load {
    my ($server, $client) = @_;
    my $stop = $server->file('stop');
    my $pid = open my $out, '-|';
    die "fork: $!\n" if !defined $pid;
    if ($pid == 0) {
        my ($served, $other) = (0, 0);
        while (!-e $stop) {
            my ($more, $bad) = requests($server, $client, 1);
            $served += $more;
            $other += $bad;
        }
        print "$served $other\n";
        close STDOUT;
        POSIX::_exit(0);
    }
    return sub {
        $server->file('stop', '');
        return split ' ', <$out>;
    };
}

# Until a client is counted at a server; the seconds that it took, or nothing.
sub comes_back {
    my ($server, $redis, $client) = @_;
    my $begin = time;
    my $back = RLP::Httpd::wait_for(
        sub {
            requests($server, $client, 1);
            return ($redis->ask('EXISTS', key($client)) // '') eq '1';
        },
        $patience
    );
    return $back ? time - $begin : undef;
}

# A client that nobody else is, whose key lies at this master.
sub client_at {
    my ($cluster, $master, $name) = @_;
    my ($found) = grep { ($cluster->home(key($_)))[0] == $master } map { "$name$_" } 1 .. 100;
    return $found;
}

subtest 'a Cluster' => sub {
    my $cluster = RLP::RedisSet->cluster;
    my @masters = ($cluster->servers)[0 .. 2];
    my $url = 'redis-cluster://' . join ',', map { '127.0.0.1:' . $_->port } @masters;
    my $server = server($url, 'closed');

    subtest 'each key is where it belongs' => sub {
        for my $master (0 .. 2) {
            my $client = client_at($cluster, $master, 'home');
            is_deeply([requests($server, $client, 5)], [5, 0], 'a client is served');
            is($masters[$master]->ask('EXISTS', key($client)), 1, "and counted at master $master");
        }
    };

    subtest 'a slot goes from one master to another under load' => sub {
        my $client = client_at($cluster, 0, 'goes');
        my (undef, $slot) = $cluster->home(key($client));
        my ($served, $other) = (0, 0);
        my $requests = sub {
            my ($more, $bad) = requests($server, $client, $_[0]);
            $served += $more;
            $other += $bad;
        };
        my $load = load($server, $client);
        $requests->(10);
        $cluster->migrate($slot, 0, 1);
        $requests->(10);
        $cluster->move_keys($slot, 0, 1);
        $requests->(10); # by ASK
        $cluster->settle($slot, 1);
        $requests->(10); # by MOVED
        my ($more, $bad) = $load->();
        is($masters[1]->ask('EXISTS', key($client)), 1, 'the key is there');
        $requests->($limit);
        is($other + $bad, 0, 'nobody is told of it');
        is($served + $more, $limit, 'and nothing was forgotten, or counted twice');
        unlike($server->log_text, qr/RLP03[03]/, 'without a line in the log');
    };

    # a rule that some requests meet is a key, which may be elsewhere, or not be there yet
    subtest 'slots move in which clients have two keys' => sub {
        my %seen;
        my $requests = sub {
            my ($client, $n) = @_;
            $seen{ $server->get('/index.html', "X-Client: $client", 'X-Also: yes')->{status} }++ for 1 .. $n;
        };
        my $moves = sub {
            my ($client, $before, @keys) = @_;
            my (undef, $slot) = $cluster->home(key($client));
            $requests->($client, $before);
            $cluster->migrate($slot, 0, 1);
            is($cluster->move_key($_, 0, 1), 'OK', 'a key goes') for @keys;
            $requests->($client, $few + 2 - $before);
            $cluster->move_keys($slot, 0, 1);
            $cluster->settle($slot, 1);
            my $left = $server->get('/index.html', "X-Client: $client")->{fields}{'x-ratelimit-remaining'};
            is($left, $limit - $few - 1, 'what one key refuses is not charged to the other');
        };
        my $both = client_at($cluster, 0, 'both');
        $moves->($both, 2, key($both));
        $moves->(client_at($cluster, 0, 'neither'), 0);
        is_deeply(\%seen, { 200 => 2 * $few, 429 => 4 }, 'nobody is told of it');
        unlike($server->log_text, qr/RLP03[03]/, 'without a line in the log');
    };

    subtest 'a master dies' => sub {
        my $client = client_at($cluster, 2, 'dies');
        my $else = client_at($cluster, 1, 'lives');
        is_deeply([requests($server, $client, 5)], [5, 0], 'it is served');
        $cluster->replica(2)->ask('READONLY');
        $cluster->replica(2)->await(qr/\A1\z/, 'EXISTS', key($client));
        my %seen;
        my $begin = time;
        $cluster->hasten;
        $masters[2]->kill9;
        RLP::Httpd::wait_for(sub { $seen{ $server->get('/index.html', "X-Client: $client")->{status} }++; $seen{503} });
        is(join(' ', sort keys %seen), '503', 'failure=closed: 503');
        ok(RLP::Httpd::wait_for(sub { $server->get('/index.html', "X-Client: $else")->{status} == 200 }), 'for keys of this master alone');
        ok(RLP::Httpd::wait_for(sub { $server->get('/index.html', "X-Client: $client")->{status} == 200 }, $patience), 'until the replica takes over')
            and note sprintf 'after %.1f s', time - $begin;
        is($cluster->replica(2)->ask('ROLE')->[0], 'master', 'which is the master');
        my ($served) = requests($server, $client, $limit);
        cmp_ok(5 + 1 + $served, '<=', $limit + 5, 'the limit holds: what was not replicated is forgotten, at most');
        cmp_ok($served, '>', 0, 'and is counted on');
    };
    ok($server->stop, 'it stops as ever');
    is(join(' ', map { $_->lasting } grep { $_->{pid} } $cluster->servers), '', 'no key without a TTL');
};

subtest 'Sentinels' => sub {
    my $set = RLP::RedisSet->sentinels;
    my ($master, @replicas) = $set->servers;
    my @watchers = $set->watchers;
    my $server = server('redis-sentinel://' . join(',', map { '127.0.0.1:' . $_->port } @watchers) . '/main', 'local');

    my ($served, $other) = requests($server, 'first', 1);
    is($served, 1, 'a client is served');
    is($master->ask('EXISTS', key('first')), 1, 'the first request waits until the master is found');
    ($served, $other) = requests($server, 'first', 20);
    is($served, 20, 'and the next');
    unlike($server->log_text, qr/RLP030/, 'no circuit has opened');
    $_->await(qr/\A1\z/, 'EXISTS', key('first')) for @replicas;
    $set->hasten;
    $master->kill9;
    $watchers[0]->kill9; # and who may have been asked first
    my $begin = time;
    my $new;
    RLP::Httpd::wait_for(
        sub {
            (undef, my $bad) = requests($server, 'meanwhile', 1);
            $other += $bad;
            ($new) = grep { ($_->ask('ROLE') // [''])->[0] eq 'master' } @replicas;
            return $new;
        },
        $patience
    );
    ok($new, 'another is the master') and note sprintf 'after %.1f s', time - $begin;
    is($other, 0, 'failure=local: all are served, or refused');
    my $time = comes_back($server, $new, 'second');
    ok(defined $time, 'it is found, too') and note sprintf 'after %.1f s', time - $begin;
    my ($more) = requests($server, 'first', $limit);
    cmp_ok($more, '<=', 2 * $limit - 21, 'no limit is exceeded by more than the share');
    cmp_ok($more, '>', 0, 'it is counted on');
    is(join(' ', $new->lasting), '', 'no key without a TTL');
    ok($server->stop, 'it stops as ever');
};

done_testing;
