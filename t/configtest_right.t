#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# httpd -t: right directives pass without a word, those that are hardly meant with a warning that names the line.

use strict;
use warnings;

use Test::More;

use RLP::Configtest;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $server = server_with('env');
my $dir = $server->dir;

# --- likely mistakes

warns('a header identity without a map', 'RateLimitIdentity k=header:X-Key ip', 1, 'the identity "k" is never used');
warns('a header identity of a key= without a map', "RateLimitEngine On\nRateLimitRule r rate=1/s key=k=header:X-Key", 2, '"k" is never used');
warns("an identity behind $_->[0]", "RateLimitEngine On\nRateLimitIdentity user $_->[0] vhost+user", 2, qr{nothing behind "\Q$_->[1]\E" is ever used})
    for map { ref ? $_ : [$_, $_] } 'ip', 'vhost', 'global', 'anonymous', 'vhost+ip', ['ip/24', 'ip/24,64'];
passes("an identity behind $_", "RateLimitIdentity $_ ip") for 'user', 'vhost+user', 'cert', 'ip+user';
passes("an identity behind $_, where unknown ones are passed over", "${plans}RateLimitIdentity $_ user\nRateLimitPlanMap ip txt:empty unknown=next") for 'ip', 'vhost+ip', 'ip/24';
warns('an identity behind ip, where unknown ones are refused', "${plans}RateLimitIdentity ip user\nRateLimitPlanMap ip txt:empty unknown=deny", 3, 'nothing behind "ip" is ever used');
warns('an identity behind ip, where unknown ones of another type are passed over', "${plans}RateLimitIdentity ip vhost\nRateLimitPlanMap vhost txt:empty unknown=next", 3,
    'nothing behind "ip" is ever used');
warns('R-26 a query behind path=', 'RateLimitRule r rate=1/s path=/search?q=x', 1, 'path= is compared with the path alone, which has no query');
warns('a cookie as identity without a map', 'RateLimitIdentity k=cookie:sid ip', 1, 'the identity "k" is never used');
warns('a plan that nobody uses', "RateLimitEngine On\nRateLimitPlan p rate=1/s\nRateLimitRule r rate=1/s", 2, '"p"');
warns('B-20 a section that costs more than its rule has', "RateLimitRule r rate=2/s\nRateLimitCost 5", 1,
    'RateLimitCost of this section: expected a cost of at most 2, which is all that "r" ever has at once, got 5: each request is refused');
warns('B-20 and more than the plan of its rule has', "RateLimitPlan p rate=2/s\n<Location \"/x\">\nRateLimitCost 5\nRateLimitRule r plan=p\n</Location>", 4, 'expected a cost of at most 2, which is all that "p" ever has at once, got 5');
warns('B-20 a rule that never has a unit', 'RateLimitRule r rate=5/s burst=.5', 1,
    'without cost=: expected a cost of at most 0.500, which is all that "r" ever has at once, got 1: each request is refused');
passes("B-20 a rule that never has a unit, $_->[0]", "RateLimitRule r rate=5/s burst=.5 $_->[1]")
    for ['with a cost', 'cost=.5'], ['where a section may have one', "\n<Location \"/x\">\nRateLimitCost .5\n</Location>"];
passes("a section that costs $_->[0]", "RateLimitRule r rate=2/s $_->[1]\n<Location \"/x\">\nRateLimitRule s rate=9/s\n$_->[2]\n</Location>")
    for ['as much as its rule has', '', 'RateLimitCost 9'], ['more than a rule outside has', '', 'RateLimitCost 5'],
    ['more than a rule with a cost of its own', 'cost=1', "RateLimitCost 5"], ['what an expression says', '', 'RateLimitCost expr=99'];
warns('a rule without limits', "RateLimitEngine On\nRateLimitRule r", 2, 'the rule counts nobody: it has no limits, and there is neither a RateLimitPlanDefault nor a RateLimitPlanMap');
warns('a rule of the name of one with limits', "RateLimitRule r rate=1/s\n<Location \"/x\">\nRateLimitRule r key=ip\n</Location>", 3, 'the rule counts nobody');
warns("rules where the engine is $_->[0]", "# RateLimitEngine\n$_->[1]\nRateLimitRule r rate=1/s\n$_->[2]", 3, 'RateLimitEngine On turns rules on, and stands nowhere')
    for [ 'nowhere on', '', '' ], [ 'off', 'RateLimitEngine Off', qq(<Location "/x">\nRateLimitEngine Off\n</Location>) ];
