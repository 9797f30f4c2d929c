#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Where store=, failure= and sync= of rules stand and how they merge over server, host, section and <If>: a rule of the
# same name takes the place of the whole one outside, and what it does not say is as if nobody had. What .htaccess may
# not say of it. All of it in words.

use strict;
use warnings;

use Test::More;

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'the test has no clock of its own' if !RLP::Httpd::has_clock();

my $two = "RateLimitStore near shm size=1M\nRateLimitStore beside shm size=1M\n";

sub server {
    my ($config) = @_;
    my $server = RLP::Httpd->new(modules => ['alias', 'headers'], clock => 1);
    $server->configure("AliasMatch \"^/(?!tenants/)\" \"\@DIR\@/htdocs/index.html\"\nRateLimitEngine On\nRateLimitIdentity ip\n"
            . "Header always set X-Action %{RATELIMIT_ACTION}e env=RATELIMIT_ACTION\n$config\n");
    return $server;
}

# Status, what each rule has left, and what RATELIMIT_ACTION says.
sub told {
    my ($server, $path, @fields) = @_;
    my $response = $server->get($path, @fields);
    my $fields = $response->{fields};
    return join ' ', $response->{status}, ($fields->{ratelimit} // '-') =~ s/;t=\d+//gr, $fields->{'x-action'} // '-';
}

# A request of a host. Nothing is of the server itself: the first host answers for all that have no name.
sub as {
    my ($server, $host, $path, @fields) = @_;
    my $connection = $server->connection;
    $connection->send(join("\r\n", "GET $path HTTP/1.1", "Host: $host", 'Connection: close', @fields) . "\r\n\r\n");
    return $connection->response('GET');
}

# --- store= : every section has a limit of its own for a rule of one name, whose used units show where it counts

{
    my $server = server($two . <<'END')->start;
RateLimitRule r rate=20/hour store=beside
<Location "/keeps">
    RateLimitRule other rate=99/hour
</Location>
<Location "/near">
    RateLimitRule r rate=30/hour
    <If "req('X-If') == 'beside'">
        RateLimitRule r rate=40/hour store=beside
    </If>
</Location>
<Location "/beside">
    RateLimitRule r rate=50/hour store=beside
    <If "req('X-If') == 'near'">
        RateLimitRule r rate=60/hour
    </If>
    <If "req('X-If') == 'off'">
        RateLimitRule r Off
    </If>
</Location>
<Location "/beside/near">
    RateLimitRule r rate=70/hour store=near
</Location>
<Location "/off">
    RateLimitRule r Off
</Location>
<Location "/off/again">
    RateLimitRule r rate=80/hour
</Location>
<VirtualHost 127.0.0.1:@PORT@>
    ServerName host.test
    RateLimitRule r rate=25/hour
    <Location "/beside">
        RateLimitRule r rate=35/hour store=beside
    </Location>
</VirtualHost>
<VirtualHost 127.0.0.1:@PORT@>
    ServerName plain.test
</VirtualHost>
END
    my %used;
    for my $case (
        # where, path, X-If, limit, the store in which it counts
        ['the server', '/', '', 20, 'beside'],
        ['a section with another rule', '/keeps', '', 20, 'beside'],
        ['a section that says no store', '/near', '', 30, 'near'],
        ['If in it', '/near', 'beside', 40, 'beside'],
        ['If in it that is not true', '/near', 'no', 30, 'near'],
        ['a section that says the store', '/beside', '', 50, 'beside'],
        ['If in it that says none', '/beside', 'near', 60, 'near'],
        ['If in it that removes the rule', '/beside', 'off', 0, ''],
        ['a deeper section', '/beside/near', '', 70, 'near'],
        ['If of the outer section, in the deeper one', '/beside/near', 'near', 60, 'near'],
        ['Off', '/off', '', 0, ''],
        ['back again', '/off/again', '', 80, 'near'],
        ['the server again', '/', '', 20, 'beside'],
    ) {
        my ($where, $path, $if, $limit, $store) = @$case;
        my $response = as($server, 'plain.test', $path, $if ? "X-If: $if" : ());
        if (!$limit) {
            is($response->{fields}{ratelimit}, undef, "$where: nothing counts");
            next;
        }
        is($response->{fields}{'x-ratelimit-limit'}, $limit, "$where: its limit");
        is($response->{fields}{'x-ratelimit-remaining'}, $limit - ++$used{$store}, "$where: counts in the store $store");
    }
    # a rule of a host has counters of its own
    %used = ();
    for my $case (['/', 25, 'near'], ['/beside', 35, 'beside'], ['/', 25, 'near'], ['/beside', 35, 'beside'], ['/beside', 35, 'beside']) {
        my ($path, $limit, $store) = @$case;
        my $response = as($server, 'host.test', $path);
        is($response->{fields}{'x-ratelimit-remaining'}, $limit - ++$used{$store}, "a host, $path: counts in the store $store, apart from the server");
    }
}

# --- failure= : Redis is away

SKIP: {
    skip 'the module was built without Redis', 1 if !RLP::Httpd::has_redis();
    for my $usual ('closed', 'open') {
        my $server = server("RateLimitStore far redis url=redis://127.0.0.1:1/0 timeout=5s connect=5s recovery=30s failure=$usual\nRateLimitStore near shm size=1M\n" . <<'END')->start;
RateLimitRule r rate=9/hour
<Location "/open">
    RateLimitRule r rate=9/hour failure=open
    <If "req('X-If') == 'closed'">
        RateLimitRule r rate=9/hour failure=closed sync=lease
    </If>
    <If "req('X-If') == 'usual'">
        RateLimitRule r rate=9/hour sync=lease
    </If>
</Location>
<Location "/open/closed">
    RateLimitRule r rate=9/hour failure=closed
</Location>
<Location "/open/usual">
    RateLimitRule r rate=9/hour
</Location>
<Location "/open/near">
    RateLimitRule r rate=9/hour store=near
</Location>
<Location "/two">
    RateLimitRule s rate=9/hour failure=open
</Location>
<Location "/near/two">
    RateLimitRule r rate=9/hour failure=open
    RateLimitRule s rate=7/hour store=near
</Location>
END
        my %is = (closed => '503 - error', open => '200 - error');
        for my $case (
            ['/', '', $is{$usual}], ['/open', '', $is{open}], ['/open', 'closed', $is{closed}], ['/open', 'usual', $is{$usual}],
            ['/open', 'no', $is{open}], ['/open/closed', '', $is{closed}], ['/open/usual', '', $is{$usual}],
            ['/open/usual', 'closed', $is{closed}], ['/open/near', '', '200 "r";r=8 -'], ['/two', '', $is{$usual}], ['/near/two', '', '200 "s";r=6 error'],
        ) {
            my ($path, $if, $expected) = @$case;
            is(told($server, $path, $if ? "X-If: $if" : ()), $expected, "failure=$usual of the store, $path" . ($if ? ", If $if" : ''));
        }
    }
}

# --- .htaccess

{
    my $server = server("${two}<Directory \"\@DIR\@/htdocs/tenants\">\nAllowOverride Limit\n</Directory>\nRateLimitRule r rate=9/hour store=beside");
    mkdir $server->dir . '/htdocs/tenants';
    my $tenant = sub {
        my ($name, $text) = @_;
        mkdir $server->dir . "/htdocs/tenants/$name";
        $server->file("htdocs/tenants/$name/ok.txt", "ok\n");
        $server->file("htdocs/tenants/$name/.htaccess", "$text\n");
        return "/tenants/$name/ok.txt";
    };
    $server->start;
    my $n = 0;
    for my $case (
        # words, what the log says
        (map { [$_, "expected no store= in .htaccess, got \"$_\""] } 'store=near', 'store=beside', 'store=nowhere', 'store=9', 'store='),
        (map { [$_, "expected no failure= in .htaccess, got \"$_\""] } 'failure=open', 'failure=closed', 'failure=local'),
        (map { [$_, "expected no sync= in .htaccess, got \"$_\""] } 'sync=exact', 'sync=lease'),
        ['failure=opne', 'expected failure=local, open or closed, got "failure=opne" (open?)'],
        ['sync=leese', 'expected sync=exact or lease, got "sync=leese" (lease?)'],
        ['stoer=near', 'got "stoer=near" (store=?)'],
        ['key=k=header:X', 'expected an identity that the server\'s configuration has declared, got "k=header:X"'],
        ['phase=early', 'expected key= with phase=early'],
        ['store=near key=ip', 'expected no store= in .htaccess, got "store=near"'],
    ) {
        my ($words, $said) = @$case;
        for my $around (['', ''], ["<Files ok.txt>\n", "\n</Files>"], ["<If \"true\">\n", "\n</If>"]) {
            my $path = $tenant->('wrong' . ++$n, "$around->[0]RateLimitRule mine rate=5/hour $words$around->[1]");
            my $before = length $server->log_text;
            my ($section) = $around->[0] =~ /<(\w+)/;
            is($server->get($path)->{status}, 500, "$words in " . ($section ? "$section of " : '') . '.htaccess: 500');
            like(substr($server->log_text, $before), qr{/wrong$n/[.]htaccess: .*RateLimitRule: .*\Q$said\E}, '... and a line of the log');
        }
    }
    is(told($server, $tenant->('adds', 'RateLimitRule mine rate=5/hour')), '200 "mine";r=4, "r";r=8 -', 'a rule of .htaccess counts beside that in another store');
    is(told($server, $tenant->('same', 'RateLimitRule r rate=99/hour')), '200 "r";r=7 -', 'and takes the place of none');
    like($server->log_text, qr{RLP020: line 1 of \S* ?.*same/[.]htaccess: RateLimitRule r is ignored}, '... as the log says');
    is(join(' ', map { $server->get('/tenants/adds/ok.txt')->{status} } 1 .. 5), '200 200 200 200 429', 'it refuses');
    is(told($server, '/other'), '200 "r";r=2 -', 'and what it refuses is not charged in the other store');
}

# --- in words

SKIP: {
    skip 'the module was built without Redis', 1 if !RLP::Httpd::has_redis();
    my $server = RLP::Httpd->new;
    my ($dir, $file) = ($server->dir, $server->config_file);
    $server->file('keys', "alice gold\n");
    $server->configure(<<'END');
RateLimitStore near shm size=2M
RateLimitStore beside shm size=4M file=counters
RateLimitStore far redis url=redis://127.0.0.1:6390/3 failure=closed secret=env:PATH
RateLimitStore leased redis url=redis-sentinel://a.example,b.example:26380/main/1 sync=lease hosts=3 secret=env:PATH
RateLimitStore wide redis url=redis-cluster://c.example:7000 failure=open secret=env:PATH
RateLimitPlan gold rate=100/min quota=5000/month concurrent=4
RateLimitPlan free rate=10/min then=slow quota=100/day
RateLimitPlan slow rate=1/min
RateLimitIdentity key=header:X-Key sid=cookie:sid user ip
RateLimitPlanMap key redis:plan:%s unknown=deny:401
RateLimitPlanMap sid "redis=wide:plans %h" ttl=5min
RateLimitPlanMap user txt:keys unknown=next
RateLimitPlanDefault free
RateLimitPlanChange reset
RateLimitEngine On
RateLimitHeaders Both reset=epoch denied
RateLimitDenyStatus 503
RateLimitEnv always
RateLimitExempt ip 192.0.2.0/24
RateLimitRefund "expr=%{REQUEST_STATUS} -ge 500"
RateLimitCost 2
RateLimitDelay max=5s budget=20%
RateLimitKeyLog hash repeat=10min
RateLimitRule site
RateLimitRule burst rate=5/s plan=none key=ip store=beside
RateLimitRule shared rate=5/s plan=none key=global store=far
RateLimitRule quick rate=500/s plan=none key=ip store=leased failure=closed sync=exact method=GET
RateLimitRule calm rate=500/s plan=none key=ip store=wide failure=local sync=lease mode=log
<Location "/api/">
    RateLimitRule burst rate=50/s plan=none key=ip
    RateLimitRule shared rate=5/s plan=none store=far failure=open action=delay:1s
    RateLimitRule quick Off
    RateLimitRule early rate=9/s plan=none key=ip phase=early store=beside cost=3
    <If "true">
        RateLimitRule shared rate=7/s plan=none store=wide action=mark path=/api/** priority=5
    </If>
</Location>
<VirtualHost *:80>
    ServerName one.example
    RateLimitEngine LogOnly
    RateLimitRule burst Off
    RateLimitRule one plan=gold store=beside
</VirtualHost>
END
    my ($code, $said) = $server->configtest('-D', 'DUMP_RATELIMIT');
    is($code, 0, 'DUMP_RATELIMIT of everything: exit code');
    is($said, <<"END", 'DUMP_RATELIMIT of everything: in words');
Rate limit store: 2048 kB of shared memory in the runtime directory
Rate limit store beside: 4096 kB of shared memory in $dir/counters
Rate limit store far: Redis at redis://127.0.0.1:6390/3; failure=closed
Rate limit store leased: Redis at redis-sentinel://a.example:26379,b.example:26380/main/1; sync=lease; failure=local, one of 3 hosts
Rate limit store wide: Redis at redis-cluster://c.example:7000; failure=open
Rate limit plans:
  gold: 100 at once, then 100 per minute; at most 5 000 a month (UTC); at most 4 at the same time
  free: 10 at once, then 1 every 6 seconds; at most 100 a day (UTC); beyond the quota as slow
  slow: 1 at once, then 1 per minute
Rate limit identities:
  key: the header field X-Key, if a plan map knows it ($file:9)
  sid: the cookie sid, if a plan map knows it ($file:9)
Rate limit rules:
  site: the plan of whom is counted; without one: plan free ($file:24)
  burst: for everybody: 5 at once, then 5 per second, counted by ip, in the store beside ($file:25)
  shared: for everybody: 5 at once, then 5 per second, counted by global, in the store far ($file:26)
  quick: for everybody: 500 at once, then 500 per second, counted by ip, for GET, in the store leased, failure=closed, sync=exact ($file:27)
  calm: for everybody: 500 at once, then 500 per second, counted by ip, in the store wide, failure=local, sync=lease, a dry run ($file:28)
  burst in <Location "/api/">: for everybody: 50 at once, then 50 per second, counted by ip ($file:30)
  shared in <Location "/api/">: for everybody: 5 at once, then 5 per second, waits up to 1 s, in the store far, failure=open ($file:31)
  quick in <Location "/api/">: off ($file:32)
  early in <Location "/api/">: for everybody: 9 at once, then 9 per second, counted by ip, costs 3, before authentication, in the store beside ($file:33)
  shared in <If "true">: for everybody: 7 at once, then 7 per second, for the path /api/**, an alternative of priority 5, in the store wide, marks and refuses nobody ($file:35)
  burst\@one.example: off ($file:41)
  one\@one.example: plan gold for everybody, in the store beside ($file:42)
Rate limit settings:
  server: engine on; counts key, else sid, else user, else ip; a request costs 2; given back under a condition; exempt: 1 networks of IPv4 and 0 of IPv6; header fields IETF and Legacy, reset as an instant, on refusals alone; refuses with 503; variables always; plans of key by keys in Redis, else refused with 401; plans of sid by a hash in Redis, else the next identity; plans of user by $dir/keys, else the next identity; without a plan: free; a new plan starts full; waits up to 5 s in 20% of the threads; refusals are told with digests, again after 600 s; rules site, burst, shared, quick, calm
  host one.example: engine on as a dry run; counts key, else sid, else user, else ip; a request costs 2; given back under a condition; exempt: 1 networks of IPv4 and 0 of IPv6; header fields IETF and Legacy, reset as an instant, on refusals alone; refuses with 503; variables always; plans of key by keys in Redis, else refused with 401; plans of sid by a hash in Redis, else the next identity; plans of user by $dir/keys, else the next identity; without a plan: free; a new plan starts full; waits up to 5 s in 20% of the threads; refusals are told with digests, again after 600 s; rules site, shared, quick, calm, one\@one.example ($file:38)
Syntax OK
END
}

done_testing;
