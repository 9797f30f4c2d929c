#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# httpd -t of stores and of what rules and maps ask of them: each wrong word is refused with file and line, what was
# expected, what came and the nearest word; what may be a secret is never repeated.

use strict;
use warnings;

use Test::More;

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $has_redis = RLP::Httpd::has_redis();
my $server = RLP::Httpd->new;
my $file = $server->config_file;
my $dir = $server->dir;

$server->file('secret', "sesame-in-a-file\n");
$server->file('empty', '');
$server->file('blank', "\nsesame-in-line-2\n");
$server->file('no-pem', "hush-hush\n");
$ENV{RLP_TEST_SECRET} = 'sesame-in-env';
$ENV{RLP_TEST_EMPTY} = '';
delete $ENV{RLP_TEST_NONE};

# The engine is on, so that rules judge requests.
sub tested {
    my ($config, @words) = @_;
    $server->configure("$config\nRateLimitEngine On\n");
    my ($code, $said) = $server->configtest(@words);
    return ($code, $said =~ s/\s+/ /gr, $said);
}

# The last line, or the line given, is refused with this text.
sub refused {
    my ($name, $config, $text, $line) = @_;
    $line //= 1 + ($config =~ tr/\n//);
    my ($code, $said) = tested($config);
    $name =~ s/\s*\n\s*/, /g;
    my $at = index $said, "Syntax error on line $line of $file:";
    my $rest = $at < 0 ? '' : substr $said, $at;
    my $told = ref $text ? $rest =~ $text : index($rest, $text) >= 0;
    ok($code != 0 && $at >= 0 && $told && $said !~ /Syntax OK/, "$name is refused")
        or diag("$config\n  exit code: $code\n  expected: line $line: $text\n  got: $said");
    unlike($said, qr/sesame|hush-hush|mysecret/, '... without what may be a secret');
    return;
}

sub passes {
    my ($name, $config) = @_;
    my ($code, $said) = tested($config);
    $name =~ s/\s*\n\s*/, /g;
    return ok($code == 0 && $said eq 'Syntax OK ', "$name passes") || diag("$config\n  exit code: $code\n  got: $said");
}

# --- V-11 several stores of this host

for my $case (
    # lines, the line that is wrong, what is said of it
    ["RateLimitStore a shm file=x\nRateLimitStore b shm file=x", 2, 'a', 1, "$dir/x"],
    ["RateLimitStore a shm file=x\nRateLimitStore b shm\nRateLimitStore c shm size=2M file=./x", 3, 'a', 1, "$dir/x"],
    ["RateLimitStore a shm\nRateLimitStore b shm file=x\nRateLimitStore c shm \"file=$dir/x\"", 3, 'b', 2, "$dir/x"],
    ["RateLimitStore a shm\nRateLimitStore b shm file=run/ratelimit-a.shm", 2, 'a', 1, "$dir/run/ratelimit-a.shm"],
    ["RateLimitStore b shm file=run/ratelimit-a.shm\n\nRateLimitStore a shm", 3, 'b', 1, "$dir/run/ratelimit-a.shm"],
    ["RateLimitStore a shm file=run/../x\nRateLimitRule r rate=1/s\nRateLimitStore b shm file=x", 3, 'a', 1, "$dir/x"],
) {
    my ($config, $line, $twin, $twin_line, $path) = @$case;
    my ($name) = (split /\n/, $config)[$line - 1] =~ /RateLimitStore (\w+)/;
    refused("the file of $twin for $name", $config,
        qq{RateLimitStore: expected a file of its own for the store "$name", got that of the store "$twin" on line $twin_line of $file: $path}, $line);
}
passes('files of their own', "RateLimitStore a shm file=x\nRateLimitStore b shm file=y\nRateLimitStore c shm");

my $no_name = 'expected a name of 1 to 64 letters, digits, "_", "." or "-" that begins with a letter';
my $two = "RateLimitStore near shm\nRateLimitStore beside shm"; # two lines