passes("rules where the engine is $_->[0]", "RateLimitRule r rate=1/s\n$_->[1]")
    for [ 'on in a section', qq(<Location "/x">\nRateLimitEngine On\n</Location>) ], [ 'on in a host', "<VirtualHost *:80>\nRateLimitEngine On\n</VirtualHost>" ],
    [ 'on as a dry run', 'RateLimitEngine LogOnly' ];
sub sections {
    my @rules = @_;
    my $path = 'a';
    return join '', map { my $section = "<Location \"/" . $path++ . "\">\n$_\n</Location>\n"; $section } @rules;
}
warns("a bucket of three sizes: $_->[0]", sections(map { "RateLimitRule r $_" } @{$_}[1 .. 3]) . ($_->[4] // ''), 8,
    'the rule "r" has the bucket of lines 2 and 5 under a third limit')
    for [ 'a smaller one', 'rate=100/min', 'rate=50/min', 'rate=9/min' ], [ 'of other bursts', 'rate=50/min', 'rate=50/min burst=51', 'rate=50/min burst=52' ],
    [ 'steps', map { "rate=$_/s algorithm=stepped-bucket" } 2, 3, 4 ], [ 'leaking', map { "rate=$_/s algorithm=leaky-bucket" } 2, 3, 4 ],
    [ 'plans', 'plan=free', 'plan=pro', 'plan=one', "RateLimitPlan free rate=10/min\nRateLimitPlan pro rate=100/min\nRateLimitPlan one rate=1/min" ],
    [ 'the second limit', 'rate=10/min', 'rate=11/min', 'plan=none rate=1/s rate=9/min' ],
    [ 'the plan that takes over', 'rate=10/min', 'plan=free', 'plan=pro', "RateLimitPlan free rate=20/min\nRateLimitPlan pro quota=9/day then=one\nRateLimitPlan one rate=1/min" ],
    [ 'the default', 'rate=10/min', 'rate=20/min', 'cost=1', "RateLimitPlanDefault free\nRateLimitPlan free rate=30/min" ],
    [ 'of one key', 'rate=10/min key=ip', 'rate=20/min', 'rate=30/min key=ip' ],
    [ 'trials', 'rate=10/min mode=log', 'rate=20/min mode=log', "rate=30/min\nRateLimitEngine LogOnly" ];
my $more = $server->file('more.conf', qq(<Location "/more">\nRateLimitRule r rate=9/s\n</Location>\n));
warns('a bucket of three sizes, in two files', qq(Include "$more"\n) . sections('RateLimitRule r rate=1/s', 'RateLimitRule r rate=2/s'), 6,
    qr/the rule "r" has the bucket of line 2 of \Q$more\E and line 3 of \S.*tested[.]conf under a third limit/);
my $two = "RateLimitPlan pro rate=100/min quota=9/day then=one\nRateLimitPlan one rate=1/min\n";
warns('a bucket of three sizes, two of one rule', sections('RateLimitRule r plan=pro', 'RateLimitRule r plan=none rate=30/min') . $two, 5,
    'the rule "r" has the bucket of line 2 under a third limit');
$more = $server->file('more.conf', qq(<Location "/more">\nRateLimitRule r plan=pro\n</Location>\n));
warns('a bucket of three sizes, two of one rule in another file', qq(Include "$more"\n) . sections('RateLimitRule r plan=none rate=30/min') . $two, 3,
    qr/the rule "r" has the bucket of line 2 of \Q$more\E under a third limit/);
passes("three buckets: $_->[0]", "RateLimitIdentity page=expr:%{REQUEST_URI} ip\n" . sections("RateLimitRule $_->[1]", "RateLimitRule $_->[2]", 'RateLimitRule r rate=7/min') . ($_->[3] // ''))
    for [ 'by their stores', 'r rate=9/min', 'r rate=5/min store=beside', "RateLimitStore near shm\nRateLimitStore beside shm" ], [ 'a trial', 'r rate=9/min', 'r rate=5/min mode=log' ],
    [ 'by their names', 'r rate=100/min', 's rate=50/min' ], [ 'by their periods', 'r rate=100/min', 'r rate=50/s' ], [ 'by their kinds', 'r rate=100/min', 'r rate=50/min algorithm=sliding-log' ],
    [ 'a section on trial', 'r rate=9/min', "r rate=5/min\nRateLimitEngine LogOnly", 'RateLimitEngine On' ],
    [ 'a host on trial', 'r rate=9/min', "r rate=5/min\nRateLimitEngine On", 'RateLimitEngine LogOnly' ],
    [ 'of which two are one', 'r rate=100/min', 'r rate=100/min burst=100' ], [ 'by whom they count', 'r rate=9/min key=ip', 'r rate=5/min key=vhost' ];
passes("three counters: $_->[0]", "RateLimitIdentity page=expr:%{REQUEST_URI} ip\n" . sections(map { "RateLimitRule r $_" } @{$_}[1 .. 3]))
    for [ 'one for each page', map { "rate=$_/min key=ip+page=expr:%{REQUEST_URI}" } 2, 3, 4 ], [ 'quotas', map { "quota=$_/day" } 2, 3, 4 ],
    [ 'for good', map { "quota=$_" } 2, 3, 4 ], [ 'windows', map { "rate=$_/min algorithm=fixed-window" } 2, 3, 4 ];
warns('a slip in the name of a rule that is taken out', "RateLimitRule login rate=1/s\n<Location \"/x\">\nRateLimitRule logn Off\n</Location>", 3,
    qr/there is no rule "logn" to be taken out \(login\?\)/);
passes('a rule of another host that is taken out everywhere', "RateLimitRule r Off\n<VirtualHost *:80>\nRateLimitRule r rate=1/s\n</VirtualHost>");
warns('a default of another host', "RateLimitPlan p rate=1/s\n<VirtualHost *:80>\nRateLimitRule r\n</VirtualHost>\n<VirtualHost *:81>\nRateLimitPlanDefault p\n</VirtualHost>",
    3, 'the rule counts nobody');
warns('a map of another host', "RateLimitPlan p rate=1/s\n<VirtualHost *:80>\nRateLimitRule r\n</VirtualHost>\n<VirtualHost *:81>\nRateLimitPlanMap user txt:empty\n</VirtualHost>",
    3, 'the rule counts nobody');
passes('a rule for hosts of which one has a map', "RateLimitPlan p rate=1/s\nRateLimitRule r\n<VirtualHost *:80>\nRateLimitPlanMap user txt:empty\n</VirtualHost>");
passes('a rule of a host by the map of the server', "RateLimitPlan p rate=1/s\nRateLimitPlanMap user txt:empty\n<VirtualHost *:80>\nRateLimitRule r\n</VirtualHost>");
passes('a rule for hosts of which one has a default', "RateLimitPlan p rate=1/s\nRateLimitRule r\n<VirtualHost *:80>\nRateLimitPlanDefault p\n</VirtualHost>");
passes('a rule of a host by the default of the server', "RateLimitPlan p rate=1/s\nRateLimitPlanDefault p\n<VirtualHost *:80>\nRateLimitRule r\n</VirtualHost>");
warns('a forwarding header as identity', "${plans}RateLimitRule r\nRateLimitPlanDefault free\nRateLimitRule s plan=pro\n"
    . "RateLimitIdentity k=header:X-Forwarded-For ip\nRateLimitPlanMap k txt:keys", 6, 'X-Forwarded-For');

warns("a forwarding header as identity: $_", "${plans}RateLimitRule r\nRateLimitPlanDefault free\nRateLimitRule s plan=pro\n"
    . "RateLimitIdentity k=header:$_ ip\nRateLimitPlanMap k txt:keys", 6, qr/the identity "k" is what any client writes into \Q$_\E: use ip, and mod_remoteip/)
    for qw(Forwarded X-Real-IP CF-Connecting-IP True-Client-IP X-Client-IP Client-IP X-Cluster-Client-IP Fly-Client-IP);
warns("a forwarding header in an expression: $_", "RateLimitIdentity \"k=expr:%{tolower:%{HTTP:$_}}\" ip", 1,
    qr/the identity "k" is what any client writes into X-Forwarded-For: use ip, and mod_remoteip/) for qw(X-Forwarded-For x-forwarded-for);
passes('a header that is no forwarding one in an expression', 'RateLimitIdentity "k=expr:%{HTTP:X-Tenant}" ip');
passes('a rule that nobody but one plan refers to', "RateLimitPlan p rate=1/s\nRateLimitRule r plan=p");
warns('a plan that only a plan without use names', "RateLimitPlan p quota=5 then=q\nRateLimitPlan q rate=1/s\nRateLimitRule r rate=1/s", 1,
    'nobody has the plan "p", unless a .htaccess or rlpctl set-plan names it: ');

# A map of 20 000 values, half of them with two quotas and one with none: 10 000 * 2 + 9 999.
$server->file('large', join '', map { "key$_ " . ($_ % 2 ? 'two' : 'one') . "\n" } 1 .. 20_000);
my $quotas = "RateLimitPlan one rate=1/s quota=9\nRateLimitPlan two rate=1/s quota=9/day quota=99/month\n";
warns('a store too small for its quotas', "RateLimitStore x shm size=1M\n${quotas}RateLimitPlanMap user txt:large\nRateLimitRule r", 4,
    qr/the store is too small for all quotas: 30000 by rule r for 20000 values of "user"; size=1M has room for 124\d\d counters and forgets some, size=4M has room for \d{5}/);
warns('a store too small for the quotas of two rules', "RateLimitStore x shm size=2M\n${quotas}RateLimitPlanMap user txt:large\nRateLimitRule r\nRateLimitRule s plan=one", 4,
    qr/too small for all quotas: 30000 by rule r for 20000 values of "user", 20000 by rule s for 20000 values of "user"; size=2M has/);
warns('a store too small for the quotas of one host', "RateLimitStore x shm size=1M\n${quotas}RateLimitPlanMap user txt:large\n<VirtualHost *:80>\nRateLimitRule v plan=one\n</VirtualHost>",
    4, qr/20000 by rule v for 20000 values of "user"/);
warns('the second store too small for its quotas', "RateLimitStore x shm size=4M\nRateLimitStore y shm size=1M\n${quotas}RateLimitPlanMap user txt:large\nRateLimitRule r store=y", 5,
    qr/the store "y" is too small for all quotas: 30000 by rule r for 20000 values of "user"; size=1M has/);
warns('each of two stores too small for its quotas', "RateLimitStore x shm size=1M\nRateLimitStore y shm size=1M\n${quotas}RateLimitPlanMap user txt:large\nRateLimitRule r\nRateLimitRule s store=y", 5,
    qr/the store "x" is too small for all quotas: 30000 by rule r .*the store "y" is too small for all quotas: 30000 by rule s /s);
passes("quotas of several stores: $_->[0]", "RateLimitStore x shm size=$_->[1]\nRateLimitStore y $_->[2]\n${quotas}RateLimitPlanMap user txt:large\nRateLimitRule r store=y$_->[3]")
    for ['counted in the larger one', '1M', 'shm size=4M', ''], ['shared', '2M', 'shm size=4M', "\nRateLimitRule s plan=one"],
    RLP::Httpd::has_redis() ? ['counted in Redis', '1M', 'redis url=redis://127.0.0.1:1/0', ''] : ();
passes("quotas that have room: $_->[0]", "RateLimitStore x shm size=$_->[1]\n${quotas}RateLimitPlanMap user txt:large\n$_->[2]")
    for ['a larger store', '4M', 'RateLimitRule r'], ['addresses are counted', '1M', 'RateLimitRule r key=ip'], ['the rule has limits for everybody', '1M', 'RateLimitRule r plan=none rate=1/s'],
    ['no rule', '1M', ''], ['Off', '1M', "RateLimitRule r Off\n<Location /x>\nRateLimitRule r rate=1/s plan=none\n</Location>"], ['one name in two sections', '2M', "RateLimitRule r plan=one\n<Location /x>\nRateLimitRule r plan=one\n</Location>"],
    ['one in each host', '2M', "RateLimitRule r plan=one\n<VirtualHost *:80>\nRateLimitRule r plan=one\n</VirtualHost>"];

# --- what is right

passes('nothing', '');
passes('V-15 limits without Redis', "RateLimitStore x shm\nRateLimitEngine On\nRateLimitRule r rate=10/min");
passes("RateLimitEngine $_", "RateLimitEngine $_") for qw(On off LOGONLY);
passes("a store of size=$_", "RateLimitStore x shm size=$_") for qw(1M 1m 1024K 1048576 16M 2G 1024G);
passes('a store with a file and a blank in it', qq{RateLimitStore x shm "file=a store" size=1M});
passes('a limit: ' . $_, "RateLimitPlan p $_\nRateLimitRule r $_\nRateLimitRule s plan=p")
    for (map { "rate=$_" } qw(5/second 5/sec 5/s 5/seconds 10/minute 10/min 10/m 10/minutes 100/hour 100/h 100/hours 1000/day 1000/d
        1000/days 5/2minutes 100/week 30/500ms 1/s 4/5s 5/MIN)),
    'rate=2/500ms burst=10 algorithm=stepped-bucket', 'rate=1/s burst=2.2', 'rate=1/s burst=2.222', 'rate=1/2200ms',
    (map { "rate=1/s initial=$_" } qw(0 0.5 .5 1)), 'quota=5', 'quota=0', 'quota=5 initial=1',
    'quota=5/day', 'quota=5/Weeks@UTC', 'quota=5/month@local', 'quota=0/year', 'RATE=1/s BURST=2',
    'rate=1/day algorithm=fixed-window start=2026-01-31T06:00:00+02:00', 'rate=1/s rate=100/hour rate=1000/day algorithm=fixed-window',
    join(' ', ('rate=1/s') x 8);
passes('like=', "RateLimitPlan p rate=1/s\nRateLimitPlan q like=p quota=5\nRateLimitRule r plan=p\nRateLimitRule s plan=q");
passes('a map by an expression', "${plans}RateLimitPlanMap user \"expr:%{env:PLAN}\" unknown=deny");
passes('a map of digests', "${plans}RateLimitPlanMap user txt:digestdigests");
passes('maps', "${plans}RateLimitIdentity k=header:X-Key o=env:ORG user ip\nRateLimitPlanMap k txt:keys unknown=deny:401\n"
    . "RateLimitPlanMap o txt:empty unknown=next\nRateLimitPlanMap user txt:keys unknown=default\n"
    . "<VirtualHost *:80>\nRateLimitPlanMap k \"txt:$dir/keys\" unknown=deny\nRateLimitPlanDefault pro\nRateLimitPlanChange reset\n"
    . "RateLimitRule r\n</VirtualHost>\nRateLimitPlanDefault free\nRateLimitPlanChange Carry\nRateLimitRule r");
passes("identities $_", "RateLimitIdentity $_")
    for 'user ip', 'anonymous', 'vhost+user global', 'ip/24,56', 'ip/24', 'o=env:ORG+ip user', 'o=ENV:ORG o=env:ORG', 'user+ip+vhost+global', 'cert user+cert',
    'e=expr:%{HTTP_HOST} e', '"user+e=expr:a+b %{tolower:%{HTTP_HOST}}" e+ip', 'e=EXPR:x+y e=expr:x+y';
passes('rules in all sections', "${plans}RateLimitPlanDefault pro\nRateLimitRule r plan=free\n" . join "\n", map {
    my ($open, $close) = @$_;
    "<$open>\nRateLimitEngine On\nRateLimitRule r Off\nRateLimitRule s rate=1/s key=ip method=get,HEAD \"if=%{REQUEST_URI} =~ m#^/x#\"\n"
        . "RateLimitRule t rate=1/s plan=none method=!OPTIONS\nRateLimitRule u plan=auto\nRateLimitHeaders IETF reset=epoch denied\n"
        . "RateLimitDenyStatus 503\nRateLimitEnv always\nRateLimitIdentity ip\n</$close>"
} ['VirtualHost *:80', 'VirtualHost'], ['Directory "/x"', 'Directory'], ['DirectoryMatch "^/x"', 'DirectoryMatch'], ['Files "x"', 'Files'],
    ['FilesMatch "x"', 'FilesMatch'], ['Location "/x"', 'Location'], ['LocationMatch "x"', 'LocationMatch'], ['If "true"', 'If']);
passes('sixteen rules', join "\n", map { "RateLimitRule r$_ rate=1/s" } 1 .. 16);
passes('one name in two sections', qq{RateLimitRule r rate=1/s\n<Location "/x">\nRateLimitRule r rate=1/s method=POST\n</Location>});
passes("RateLimitHeaders $_", "RateLimitHeaders $_") for 'off', 'ietf', 'Legacy reset=epoch', 'Both denied reset=delta', 'Both always';
passes("RateLimitDenyStatus $_", "RateLimitDenyStatus $_") for qw(400 403 429 451 500 503);
passes("RateLimitEnv $_", "RateLimitEnv $_") for qw(auto Always);

passes("V-07 RateLimitCost $_", "RateLimitCost $_\n<Location \"/x\">\nRateLimitCost $_\n</Location>\n<Location \"/y\">\nRateLimitRule r rate=9/s\n</Location>\n"
    . "<VirtualHost *:80>\nRateLimitCost $_\n</VirtualHost>")
    for qw(0 .5 1 2.125 999999999999999.999 expr=%{HTTP:X-Size} response-header:X-Cost EXPR=5), '"expr=%{REQUEST_METHOD} %{HTTP:X}"',
    'response-header:X-Cost reserve=0', 'Response-Header:x_cost RESERVE=2.5';
passes("V-07 cost=$_", "RateLimitEngine On\nRateLimitRule r rate=1/s burst=4 cost=$_")
    for qw(0 .5 3 4 expr=5 response-header:X), 'response-header:X reserve=4', 'expr=5 method=GET';
passes('V-07 reserve= before cost=', 'RateLimitRule r rate=5/s reserve=2 cost=response-header:X');
passes('V-07 an expression with blanks as cost', q{RateLimitRule r rate=5/s "cost=expr=%{tolower:%{HTTP:X}} "});
passes('V-07 a cost under a blocked quota', 'RateLimitRule r quota=0 cost=5');
passes("V-07 B-20 a cost under a leaky bucket: $_", "RateLimitDelay max=10min\nRateLimitRule r rate=1/s algorithm=leaky-bucket $_")
    for 'burst=.5 cost=1', 'burst=9 cost=10 action=delay';
passes('a cost above the places of a concurrency limit, each request taking one', 'RateLimitRule r concurrent=2 cost=5');
passes("V-10 concurrency: $_", "RateLimitPlan p $_\nRateLimitRule r $_\nRateLimitRule s plan=p") for qw(concurrent=1 concurrent=1000000), 'rate=1/s concurrent=5';
passes('then=', "RateLimitEngine On\nRateLimitPlan p quota=5/month then=q\nRateLimitPlan q rate=1/min\nRateLimitPlan r like=p quota=9/month\n"
    . "RateLimitRule a plan=p\nRateLimitRule b plan=r\n<VirtualHost *:80>\nRateLimitPlanChange reset\nRateLimitRule c plan=p\n</VirtualHost>");
passes('then= with a plan declared before', "RateLimitPlan q rate=1/min\nRateLimitPlan p quota=5 then=q\nRateLimitRule a plan=p");
passes("RateLimitRefund $_", "RateLimitRefund $_\n<Location \"/x\">\nRateLimitRefund $_\n</Location>\n<VirtualHost *:80>\nRateLimitRefund $_\n</VirtualHost>")
    for 'expr=true', 'EXPR=false', '"expr=%{REQUEST_STATUS} -ge 500"', q{"expr=resp('X-Cache') == 'HIT'"};
passes("RateLimitExempt $_", "RateLimitExempt $_\n<Location \"/x\">\nRateLimitExempt $_\nRateLimitExempt $_\n</Location>\n"
    . "<VirtualHost *:80>\nRateLimitExempt $_\n</VirtualHost>")
    for 'ip 127.0.0.1', 'IP 10.0.0.0/8 2001:db8::/32 ::1', 'ip 0.0.0.0/0 ::/0', 'ip ::ffff:10.0.0.0/104 1::/032', 'file:networks',
    qq{"file:$dir/networks"}, 'file:empty', '"expr=%{REQUEST_URI} =~ m#^/health#"', 'EXPR=true';
passes("RateLimitKeyLog $_", "RateLimitKeyLog $_\n<VirtualHost *:80>\nRateLimitKeyLog $_\n</VirtualHost>")
    for qw(hash Plain), map { "hash $_" } qw(repeat=0 repeat=1s repeat=1500ms repeat=1day REPEAT=10min);
passes("V-08 RateLimitDelay $_", "RateLimitDelay $_\n<VirtualHost *:80>\nRateLimitDelay $_\n</VirtualHost>")
    for qw(max=0 max=20s max=10min max=600s max=1ms MAX=1s), 'max=1s budget=1%', 'budget=90% max=1s', 'max=0 Budget=10%';
passes("R-13 path=$_", "RateLimitRule r rate=1/s path=$_") for qw(/ /a /a/ /* /** /**/a/*/b/** /A%20b), '/a' x 32;
passes("R-31 priority=$_", "RateLimitRule r rate=1/s priority=$_") for qw(0 10 999999);
passes($_, "RateLimitRule r rate=1/s $_") for qw(mode=log MODE=Log mode=enforce action=mark action=MARK), 'action=mark mode=enforce';
passes($_, "RateLimitRule r rate=1/s $_") for 'phase=early key=ip', 'PHASE=Early key=vhost+ip', 'phase=fixups', 'phase=fixups key=user';
passes('R-31 a priority as text', 'RateLimitRule r rate=1/s "priority=10"');
passes("count=$_", "RateLimitRule r rate=1/s $_")
    for 'count=request', 'COUNT=Request', 'count=response:true', '"count=response:%{REQUEST_STATUS} -eq 401"';
passes("action=$_", "RateLimitDelay max=1s\nRateLimitRule r rate=1/s action=$_") for qw(deny Deny delay delay:250ms DELAY:2s delay:1hour);
passes('action=deny where nobody may wait', 'RateLimitRule r rate=1/s action=deny');
passes('action=delay where one host allows it', "RateLimitRule r rate=1/s action=delay\n<VirtualHost *:80>\nRateLimitDelay max=1s\n</VirtualHost>");
passes('action=delay in a host that inherits it', "RateLimitDelay max=1s\n<VirtualHost *:80>\nRateLimitRule r rate=1/s action=delay\n</VirtualHost>");
warns('B-15 action=delay where nobody may wait', "RateLimitEngine On\nRateLimitRule r rate=1/s action=delay", 2,
    'no request may wait: RateLimitDelay max=DURATION allows it');
warns('B-15 action=delay under max=0', "RateLimitDelay max=0\nRateLimitRule r rate=1/s action=delay:1s", 2, 'no request may wait');
warns('B-15 action=delay in a host with max=0',
    "RateLimitDelay max=1s\n<VirtualHost *:80>\nRateLimitDelay max=0\nRateLimitRule r rate=1/s action=delay\n</VirtualHost>", 4, 'no request may wait');

SKIP: {
    skip 'mod_ratelimit is not here', 1 if !RLP::Httpd::has_module('ratelimit');
    my $module = qq{LoadModule ratelimit_module "$RLP::Httpd::modules/mod_ratelimit.so"\n};
    passes('bandwidth= with mod_ratelimit', "${module}RateLimitPlan p rate=1/s bandwidth=1M/s\nRateLimitRule r plan=p\nRateLimitRule s rate=1/s bandwidth=512K/s");
}

# --- thousands of hosts, each with its rules

# Seconds of the processor that httpd -t takes with so many; less is not measured.
sub seconds_for {
    my ($n) = @_;
    my $hosts = join '', map {
        "<VirtualHost *:80>\nServerName h$_\nRateLimitRule own key=ip\nRateLimitRule turn rate=4/s action=delay\n</VirtualHost>\n"
    } 1 .. $n;
    my $before = (times)[2];
    passes("a configuration of $n hosts", "${plans}RateLimitDelay max=1s\nRateLimitPlanDefault pro\nRateLimitPlanMap user txt:keys\n$hosts");
    my $seconds = (times)[2] - $before;
    return $seconds > 0.05 ? $seconds : 0.05;
}
my $few = seconds_for(2_000);
cmp_ok(seconds_for(8_000) / $few, '<', 9, 'four times as many hosts take some four times as long');

ok(!-e "$dir/run/ratelimit-default.shm" && !-e "$dir/run/ratelimit-x.shm", 'httpd -t makes no store');

done_testing;
