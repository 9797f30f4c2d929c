#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# httpd -t -D DUMP_RATELIMIT tells a configuration in words.

use strict;
use warnings;

use Test::More;

use RLP::Configtest;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $server = server_with('env');
my $file = $server->config_file;
my $dir = $server->dir;

{
    my $config = <<'END';
RateLimitPlan free rate=1/s burst=60 rate=1000/day algorithm=fixed-window
RateLimitPlan pro rate=100/min burst=200.5 initial=20 quota=1000000
RateLimitPlan none-at-all quota=0
RateLimitPlan month quota=5000/month@Europe/Berlin concurrent=4 then=free
RateLimitPlanDefault free
RateLimitRule site
<Location "/api/">
    RateLimitRule site Off
    RateLimitRule api rate=4/5s key=vhost+ip method=POST,put
    RateLimitRule login rate=5/10min plan=none key=ip "if=%{REQUEST_METHOD} == 'POST'"
    RateLimitRule paid plan=pro method=!OPTIONS
    RateLimitRule step rate=2/500ms burst=10 algorithm=stepped-bucket plan=none
    RateLimitRule no plan=none-at-all
    RateLimitRule export rate=9/s plan=none cost=2.5 action=delay
    RateLimitRule sized rate=9/s plan=none "cost=expr=%{HTTP:X-Size}" action=delay:250ms
    RateLimitRule told rate=9/s plan=none cost=response-header:X-Cost reserve=3 action=delay:2s key=ip
    RateLimitRule guess rate=9/s plan=none "count=response:%{REQUEST_STATUS} -eq 401"
    RateLimitRule busy plan=month
    RateLimitRule health rate=1/s plan=none path=/api/**/health method=GET
    RateLimitRule items rate=1/s plan=none path=/api/items/* priority=10
    RateLimitRule trial rate=1/s plan=none mode=log
    RateLimitRule busier rate=1/s plan=none action=mark
    RateLimitRule guesses rate=1/s plan=none key=ip phase=early
</Location>
RateLimitDelay max=5s
<VirtualHost *:80>
    ServerName shop.example
    RateLimitRule shop
</VirtualHost>
END
    chomp $config;
    my ($code, undef, $said) = tested($config, '-D', 'DUMP_RATELIMIT');
    is($code, 0, 'DUMP_RATELIMIT: exit code');
    is($said, <<"END", 'DUMP_RATELIMIT: plans and rules in words');
Rate limit store: 16384 kB of shared memory in the runtime directory
Rate limit plans:
  free: 60 at once, then 1 per second; at most 1 000 in each day
  pro: 200.500 at once (20 at first), then 100 per minute; at most 1 000 000 ever
  none-at-all: blocked
  month: at most 5 000 a month (Europe/Berlin); at most 4 at the same time; beyond the quota as free
Rate limit rules:
  site: the plan of whom is counted; without one: plan free ($file:6)
  site in <Location "/api/">: off ($file:8)
  api in <Location "/api/">: the plan of whom is counted; without one: 4 at once, then 4 every 5 seconds, counted by vhost+ip, for POST,PUT ($file:9)
  login in <Location "/api/">: for everybody: 5 at once, then 1 every 2 minutes, counted by ip, under a condition ($file:10)
  paid in <Location "/api/">: plan pro for everybody, not for OPTIONS ($file:11)
  step in <Location "/api/">: for everybody: 10 at once, then 2 more at the end of each period of 500 ms ($file:12)
  no in <Location "/api/">: plan none-at-all for everybody ($file:13)
  export in <Location "/api/">: for everybody: 9 at once, then 9 per second, costs 2.500, waits as long as RateLimitDelay allows ($file:14)
  sized in <Location "/api/">: for everybody: 9 at once, then 9 per second, costs what an expression says, waits up to 250 ms ($file:15)
  told in <Location "/api/">: for everybody: 9 at once, then 9 per second, counted by ip, costs what X-Cost of the response says (3 until then), waits up to 2 s ($file:16)
  guess in <Location "/api/">: for everybody: 9 at once, then 9 per second, counted by the response ($file:17)
  busy in <Location "/api/">: plan month for everybody ($file:18)
  health in <Location "/api/">: for everybody: 1 at once, then 1 per second, for GET, for the path /api/**/health ($file:19)
  items in <Location "/api/">: for everybody: 1 at once, then 1 per second, for the path /api/items/*, an alternative of priority 10 ($file:20)
  trial in <Location "/api/">: for everybody: 1 at once, then 1 per second, a dry run ($file:21)
  busier in <Location "/api/">: for everybody: 1 at once, then 1 per second, marks and refuses nobody ($file:22)
  guesses in <Location "/api/">: for everybody: 1 at once, then 1 per second, counted by ip, before authentication ($file:23)
  shop\@shop.example: the plan of whom is counted; without one: plan free ($file:28)
Rate limit settings:
  server: engine on; without a plan: free; waits up to 5 s in 10% of the threads; rules site
  host shop.example: engine on; without a plan: free; waits up to 5 s in 10% of the threads; rules site, shop\@shop.example ($file:26)
Syntax OK
END
}
{
    my $config = <<'END';
RateLimitStore counters shm size=2M file=counters
RateLimitPlan free rate=10/min
RateLimitIdentity apikey=header:X-API-Key session=cookie:sid user ip/24,48
RateLimitPlanMap apikey txt:keys-free unknown=deny:401
RateLimitPlanMap session txt:keys-free
RateLimitPlanDefault free
RateLimitEngine On
RateLimitHeaders IETF
RateLimitExempt ip 192.0.2.0/24 198.51.100.0/24 2001:db8::/32
RateLimitExempt "expr=%{REQUEST_METHOD} == 'OPTIONS'"
RateLimitKeyLog plain repeat=10min
RateLimitRule site
<VirtualHost *:80>
    ServerName one.example
    RateLimitEngine LogOnly
    RateLimitIdentity org=env:ORG "tenant=expr:%{tolower:%{HTTP_HOST}}" anonymous
    RateLimitPlanChange reset
    RateLimitPlanMap user txt:keys-free unknown=next
    RateLimitDelay max=250ms budget=20%
    RateLimitKeyLog hash repeat=0
    RateLimitCost 2
    RateLimitRule site Off
    RateLimitRule one
    <Location "/api">
        RateLimitEngine On
        RateLimitHeaders Both reset=epoch denied
        RateLimitCost response-header:X-Cost reserve=3
        RateLimitRefund "expr=%{REQUEST_STATUS} -ge 500"
        RateLimitDenyStatus 503
        RateLimitEnv always
        RateLimitIdentity vhost+ip
        <If "true">
            RateLimitHeaders Off
            RateLimitEnv auto
        </If>
    </Location>
    <Location "/rules">
        RateLimitRule two rate=1/s
    </Location>
</VirtualHost>
<Directory "/x">
    RateLimitCost "expr=%{HTTP:X}"
    RateLimitHeaders Legacy
</Directory>
END
    chomp $config;
    $server->file('keys-free', "one free\ntwo free\n");
    my ($code, undef, $said) = tested($config, '-D', 'DUMP_RATELIMIT');
    is($code, 0, 'DUMP_RATELIMIT of settings: exit code');
    my $maps = "plans of apikey by $dir/keys-free, else refused with 401; plans of session by $dir/keys-free, else the next identity";
    is($said, <<"END", 'DUMP_RATELIMIT: settings in words');
Rate limit store: 2048 kB of shared memory in $dir/counters
Rate limit plans:
  free: 10 at once, then 1 every 6 seconds
Rate limit identities:
  apikey: the header field X-API-Key, if a plan map knows it ($file:3)
  org: the variable ORG ($file:16)
  session: the cookie sid, if a plan map knows it ($file:3)
  tenant: the expression %{tolower:%{HTTP_HOST}} ($file:16)
Rate limit rules:
  site: the plan of whom is counted; without one: plan free ($file:12)
  site\@one.example: off ($file:22)
  one\@one.example: the plan of whom is counted; without one: plan free ($file:23)
  two\@one.example in <Location "/rules">: the plan of whom is counted; without one: 1 at once, then 1 per second ($file:38)
Rate limit settings:
  server: engine on; counts apikey, else session, else user, else ip/24,48; exempt: 2 networks of IPv4 and 1 of IPv6, who meets an expression; header fields IETF; $maps; without a plan: free; refusals are told plainly, again after 600 s; rules site
  host one.example: engine on as a dry run; counts org, else tenant, else anonymous; a request costs 2; exempt: 2 networks of IPv4 and 1 of IPv6, who meets an expression; header fields IETF; $maps; plans of user by $dir/keys-free, else the next identity; without a plan: free; a new plan starts full; waits up to 250 ms in 20% of the threads; refusals are told with digests, each time; rules one\@one.example ($file:13)
  <Location "/api"> of host one.example: engine on; counts vhost+ip; a request costs what X-Cost of the response says (3 until then); given back under a condition; header fields IETF and Legacy, reset as an instant, on refusals alone; refuses with 503; variables always ($file:24)
  <If "true"> of host one.example: no header fields; variables where something happens ($file:32)
  <Directory "/x">: a request costs what an expression says; header fields Legacy ($file:41)
Syntax OK
END
}
{
    my (undef, undef, $said) = tested(<<'END', '-D', 'DUMP_RATELIMIT');
RateLimitPlan free rate=10/min
RateLimitPlan pro rate=20/min
RateLimitPlanDefault free
RateLimitPlanChange reset
RateLimitDelay max=5s budget=50%
RateLimitRule site
<VirtualHost *:80>
    ServerName one.example
    RateLimitPlanDefault pro
    RateLimitPlanChange carry
    RateLimitDelay max=1s budget=20%
</VirtualHost>
<VirtualHost *:80>
    ServerName two.example
    RateLimitEngine On
</VirtualHost>
END
    my ($whole) = $said =~ /^  server: engine off; (.*); rules site$/m;
    is($whole, 'without a plan: free; a new plan starts full; waits up to 5 s in 50% of the threads', 'settings of the server');
    like($said, qr/^  host one\.example: engine off; without a plan: pro; a new plan keeps what is used; waits up to 1 s in 20% of the threads; rules site /m, 'a host has its own');
    like($said, qr/^  host two\.example: engine on; \Q$whole\E; rules site /m, 'another those of the server');
}
{
    my $networks = join ' ', map { "192.0.2.$_" } 1 .. 200;
    my (undef, undef, $said) = tested("RateLimitExempt ip $networks", '-D', 'DUMP_RATELIMIT');
    like($said, qr/; exempt: 200 networks of IPv4 and 0 of IPv6$/m, 'two hundred networks in one directive');
}
ok(!-e "$dir/run/ratelimit-default.shm" && !-e "$dir/run/ratelimit-x.shm", 'httpd -t makes no store');

done_testing;