for my $case (
    ["$two\nRateLimitStore near shm", 'RateLimitStore: expected a name that no store has yet, got "near"'],
    ["$two\nRateLimitStore beside shm size=1M", 'RateLimitStore: expected a name that no store has yet, got "beside"'],
    ["$two\nRateLimitStore 2nd shm", qq{RateLimitStore: $no_name, got "2nd"}],
    ["$two\nRateLimitStore third shm size=1k", 'RateLimitStore: expected a size from 1M to 1024G, got "size=1k"'],
    ["$two\nRateLimitStore third shm fiel=x", 'RateLimitStore: expected size=SIZE or file=PATH, got "fiel=x" (file=?)'],
    ["$two\nRateLimitStore third shm size=1M size=2M", 'RateLimitStore: expected each option once, got "size=2M"'],
    ["$two\nRateLimitStore third shm file=x FILE=y", 'RateLimitStore: expected each option once, got "FILE=y"'],
    ["$two\nRateLimitStore third shmm", 'expected a store of the type'],
    ["$two\n<VirtualHost *:80>\nRateLimitStore third shm\n</VirtualHost>", 'RateLimitStore cannot occur within <VirtualHost> section', 4],
    ["$two\n<Location /x>\nRateLimitStore third shm\n</Location>", 'RateLimitStore not allowed', 4],
) {
    my ($config, $text, $line) = @$case;
    refused('V-11 ' . ($config =~ s/.*beside shm\n//sr), $config, ref $text ? $text : qr/\Q$text\E|cannot occur within/, $line);
}

# --- store=, failure= and sync= of a rule

for my $case (
    # words behind the rule's rate, what is said
    ['store=', qq{$no_name, got ""}],
    ['store=9', qq{$no_name, got "9"}],
    ['store=a,b', qq{$no_name, got "a,b"}],
    ['store=nera', 'expected the name of a store, got "store=nera" (near?)'],
    ['store=besides', 'expected the name of a store, got "store=besides" (beside?)'],
    ['store=Near', 'expected the name of a store, got "store=Near" (near?)'],
    ['store=elsewhere', qr/expected the name of a store, got "store=elsewhere"(?! \()/],
    ['store=default', qr/expected the name of a store, got "store=default"(?! \()/],
    ['store=near store=beside', 'expected store= once, got "store=beside"'],
    ['store=near STORE=near', 'expected store= once, got "STORE=near"'],
    ['stroe=near', 'got "stroe=near" (store=?)'],
    ['failure=', 'expected failure=local, open or closed, got "failure="'],
    ['failure=on', 'expected failure=local, open or closed, got "failure=on"'],
    ['failure=oepn', 'expected failure=local, open or closed, got "failure=oepn" (open?)'],
    ['failure=close', 'expected failure=local, open or closed, got "failure=close" (closed?)'],
    ['failure=loca', 'expected failure=local, open or closed, got "failure=loca" (local?)'],
    ['failure=open failure=open', 'expected failure= once, got "failure=open"'],
    ['faliure=open', 'got "faliure=open" (failure=?)'],
    ['sync=', 'expected sync=exact or lease, got "sync="'],
    ['sync=exakt', 'expected sync=exact or lease, got "sync=exakt" (exact?)'],
    ['sync=leas', 'expected sync=exact or lease, got "sync=leas" (lease?)'],
    ['sync=exact sync=lease', 'expected sync= once, got "sync=lease"'],
    ['snyc=exact', 'got "snyc=exact" (sync=?)'],
    ['failure=open', 'expected no failure= with the store "near", which is on this host'],
    ['failure=local store=beside', 'expected no failure= with the store "beside", which is on this host'],
    ['store=beside failure=closed', 'expected no failure= with the store "beside", which is on this host'],
    ['sync=exact', 'expected no sync= with the store "near", which is on this host'],
    ['sync=lease store=beside', 'expected no sync= with the store "beside", which is on this host'],
) {
    my ($words, $text) = @$case;
    refused("V-13 $words", "$two\nRateLimitRule r rate=1/s $words", ref $text ? $text : qr/RateLimitRule: (?:expected a limit, .*, )?\Q$text\E/);
}
refused('V-11 a store in a section', "$two\n<Location \"/x\">\nRateLimitRule r rate=1/s store=neer\n</Location>",
    'RateLimitRule: expected the name of a store, got "store=neer" (near?)', 4);
refused('V-11 a store in a host', "$two\n<VirtualHost *:80>\nRateLimitRule r rate=1/s\nRateLimitRule s rate=1/s store=bside\n</VirtualHost>",
    'RateLimitRule: expected the name of a store, got "store=bside" (beside?)', 5);
refused('store= where no store is declared', 'RateLimitRule r rate=1/s store=near', 'RateLimitRule: expected the name of a store, got "store=near"');
{
    my ($code, $said) = tested("$two\nRateLimitRule a rate=1/s store=x1\n<If \"true\">\nRateLimitRule b rate=1/s store=x2\n</If>");
    isnt($code, 0, 'two wrong stores');
    like($said, qr/line $_->[0] of \Q$file\E: RateLimitRule: expected the name of a store, got "store=$_->[1]"/, "line $_->[0] is told")
        for [3, 'x1'], [5, 'x2'];
}
passes("$_ of a rule", "$two\nRateLimitEngine On\nRateLimitRule r rate=1/s $_") for 'store=near', 'store=beside', 'STORE=beside';
passes('a store that is declared later', "RateLimitRule r rate=1/s store=beside\n$two");
passes('lease= in no plan of a store on this host', "$two\nRateLimitRule r concurrent=2 store=beside");
refused('K-10 lease= in a store of this host', "$two\nRateLimitRule r concurrent=2 lease=10s store=beside",
    'RateLimitRule: expected no lease= with a store of this host');

if (!$has_redis) {
    refused('V-14 redis where it is not built in', 'RateLimitStore x redis url=redis://localhost', 'expected shm: this module was built without Redis, got "redis"');
    done_testing;
    exit;
}

# --- options of a store in Redis

my $url = 'url=redis://localhost';
my $secret_source = 'expected file:PATH or env:NAME';

for my $case (
    # options, what is said
    ['', 'expected url=URL, got none'],
    ['prefix=x:', 'expected url=URL, got none'],
    ["$url $url", 'expected each option once, got "url=" again'],
    ['url=', 'expected redis://, rediss://, unix://, redis-sentinel://, rediss-sentinel://, redis-cluster:// or rediss-cluster://'],
    ['url=localhost', 'expected redis://, rediss://'],
    ['url=http://localhost', 'expected redis://, rediss://'],
    ['url=redis://', 'expected a host name, an IPv4 address or an IPv6 address in brackets'],
    ['url=redis://localhost:0', 'expected a port from 1 to 65535'],
    ['url=redis://localhost:65536', 'expected a port from 1 to 65535'],
    ['url=redis://localhost/x', 'expected the number of a database, 0 to 65535'],
    ['url=redis://a,b', 'expected one host (several: redis-sentinel:// or redis-cluster://)'],
    ['url=redis://user@localhost', 'expected a password for the user: USER:PASSWORD@ or password='],
    ['url=redis://:mysecret@localhost password=env:RLP_TEST_SECRET', 'expected one password: in the URL or in password='],
    ['url=redis-sentinel://localhost', 'expected the name of the master after the Sentinels'],
    ['url=redis-cluster://localhost/1', 'expected no database after redis-cluster://HOST'],
    ['url=unix:/socket', 'expected redis://, rediss://, unix://, redis-sentinel://, rediss-sentinel://, redis-cluster:// or rediss-cluster://'],
    ['url=unix://socket', 'expected unix:///PATH, with three slashes'],
    # K-10 sources of secrets
    (map {
        my ($option, $before) = @$_;
        map { ["$before $option=$_->[0]", $_->[1]] } ['mysecret', $secret_source], ['', $secret_source], ['file:', 'expected a file that can be read, got "": '], ['env:', 'expected '],
            ['file:/nowhere/at-all', qr{expected a file that can be read, got "/nowhere/at-all": }],
            ['file:gone', qr{expected a file that can be read, got "\Q$dir\E/gone": }], ['file:empty', qr/expected 1 to \d+ bytes in the first line of "/],
            ['file:blank', qr/expected 1 to \d+ bytes in the first line of "/], ['env:RLP_TEST_NONE', 'expected the environment to have "RLP_TEST_NONE"'],
            ['env:RLP_TEST_EMPTY', 'RLP_TEST_EMPTY']
    } ['password', $url], ['secret', $url], ['sentinel-password', 'url=redis-sentinel://localhost/main']),
    ["$url secret=env:RLP_TEST_SECRET secret=env:RLP_TEST_SECRET", 'expected each option once, got "secret=" again'],
    ["$url secert=mysecret", 'got "secert" (secret=?)'],
    ["$url mysecret://x", qr/got "\.\.\."/],
    # K-10 Sentinels
    ["$url sentinel-user=u", 'expected sentinel-user= and sentinel-password= with url=redis-sentinel:// or url=rediss-sentinel:// only'],
    ["$url sentinel-password=env:RLP_TEST_SECRET", 'expected sentinel-user= and sentinel-password= with url=redis-sentinel:// or url=rediss-sentinel:// only'],
    ['url=redis-cluster://localhost sentinel-password=env:RLP_TEST_SECRET', 'expected sentinel-user= and sentinel-password= with url=redis-sentinel:// or url=rediss-sentinel:// only'],
    ['url=redis-sentinel://localhost/main sentinel-user=u', 'expected sentinel-password= with sentinel-user=, got none'],
    ['url=redis-sentinel://localhost/main sentinel-user= sentinel-password=env:RLP_TEST_SECRET', 'expected sentinel-user=NAME, got none'],
    ['url=redis-sentinel://localhost/main sentinel-user=u sentinel-user=v', 'expected each option once, got "sentinel-user=" again'],
    ['url=redis-sentinel://localhost/main sentinel-usr=u', 'got "sentinel-usr" (sentinel-user=?)'],
    ['url=redis-sentinel://localhost/main sentinel-pasword=mysecret', 'got "sentinel-pasword" (sentinel-password=?)'],
    # TLS without TLS
    (map { ["$url $_=no-pem", 'expected tls-ca=, tls-cert=, tls-key= and tls-name= with url=rediss://, url=rediss-sentinel:// or url=rediss-cluster:// only'] } qw(tls-ca tls-cert tls-key tls-name)),
    ["$url tls-name=", 'expected a host name after tls-name='],
    ["$url tls-crt=x", 'got "tls-crt" (tls-cert=?)'],
    ["$url tls-kye=x", 'got "tls-kye" (tls-key=?)'],
    ["$url tls-nmae=x", 'got "tls-nmae" (tls-name=?)'],
    # numbers and spans
    (map { my ($name, $range, @wrong) = @$_; map { ["$url $name=$_", qq{expected $range, got "$name=$_"}] } @wrong }
        ['timeout', 'timeout= from 1ms to 10s', '', '0', '0s', '11s', '10001ms', '-1s', '30', '1fortnight'],
        ['connect', 'connect= from 1ms to 10s', '', '0s', '1min', 'x'],
        ['recovery', 'recovery= from 100ms to 10min', '', '99ms', '11min', '1day'],
        ['failure-threshold', 'failure-threshold= from 1 to 1000', '', '0', '1001', '-1', '1.5', '3x', '99999999999999999999'],
        ['hosts', 'hosts= from 1 to 10000', '', '0', '10001', '-2', '2.5', 'two', '0x10']),
    (map { ["$url $_->[0]=$_->[1] $_->[0]=$_->[1]", qq{expected each option once, got "$_->[0]=" again}] }
        ['timeout', '1s'], ['connect', '1s'], ['recovery', '1s'], ['failure-threshold', 5], ['hosts', 2], ['failure', 'open'], ['sync', 'exact'], ['prefix', 'p:']),
    (map { ["$url $_->[0]=1", qq{got "$_->[0]" ($_->[1]=?)}] } ['timeuot', 'timeout'], ['conect', 'connect'], ['recovry', 'recovery'],
        ['failure-treshold', 'failure-threshold'], ['host', 'hosts'], ['hsots', 'hosts'], ['perfix', 'prefix'], ['snyc', 'sync'], ['failur', 'failure']),
    # quotes
    ['url="redis://:sesame@localhost"', 'expected the quotes around the whole word: write "url=...", got url="...'],
    (map { ["$url $_=\"hush-hush\"", qq{write "$_=...", got $_="...}] } qw(prefix password secret tls-ca)),
    # words
    ["$url failure=", 'expected failure=local, open or closed, got "failure="'],
    ["$url failure=clsed", 'expected failure=local, open or closed, got "failure=clsed" (closed?)'],
    ["$url failure=lcoal", 'expected failure=local, open or closed, got "failure=lcoal" (local?)'],
    ["$url sync=", 'expected sync=exact or lease, got "sync="'],
    ["$url sync=leace", 'expected sync=exact or lease, got "sync=leace" (lease?)'],
    ["$url sync=exat", 'expected sync=exact or lease, got "sync=exat" (exact?)'],
    (map { ["$url prefix=$_", qq{expected a prefix= of printable characters without braces, got "prefix=$_"}] } '{', 'a}', '{x}:'),
    ["$url size=1M", 'got "size"'],
    ["$url file=x", 'got "file"'],
) {
    my ($options, $text) = @$case;
    refused("V-11 redis $options", "RateLimitStore near shm\nRateLimitStore far redis $options", ref $text ? $text : qr/RateLimitStore: .*\Q$text\E/);
}
for my $options ('', ' secret=file:secret', ' secret=env:RLP_TEST_SECRET', ' password=file:secret', ' sync=lease', ' sync=exact failure=closed', ' failure=open',
    ' failure=local hosts=10000', ' timeout=1ms connect=10s recovery=10min', ' failure-threshold=1000', ' prefix=app/1:', ' FAILURE=Open SYNC=Lease') {
    passes("redis$options", "RateLimitStore far redis $url$options");
}
passes('url=redis://user@ with password=', 'RateLimitStore far redis url=redis://user@localhost password=env:RLP_TEST_SECRET');
passes('Sentinels with a login', 'RateLimitStore far redis url=redis-sentinel://a,b:26380/main/2 sentinel-user=u sentinel-password=file:secret');

# --- TLS

SKIP: {
    my (undef, $said) = tested('RateLimitStore far redis url=rediss://localhost');
    if ($said =~ /no TLS/) {
        refused('rediss:// where it is not built in', 'RateLimitStore far redis url=rediss://localhost', 'expected no rediss://: this build has no TLS for Redis');
        last SKIP;
    }
    for my $case (
        ['tls-ca=gone', qr{expected a file of certificates in tls-ca=, got "\Q$dir\E/gone"}],
        ['tls-ca=no-pem', qr{expected a file of certificates in tls-ca=, got "\Q$dir\E/no-pem"}],
        ['tls-ca=', qr/expected .*tls-ca=/],
        ['tls-key=no-pem', 'expected tls-cert=FILE with tls-key='],
        ['tls-cert=gone', qr{expected a certificate in tls-cert=, got "\Q$dir\E/gone"}],
        ['tls-cert=no-pem', qr{expected a certificate in tls-cert=, got "\Q$dir\E/no-pem"}],
        ['tls-name=', 'expected a host name after tls-name='],
        ['tls-name=a tls-name=b', 'expected each option once, got "tls-name=" again'],
    ) {
        my ($options, $text) = @$case;
        refused("TLS: $options", "RateLimitStore near shm\nRateLimitStore far redis url=rediss://localhost $options", $text);
    }
    passes('rediss:// with a name', 'RateLimitStore far redis url=rediss://localhost tls-name=redis.example');
}

# --- rules and maps beside a store in Redis

my $far = "RateLimitStore far redis $url secret=env:RLP_TEST_SECRET\nRateLimitStore near shm"; # two lines
for my $case (
    ['RateLimitRule r rate=1/s store=fra', 'RateLimitRule: expected the name of a store, got "store=fra" (far?)'],
    ['RateLimitRule r rate=1/s store=near failure=open', 'RateLimitRule: expected no failure= with the store "near", which is on this host'],
    ['RateLimitRule r rate=1/s store=near sync=lease', 'RateLimitRule: expected no sync= with the store "near", which is on this host'],
    ['RateLimitRule r rate=2000000000000/s', 'expected a count and a burst of at most 1000000000000 in Redis'],
    ['RateLimitRule r concurrent=2 lease=10s store=near', 'expected no lease= with a store of this host'],
    ['RateLimitPlanMap user redis:', 'RateLimitPlanMap: expected a key with %s where the value goes, or %h for its digest'],
    ['RateLimitPlanMap user redis:plan', 'RateLimitPlanMap: expected a key with %s'],
    ['RateLimitPlanMap user redis:plan:%d', 'RateLimitPlanMap: expected a key with %s'],
    ['RateLimitPlanMap user redis:plan:%', 'RateLimitPlanMap: expected a key with %s'],
    ['RateLimitPlanMap user redis:plan:%%', 'RateLimitPlanMap: expected a key with %s'],
    ['RateLimitPlanMap user "redis:plans %s more"', 'RateLimitPlanMap: expected a key with %s'],
    ['RateLimitPlanMap user "redis:plans field"', 'RateLimitPlanMap: expected a key with %s'],
    ['RateLimitPlanMap user redis=fra:plan:%s', 'RateLimitPlanMap: expected the name of a store in Redis, got "redis=fra:"'],
    ['RateLimitPlanMap user redis=near:plan:%s', 'RateLimitPlanMap: expected the name of a store in Redis, got "redis=near:"'],
    ['RateLimitPlanMap user redis=9:plan:%s', "RateLimitPlanMap: $no_name, got \"9\""],
    ['RateLimitPlanMap user redis:plan:%s timeout=1s', 'RateLimitPlanMap: expected no timeout= with redis:'],
    ['RateLimitPlanMap user redis:plan:%s ttl=0', 'RateLimitPlanMap: expected ttl=DURATION'],
    ['RateLimitPlanMap user redis:plan:%s tttl=1s', '(ttl=?)'],
    ['RateLimitPlanMap user rdis:plan:%s', '(redis:?)'],
) {
    my ($line, $text) = @$case;
    refused("V-11 $line", "$far\n$line", $text);
}
{
    my $then = "RateLimitPlan team quota=9/day then=slow\nRateLimitRule r plan=team store=";
    passes('lease= in a plan that takes over in Redis', "RateLimitStore near shm\nRateLimitStore far redis $url\nRateLimitPlan slow concurrent=2 lease=10s\n${then}far");
    passes('a plan that takes over in memory', "$far\nRateLimitPlan slow concurrent=20000\n${then}near");
    refused('a plan that takes over in Redis', "RateLimitStore near shm\nRateLimitStore far redis $url\nRateLimitPlan slow concurrent=20000\n${then}far",
        'RateLimitPlan: expected at most 16384 places in Redis, got concurrent=20000', 3);
    refused('lease= in a plan that takes over in memory', "$far\nRateLimitPlan slow concurrent=2 lease=10s\n${then}near", 'RateLimitPlan: expected no lease= with a store of this host', 3);
}
refused('a map by redis: beside a store in memory', "RateLimitStore near shm\nRateLimitPlanMap user redis:plan:%s",
    'RateLimitPlanMap: expected a RateLimitStore of the type redis, which a map by redis: asks');
for my $case (
    # what stands in for Redis has a file, too, if it is wanted at all
    ["RateLimitStore far redis $url\nRateLimitStore near shm file=run/ratelimit-far.shm", 2, 'near', 'far', 1],
    ["RateLimitStore near shm file=run/ratelimit-far.shm\nRateLimitStore far redis $url", 2, 'far', 'near', 1],
    ["RateLimitStore near shm file=run/ratelimit-far.shm\nRateLimitStore far redis $url failure=open\nRateLimitRule r rate=1/s store=far failure=local", 2, 'far', 'near', 1],
) {
    my ($config, $line, $name, $twin, $twin_line) = @$case;
    refused("the file of $twin for $name", $config, 'RateLimitStore: expected a file of its own for the store '
            . qq{"$name", got that of the store "$twin" on line $twin_line of $file: $dir/run/ratelimit-far.shm}, $line);
}
passes('a file that nobody has', "RateLimitStore far redis $url failure=open\nRateLimitStore near shm file=run/ratelimit-far.shm");
passes($_, "$far\nRateLimitEngine On\n$_") for 'RateLimitRule r rate=5/s failure=closed sync=lease', 'RateLimitRule r rate=1/s store=far failure=open',
    'RateLimitRule r concurrent=2 lease=10s', 'RateLimitRule r rate=1/s store=near', "RateLimitPlan p rate=1/s\nRateLimitPlanMap user redis=far:plan:%s ttl=5min",
    "RateLimitPlan p rate=1/s\nRateLimitPlanMap user \"redis:plans %h\" unknown=deny";

# K-10 secret=, with each kind of store that may have it
for my $identity ('key=header:X-Key ip', 'sid=cookie:sid ip') {
    my ($name) = $identity =~ /(\w+)/;
    refused("K-10 $identity without secret=", "RateLimitStore far redis $url\nRateLimitStore near shm\nRateLimitIdentity $identity",
        qq{RateLimitIdentity: the identity "$name": expected secret=file:PATH or secret=env:NAME behind RateLimitStore});
    refused("K-10 $identity of a rule without secret=", "RateLimitStore near shm\nRateLimitStore far redis $url\nRateLimitRule r rate=1/s key=${\($identity =~ s/ ip//r)}",
        qq{the identity "$name": expected secret=});
}

done_testing;
