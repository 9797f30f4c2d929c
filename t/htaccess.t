#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Rules of .htaccess: they add to those outside, count for their host and directory alone, and what is wrong with them
# is no matter of anything else.

use strict;
use warnings;

use File::Path qw(make_path);
use RLP::Httpd;
use RLP::Test;
use Test::More;

my $root = "$ENV{RLP_TOP}/t/htdocs/tenants";

# A directory with a file and a .htaccess.
sub tenant {
    my ($dir, $text) = @_;
    make_path("$root/$dir");
    RLP::Httpd::spill("$root/$dir/ok.txt", "ok\n");
    RLP::Httpd::spill("$root/$dir/.htaccess", "$text\n");
    return;
}

# What the error log got while the code ran.
sub logged {
    my ($code) = @_;
    my $file = "$ENV{RLP_TOP}/t/logs/error_log";
    my $before = length RLP::Httpd::slurp($file);
    $code->();
    return substr RLP::Httpd::slurp($file), $before;
}

# "RULE/LIMIT ..." of all limits in force for a request, by RateLimit-Policy.
sub in_force {
    my ($path, %field) = @_;
    my $policies = get($path, %field)->header('RateLimit-Policy') // '';
    return join ' ', sort map { s/"//gr =~ s/;q=/\//r =~ s/;w=.*//r } split /, /, $policies;
}

# --- they add

tenant('adds', 'RateLimitRule mine rate=3/min');
begin;
is(in_force('/adds/ok.txt'), 'host/8 mine/3', 'a rule of .htaccess is in force beside those outside');
is(answers(3, '/adds/ok.txt'), 'A1 A0 D20', 'and counts from one request to the next');
is(join(' ', map { answer(get('/adds/ok.txt')) } 1 .. 3), 'D20 D20 D20', 'in all processes');
is(answers(1, '/plain/ok.txt'), 'A4', 'what it refuses is not charged outside');
begin;
is(answers(4, '/adds/ok.txt', Host => 'list.test'), 'A2 A1 A0 D20', 'AllowOverrideList allows it, too');
is(get('/adds/ok.txt', Host => 'none.test')->status, 200, 'AllowOverride None reads nothing');
is(fields(get('/adds/ok.txt', Host => 'none.test')), '', 'and counts nothing');
like(logged(sub { is(get('/adds/ok.txt', Host => 'files.test')->status, 500, 'AllowOverride without Limit: 500') }),
    qr{/adds/[.]htaccess: RateLimitRule not allowed here}, '... and httpd says so');

tenant('sections', "<Files ok.txt>\nRateLimitRule mine rate=3/min\n</Files>\n<If \"req('X-If') == 'yes'\">\nRateLimitRule more rate=2/min\n</If>");
begin;
unlike(logged(sub { is(in_force('/sections/ok.txt', 'X-If' => 'yes'), 'host/8 mine/3 more/2', 'sections in .htaccess have rules') }),
    qr/RLP020/, '... without a word in the log');

tenant('again', "RateLimitRule mine rate=3/min\n<Files ok.txt>\nRateLimitRule mine rate=4/min\n</Files>\n<If \"req('X-If') == 'yes'\">\nRateLimitRule mine rate=2/min\n</If>");
begin;
unlike(logged(sub { is(in_force('/again/ok.txt'), 'host/8 mine/4', 'a name again in a section of the same file') }), qr/RLP020/, '... without a word in the log');
is(in_force('/again/ok.txt', 'X-If' => 'yes'), 'host/8 mine/2', '... and in one that is merged later');
is(get('/again/no')->header('RateLimit-Policy') =~ s/;w=\d+//gr, '"mine";q=3, "host";q=8', '... but not where neither speaks');

tenant('index', "DirectoryIndex ok.txt\nRateLimitRule mine rate=3/min");
begin;
unlike(logged(sub { is(answers(4, '/index/'), 'A2 A1 A0 D20', 'a request is charged once, if mod_dir answers with an index file') }),
    qr/RLP020/, '... without a word in the log');

tenant('early', "RateLimitRule mine rate=3/min key=ip phase=early\nRateLimitRule late rate=9/min");
begin;
is(answers(4, '/early/ok.txt'), 'A2 A1 A0 D20', 'phase=early');
tenant('after', "RateLimitRule mine rate=3/min \"count=response:%{REQUEST_STATUS} -eq 404\"");
begin;
is(join(' ', map { answer(ask("/after/$_")) } qw(ok.txt no ok.txt no no ok.txt)), 'A2 404 A1 404 404 D20', 'a response that does not count is given back');

# --- and no more

tenant('name', 'RateLimitRule host rate=1000/min');
begin;
my $log = logged(sub { is(in_force('/name/ok.txt'), 'host/8', 'a name used outside is ignored') });
like($log, qr{RLP020: line 1 of \Q$root\E/name/[.]htaccess: RateLimitRule host is ignored: it can only add rules, and this name is used outside of it},
    'a line of the log says so');
tenant('off', "RateLimitRule host Off\nRateLimitRule mine rate=20/min");
my $connection = RLP::Client->new($ENV{RLP_PORT});
$log = logged(sub { is(answers(5, '/off/ok.txt', connection => $connection), 'A6 A5 A4 A3 A2', 'Off is ignored') });
is(scalar(() = $log =~ m{RLP020: line 1 of \Q$root\E/off/[.]htaccess: RateLimitRule host Off is ignored: it can only add rules}g), 1,
    'one line of the log says so, however many requests come');
tenant('name-later', 'RateLimitRule later rate=1000/min');
begin;
$log = logged(sub { is(in_force('/name-later/ok.txt'), 'host/8 later/6', 'a name of a <Location> that is merged later') });
is(answers(1, '/name-later/ok.txt'), 'A4', '... counts as it does elsewhere');
like($log, qr{RLP020: line 1 of \Q$root\E/name-later/[.]htaccess: RateLimitRule later is ignored: it can only add rules, and this name is used outside of it},
    '... as a line of the log says');
tenant('name-elsewhere', 'RateLimitRule elsewhere rate=4/min');
begin;
is(in_force('/name-elsewhere/ok.txt'), 'elsewhere/4 host/8', 'a name of another section is free');
is(answers(1, '/other/ok.txt'), 'A6', '... and another counter');

tenant('nested', 'RateLimitRule mine rate=3/min');
tenant('nested/deeper', "RateLimitRule mine rate=1000/min\nRateLimitRule deeper rate=2/min");
begin;
$log = logged(sub { is(in_force('/nested/deeper/ok.txt'), 'deeper/2 host/8 mine/3', 'nor does a deeper .htaccess replace what one above it says') });
like($log, qr{nested/deeper/[.]htaccess: RateLimitRule mine is ignored}, 'a line of the log says so');
is(answers(1, '/nested/ok.txt'), 'A1', 'the rule counts for all below its directory');

tenant('priority', 'RateLimitRule mine rate=50/min priority=999999');
begin;
is(in_force('/priority/ok.txt'), 'choice/7 host/8 mine/50', 'a priority in .htaccess takes the place of no rule outside');
tenant('priorities', "RateLimitRule one rate=50/min priority=1\nRateLimitRule two rate=60/min priority=2");
begin;
is(in_force('/priorities/ok.txt'), 'host/8 two/60', 'but of one in the same file');
tenant('priorities/deeper', 'RateLimitRule three rate=70/min priority=3');
begin;
is(in_force('/priorities/deeper/ok.txt'), 'host/8 three/70 two/60', 'and of none in a file above it');

# --- costs

tenant('free', 'RateLimitCost 0');
begin;
is(answers(2, '/free/ok.txt'), 'A7 A6', 'RateLimitCost 0 makes nothing free that is counted outside');
tenant('cheap', "RateLimitCost response-header:X-Cost reserve=0\nHeader always set X-Cost 0");
begin;
is(answers(2, '/cheap/ok.txt'), 'A7 A6', 'nor does a response');
is(answer(ask('/cheap/ok.txt')), 'A5', 'when it has come');
is(answers(1, '/plain/ok.txt'), 'A4', '... or gone');
tenant('dear', "RateLimitCost 3\nRateLimitRule mine rate=90/min");
begin;
is(answers(2, '/dear/ok.txt'), 'A5 A2', 'a higher one counts for the rules of the host');
like(get('/dear/ok.txt', Host => 'plain.test')->header('RateLimit'), qr/"mine";r=87\b/, '... for those of .htaccess');
like(get('/plain/ok.txt', Host => 'plain.test')->header('RateLimit'), qr/"ha-server";r=898;/, '... and not for those that other hosts share');
tenant('dear/deeper', 'RateLimitCost 2');
begin;
is(answers(1, '/dear/deeper/ok.txt'), 'A5', 'a deeper .htaccess makes nothing cheaper');

# --- whose counters

tenant('one', 'RateLimitRule mine rate=2/min');
tenant('two', 'RateLimitRule mine rate=2/min');
begin;
is(answers(3, '/one/ok.txt'), 'A1 A0 D30', 'a rule is used up');
is(answers(2, '/two/ok.txt'), 'A1 A0', '... and that of the same name in another directory is not');
is(answers(2, '/one/ok.txt', Host => 'list.test'), 'A1 A0', '... nor that of the same directory in another host');
begin;
is(answers(1, '/one/ok.txt'), 'A1', 'a file that changes ...');
tenant('one', 'RateLimitRule mine rate=5/min');
is(answers(2, '/one/ok.txt'), 'A3 A2', '... keeps the counter');

tenant('plan', 'RateLimitRule mine plan=ha-small');
begin;
is(answers(2, '/plan/ok.txt', Host => 'list.test'), 'A1 A0', 'a plan of the server');
tenant('plan', 'RateLimitRule mine plan=ha-large');
is(answers(1, '/plan/ok.txt', Host => 'list.test'), 'A5', 'another one: what is used stays used');
tenant('then', 'RateLimitRule mine plan=ha-first');
begin;
is(in_force('/then/ok.txt'), 'ha-first/1 host/8', 'a plan with then= ...');
is(in_force('/then/ok.txt'), 'ha-small/2 host/8', '... is followed by the other');
tenant('default', 'RateLimitRule mine');
begin;
is(in_force('/default/ok.txt'), 'ha-small/2 host/8', 'RateLimitPlanDefault');
tenant('map', 'RateLimitRule mine rate=4/min key=ha-org');
begin;
is(in_force('/map/ok.txt', 'X-Org' => 'acme'), 'ha-large/8 host/8', 'an identity of the server and its plan map');
is(in_force('/map/ok.txt', 'X-Org' => 'nobody'), 'host/8 mine/4', '... or the limits of the rule');

tenant('concurrent', 'RateLimitRule mine concurrent=3');
begin;
is(in_force('/concurrent/ok.txt'), 'host/8 mine/3', 'concurrent=');
tenant('calendar', 'RateLimitRule mine quota=5/day quota=6/month quota=7/year@Asia/Kathmandu');
begin;
is(in_force('/calendar/ok.txt'), 'host/8 mine-month/6 mine-year/7 mine/5', 'calendars: UTC, and those that a plan of the server has');

# --- how many

my $sixteen = join "\n", map { "RateLimitRule r$_ rate=9/min" } 1 .. 16;
tenant('sixteen', $sixteen);
begin;
is(scalar(() = in_force('/sixteen/ok.txt') =~ m{r\d+/9}g), 16, 'sixteen rules');
tenant('sixteen/deeper', 'RateLimitRule more rate=9/min');
$log = logged(sub { unlike(in_force('/sixteen/deeper/ok.txt'), qr{more}, 'are enough, in all files together') });
like($log, qr{RateLimitRule more is ignored: at most 16 rules of such files count for one request}, 'and the log says so');

# --- what is wrong

my @wrong = (
    # .htaccess, what the log has
    [ "$sixteen\nRateLimitRule r17 rate=9/min", 'RateLimitRule: expected at most 16 rules in one section, got "r17"' ],
    [ "RateLimitRule a rate=1/s\nRateLimitRule a rate=2/s", 'RateLimitRule: expected each name once in a section, got "a"' ],
    [ 'RateLimitRule 1a rate=1/s', 'RateLimitRule: expected a name' ],
    [ 'RateLimitRule a rate=1/fortnight', 'RateLimitRule: expected a span of time' ],
    [ 'RateLimitRule a rate=1/s metod=GET', 'got "metod=GET" (method=?)' ],
    [ 'RateLimitRule a plan=ha-smal', 'RateLimitRule: expected the name of a plan, got "ha-smal" (ha-small?)' ],
    [ 'RateLimitRule a rate=1/s key=usr', 'got "usr" (user?)' ],
    [ 'RateLimitRule a rate=1/s key=k=header:X-Key',
        'RateLimitRule: expected an identity that the server\'s configuration has declared, got "k=header:X-Key"' ],
    [ 'RateLimitRule a rate=1/s key=k=expr:x', 'expected an identity that the server\'s configuration has declared' ],
    [ 'RateLimitRule a rate=1/s phase=early', 'RateLimitRule: expected key= with phase=early' ],
    [ 'RateLimitRule a rate=1/s key=user phase=early', 'RateLimitRule: expected a key= without user' ],
    [ 'RateLimitRule a rate=1/s cost=5', 'RateLimitRule: expected a cost of at most 1' ],
    [ 'RateLimitRule a rate=1/s store=default', 'RateLimitRule: expected no store= in .htaccess, got "store=default"' ],
    [ 'RateLimitRule a rate=1/s sync=exact', 'RateLimitRule: expected no sync= in .htaccess, got "sync=exact"' ],
    [ 'RateLimitRule a rate=1/s failure=open', 'RateLimitRule: expected no failure= in .htaccess, got "failure=open"' ],
    [ 'RateLimitRule a concurrent=2 lease=60s', 'RateLimitRule: expected no lease=' ],
    [ 'RateLimitRule a rate=1/s bandwidth=1M/s', 'RateLimitRule: expected mod_ratelimit to be loaded' ],
    [ 'RateLimitRule a quota=5/month@Asia/Tokyo',
        'RateLimitRule: expected a period and a time zone that a plan of the server has, or @UTC, got "month@Asia/Tokyo" in "quota=5/month@Asia/Tokyo"' ],
    [ 'RateLimitRule a quota=5/month@Asia/Nowhere', 'RateLimitRule: expected @UTC, @local or a time zone' ],
    [ q{RateLimitRule a rate=1/s "if=file('/etc/hostname') == 'x'"}, 'RateLimitRule: expected an expression behind if=' ],
    [ 'RateLimitRule a rate=1/s if="true"', 'RateLimitRule: expected the quotes around the whole word: write "if=true"' ],
    [ "<Limit GET>\nRateLimitRule a rate=1/s\n</Limit>", 'RateLimitRule cannot occur within <Limit> or <LimitExcept> section' ],
    [ 'RateLimitCost -1', 'RateLimitCost: expected a cost of 0 or more' ],
);
for my $case (@wrong) {
    my ($text, $said) = @{$case};
    tenant('wrong', $text);
    my $status = '';
    my $told = logged(sub { $status = statuses(1, '/wrong/ok.txt') . ' ' . statuses(1, '/c/elsewhere', Host => 'list.test') });
    my ($last) = $text =~ /([^\n]*)\z/;
    is($status, '500 200', "500 there, and there alone: $last");
    like($told, qr{/wrong/[.]htaccess: .*\Q$said\E}, "and a line of the log: $last");
}

# What AllowOverrideList names that has no place in .htaccess.
for my $line ('RateLimitEngine Off', 'RateLimitStore x shm', 'RateLimitPlan x rate=1/s', 'RateLimitPlanDefault small', 'RateLimitPlanChange reset',
    'RateLimitPlanMap ip txt:x', 'RateLimitIdentity ip', 'RateLimitRefund expr=true', 'RateLimitExempt expr=true', 'RateLimitDelay max=1s',
    'RateLimitKeyLog plain', 'RateLimitHeaders Off', 'RateLimitDenyStatus 503', 'RateLimitEnv always') {
    my ($directive) = $line =~ /^(\w+)/;
    tenant('wrong', $line);
    like(logged(sub { is(get('/wrong/ok.txt', Host => 'list.test')->status, 500, "500: $line") }),
        qr{/wrong/[.]htaccess: $directive (?:cannot occur within htaccess files|not allowed here)}, '... and a line of the log');
}
begin;
is(in_force('/adds/ok.txt'), 'host/8 mine/3', 'nothing of that has changed anything');

# --- what RequestHeader does there is no matter of whom a rule counts

SKIP: {
    skip 'no server of its own: ' . RLP::Httpd::missing(), 1 if RLP::Httpd::missing();
    my $server = RLP::Httpd->new(modules => [qw(dir headers)], config => <<'END');
RateLimitEngine On
RateLimitEnv always
Header always set X-Was-Identity "%{RATELIMIT_IDENTITY}e"
RateLimitPlan pro rate=9/hour
RateLimitIdentity key=header:X-Key ip
RateLimitPlanMap key "txt:@DIR@/keys"
<Files "index.html">
    RateLimitRule index rate=9/hour
</Files>
<Directory "@DIR@/htdocs">
    AllowOverride FileInfo
</Directory>
END
    $server->file('keys', "others pro\n");
    $server->file('htdocs/.htaccess', "RequestHeader set X-Key others\n");
    $server->start;
    is($server->get('/')->{fields}{'x-was-identity'}, 'ip:127.0.0.1', 'a .htaccess has nobody counted by the key of somebody else');
    $server->stop;
}

# --- a server without a rule of its own

SKIP: {
    skip 'no server of its own: ' . RLP::Httpd::missing(), 3 if RLP::Httpd::missing();
    my $server = RLP::Httpd->new(modules => ['dir'], config => <<'END');
RateLimitEngine On
<Directory "@DIR@/htdocs">
    AllowOverride Limit
</Directory>
END
    mkdir $server->dir . "/htdocs/$_" for qw(counted many);
    $server->file("htdocs/$_/ok.txt", "ok\n") for qw(counted many);
    $server->file('htdocs/counted/.htaccess', "RateLimitRule mine rate=2/hour\n");
    $server->file('htdocs/many/.htaccess', join '', map { "RateLimitRule r$_ rate=100000/s \"if=%{REQUEST_URI} =~ /ok/\"\n" } 1 .. 16);
    $server->start;
    is($server->statuses(3, '/counted/ok.txt'), '200 200 429', 'a server without a rule of its own has a store for those of .htaccess');

    my $connection = $server->connection;
    my $ask = sub {
        my $ok = 0;
        for (1 .. $_[0]) {
            $connection->send("GET /many/ok.txt HTTP/1.1\r\nHost: localhost\r\n\r\n");
            $ok += $connection->response->{status} == 200;
        }
        return $ok;
    };
    my $memory = sub { # of all processes, in kB, without what they share
        my $sum = 0;
        for my $pid ($server->children) {
            $sum += $_ for RLP::Httpd::slurp("/proc/$pid/smaps_rollup") =~ /^Private_Dirty:\s+(\d+)/mg;
        }
        return $sum;
    };
    is($ask->(300), 300, 'many requests under sixteen rules of .htaccess pass');
    my $before = $memory->();
    $ask->(1500);
    cmp_ok($memory->() - $before, '<', 512, '... and more of them take no more memory');
}

done_testing;

__DATA__
RateLimitPlan ha-zones quota=1/year@Asia/Kathmandu
RateLimitPlan ha-small rate=2/min algorithm=sliding-log
RateLimitPlan ha-large rate=8/min algorithm=sliding-log
RateLimitPlan ha-first quota=1 then=ha-small
# of all hosts; the condition spares those of the other tests
RateLimitRule ha-server rate=900/min "if=%{SERVER_NAME} == 'plain.test'"

<VirtualHost *:${RLP_PORT}>
    ServerName htaccess.test
    DocumentRoot "${T}/htdocs/tenants"
    <Directory "${T}/htdocs/tenants">
        AllowOverride Limit Indexes FileInfo
    </Directory>
    SetEnvIf X-Org "(.+)" HA_ORG=$1
    RateLimitIdentity ha-org=env:HA_ORG ip
    RateLimitPlanMap ha-org "txt:${RLP_TOP}/t/conf/htaccess-orgs.txt"
    RateLimitPlanDefault ha-small
    RateLimitEngine On
    RateLimitRule host rate=8/min key=ip
    RateLimitRule choice rate=7/min priority=1 path=/priority/** key=ip
    <Location "/name-later">
        RateLimitRule later rate=6/min
    </Location>
    <Location "/other">
        RateLimitRule elsewhere rate=7/min
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName list.test
    DocumentRoot "${T}/htdocs/tenants"
    <Directory "${T}/htdocs/tenants">
        AllowOverride None
        AllowOverrideList RateLimitRule RateLimitCost RateLimitEngine RateLimitStore RateLimitPlan RateLimitPlanDefault \
            RateLimitPlanChange RateLimitPlanMap RateLimitIdentity RateLimitRefund RateLimitExempt RateLimitDelay \
            RateLimitKeyLog RateLimitHeaders RateLimitDenyStatus RateLimitEnv
    </Directory>
    AliasMatch "^/c/" "${T}/htdocs/ok.txt"
    RateLimitEngine On
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName none.test
    DocumentRoot "${T}/htdocs/tenants"
    RateLimitEngine On
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName files.test
    DocumentRoot "${T}/htdocs/tenants"
    <Directory "${T}/htdocs/tenants">
        AllowOverride FileInfo
    </Directory>
    RateLimitEngine On
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName plain.test
    DocumentRoot "${T}/htdocs/tenants"
    <Directory "${T}/htdocs/tenants">
        AllowOverride Limit Indexes FileInfo
    </Directory>
    RateLimitEngine On
</VirtualHost>
