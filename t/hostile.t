#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Clients that send what nobody should: through each source of identities, in paths, in numbers. Whatever comes, httpd
# answers, the answer is well-formed, a line of a log stays one line of text, and nobody is counted for another.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
my @modules = qw(alias auth_basic authn_core authn_anon authz_user headers remoteip setenvif);
my @absent = grep { !RLP::Httpd::has_module($_) } @modules;
plan skip_all => "httpd has no @absent" if @absent;

my $megabyte = 1_048_576;
my $server = RLP::Httpd->new(modules => [ @modules, 'log_config' ], clock => 1);
my $dir = $server->dir;
my $own_log = "$dir/logs/identities.log";

# values that a map knows, however strange
my @known = ("\xff\xfe\xc0\x81", '%n%n%s', '{x}:y', q{a"b'c`$(d)}, "\x{c3}\x{a9}", 'k' x 8000, '../../etc/passwd', '%00%00', 'a#b');
$server->file('keys', join '', map { "$_ known\n" } @known);
$server->configure(<<'END');
LimitRequestLine 1200000
LimitRequestFieldSize 1200000
LimitRequestFields 0
LogLevel warn ratelimit_plans:debug
CustomLog logs/identities.log "%{RATELIMIT_ACTION}e %{RATELIMIT_IDENTITY}e %{RATELIMIT_RULE}e"
Header always set X-Who "%{RATELIMIT_IDENTITY}e"
AliasMatch "^/(?!paths)" "@DIR@/htdocs/index.html"
RateLimitStore counters shm size=1M
RateLimitPlan known rate=1/hour
RateLimitPlanMap key "txt:@DIR@/keys"
RateLimitPlanMap session "txt:@DIR@/keys"
RateLimitKeyLog plain repeat=0
RateLimitEnv always
RateLimitEngine On
<Location "/header">
    RateLimitRule header key=key=header:X-Key
</Location>
<Location "/cookie">
    RateLimitRule cookie key=session=cookie:sid
</Location>
SetEnvIf X-Env "(?s)(.+)" VALUE=$1
<Location "/env">
    RateLimitRule env key=org=env:VALUE rate=1/hour
</Location>
<Location "/expr">
    RateLimitRule expr "key=text=expr:%{HTTP:X-Value}" rate=1/hour
</Location>
<Location "/unescaped">
    RateLimitRule unescaped "key=raw=expr:%{unescape:%{HTTP:X-Value}}" rate=1/hour
</Location>
<LocationMatch "^/(?:user|joined)">
    AuthType Basic
    AuthName "any name"
    AuthBasicProvider anon
    Anonymous *
    Anonymous_VerifyEmail off
    Require valid-user
</LocationMatch>
<Location "/user">
    RateLimitRule user key=user rate=1/hour
</Location>
RemoteIPHeader X-Client
RemoteIPInternalProxy 127.0.0.1
<Location "/ip">
    RateLimitRule ip key=ip rate=1/hour
</Location>
<Location "/joined">
    RateLimitRule joined key=org+user+ip+text rate=1/hour
</Location>
<Location "/many">
    RateLimitRule many key=org rate=3/week
</Location>
RateLimitRule deep path=/**/a/**/a/**/a/**/a/**/a/**/end rate=1000/s key=global
END
$server->start;
my @children = sort $server->children;

# --- what is looked at after each answer

my ($read, $own_read, $asked) = (0, 0, 0);

sub new_lines {
    my ($file, $from) = @_;
    my $text = substr RLP::Httpd::slurp($file), ${$from};
    ${$from} += length $text;
    return split /\n/, $text, -1;
}

# Fields as RFC 9110 has them, none of the client's making, and none without end.
sub fields_are_sound {
    my ($response) = @_;
    my (undef, @fields) = split /\n/, $response->{head};
    my @wrong = grep { !/^[!#\$%&'*+.^_`|~0-9A-Za-z-]+: [\x20-\x7e]{0,1200}\r?$/ || /^(?:X-Evil|Set-Cookie)/i } @fields;
    return @wrong ? "fields: @wrong" : ();
}

sub page_is_sound {
    my ($response, $accepts_json) = @_;
    return if $response->{status} != 429;
    if (!$accepts_json) {
        return $response->{body} =~ /\A[\x20-\x7e\r\n]{1,1000}\z/ ? () : 'page: not plain, or long';
    }
    my $problem = eval { decode_json($response->{body}) } or return "JSON: $@";
    return if $problem->{detail} eq 'Rate limit exceeded' && $problem->{retry_after} == $response->{fields}{'retry-after'};
    return "JSON: $response->{body}";
}

# Lines of text, each begun by httpd, no longer than a line is.
sub logs_are_sound {
    my @lines = new_lines("$dir/logs/error.log", \$read);
    my @own = new_lines($own_log, \$own_read);
    my @wrong = grep { $_ ne '' && !/^\[\w{3} \w{3} [ \d]\d [\d:.]+ \d{4}\] \[[\w:]+\] \[pid [\x20-\x7e]+$/ } @lines;
    push @wrong, grep { /RLP\d/ && length > 1400 } @lines;
    push @wrong, grep { $_ ne '' && !m{^(?:pass|deny|-) [\w%.:@#+,/-]{1,1200} [\w-]+$} } @own;
    return map { "log: $_" } @wrong;
}

# Asks, and looks at all of it: the status, who was counted and what is wrong.
sub ask {
    my ($path, $accepts_json, @fields) = @_;
    my $response = $server->get($path, $accepts_json ? 'Accept: application/json' : (), @fields);
    my @wrong = (fields_are_sound($response), page_is_sound($response, $accepts_json));
    return ($response->{status}, $response->{fields}{'x-who'} // '', @wrong);
}

sub shown {
    my ($value) = @_;
    my $text = length $value > 24 ? substr($value, 0, 12) . '... of ' . length $value : $value;
    return $text =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;
}

# --- each source, each value

my @values = (
    'plain', 'a b', "tab\there", '%00', '%0d%0aX-Evil: 1', '%0aSet-Cookie: a=b', '%n%n%n%s%s%p', '%1b[31mred%1b[0m%07', "\x1b]0;title\x07",
    "\x1b[2J", "\x9b31m", "\xff\xfe\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3", "\xe2\x80\xae", "a\rX-Evil: 1", "a\r\n\tX-Evil: 1", "a\0b",
    q{"quoted" 'twice' `thrice`}, '\\', '\\u0000\\n\\x00', '{braces}:rule', 'ip:127.0.0.1', 'global:global', 'a+b', '#' . 'f' x 32, '<script>alert(1)</script>',
    '${jndi:x}', '$(id)', '%{HTTP_HOST}', '../../..', "\x7f", '%', '%%', '%zz', '=', ';', ',', 'k' x 65, "\xff" x 64, "\xff" x 65, '%0a' x 60,
    'x' x 9000, 'x' x 65_536, "\xfe" x 65_536, 'y' x $megabyte, '%' x $megabyte,
);
my %sources = (
    header => sub { "X-Key: $_[0]" },
    cookie => sub { "Cookie: sid=$_[0]" },
    env => sub { "X-Env: $_[0]" },
    expr => sub { "X-Value: $_[0]" },
    unescaped => sub { "X-Value: $_[0]" },
    user => sub { 'Authorization: Basic ' . encode_base64("$_[0]:any", '') },
    ip => sub { "X-Client: $_[0]" },
    joined => sub { ("X-Env: $_[0]", "X-Value: $_[0]", 'Authorization: Basic ' . encode_base64("$_[0]:any", '')) },
);

my $identity = qr{(?:org|text|raw|user|ip):[\w%.:@#-]{1,200}|org\+user\+ip\+text:[\w%.:@#+-]{1,800}};

my $seconds = 0; # so many lines a second are logged, and no more

for my $source (sort keys %sources) {
    my (%owner, @wrong);
    for my $value (grep { length() < 65_536 || $source !~ /env|joined/ } @values) { # SetEnvIf takes no more
        $server->set_clock(++$seconds);
        my @said = map { [ ask("/$source", $_, $sources{$source}->($value)) ] } 0, 0, 1;
        my $statuses = join ' ', map { $_->[0] } @said;
        my $who = $said[0][1];
        push @wrong, map { shown($value) . ": $_" } map { @{$_}[ 2 .. $#{$_} ] } @said;
        push @wrong, shown($value) . ": $statuses" if $statuses !~ /^(?:(?:200|401) (?:429|200|401) (?:429|200|401)|400 400 400|429 429 429)$/;
        push @wrong, shown($value) . ": counted as $who" if $who ne '' && $who ne '(null)' && $who !~ /^$identity$/;
        push @{ $owner{$who} }, $value if $who ne '' && $who ne '(null)';
    }
    push @wrong, logs_are_sound();
    is(join("\n", @wrong), '', "I-14 $source: answers, pages and logs stay well-formed");
    next if $source =~ /^(?:header|cookie|ip)$/;
    my @shared = grep { distinct($source, @{ $owner{$_} }) > 1 } keys %owner;
    is(join("\n", map { my $who = $_; "$who: " . join ', ', map { shown($_) } @{ $owner{$who} } } @shared), '', "I-14 $source: distinct values are distinct identities");
    cmp_ok(scalar keys %owner, '>', 25, "I-14 $source: of which there are many");
}

# How many different values these are by the time they reach the module: httpd ends a name at NUL, and at the colon.
sub distinct {
    my ($source, @values) = @_;
    my %seen;
    for my $value (@values) {
        $value =~ s/[\0:].*//s if $source =~ /user|joined/;
        $value =~ s/^[ \t]+|[ \t]+$//g;
        $seen{$value}++;
    }
    return scalar keys %seen;
}

# --- strange values that a map knows are keys like any other

for my $value (@known) {
    for my $source (qw(header cookie)) {
        $server->set_clock(++$seconds);
        my $type = $source eq 'header' ? 'key' : 'session';
        my @said = map { [ ask("/$source", 1, $sources{$source}->($value)) ] } 1 .. 2;
        is(join(' ', map { $_->[0] } @said), '200 429', "I-14 a known $type, " . shown($value) . ': is counted');
        like($said[0][1], qr/^$type:[0-9a-f]{32}$/, '... as a digest');
    }
}
is(join("\n", logs_are_sound()), '', 'I-14 the logs stay well-formed');
unlike($server->log_text, qr/etc.passwd|a%23b|k{30}/, 'I-14 and show no key');

for my $source (sort keys %sources) {
    my $refusals = () = $server->log_text =~ /RLP001: rule $source, plan \w+ refuses /g;
    cmp_ok($refusals, '>=', scalar @known, "I-14 $source: and tell of those who were refused");
}

# --- paths

my @paths = (
    '/paths/' . '/a' x 40_000, '/paths' . '/a' x 400_000, '/' . '/' x 1_000_000, '/x/..' x 50_000, '/%2e%2e' x 30_000, '/' . 'y' x $megabyte, '/%25n%25n%s',
    '/%0d%0aX-Evil:%201', '/%00', '/%', '/%zz', '/%ff%fe', '/%1b[31m', "/\xff", '/a' x 8 . '/end', '/' . ';a' x 10_000, '/?' . 'q' x $megabyte, '*', '//',
);
my (@wrong, $slowest);
for my $path (@paths) {
    my $begin = time;
    my ($status, undef, @found) = ask($path, 1);
    my $took = time - $begin;
    push @wrong, map { shown($path) . ": $_" } @found;
    push @wrong, shown($path) . ": status $status" if $status !~ /^(?:200|400|403|404|414)$/;
    push @wrong, shown($path) . ": $took seconds" if $took > 10;
}
is(join("\n", @wrong), '', 'paths: deep, long and malformed ones are answered');
is(join("\n", grep { !/request failed|AH\d/ } logs_are_sound()), '', 'paths: the logs stay well-formed');

# --- numbers

my ($status, $who, @found) = ask('/header', 0, (map { "X-Field-$_: $_" } 1 .. 20_000), "X-Key: $known[2]");
is("$status @found", '429 ', 'twenty thousand header fields: the key among them is found');
($status, $who, @found) = ask('/cookie', 0, 'Cookie: ' . join('; ', map { "c$_=$_" } 1 .. 80_000) . "; sid=$known[2]");
is("$status @found", '429 ', 'eighty thousand cookies: the one that counts is found');
($status, $who, @found) = ask('/cookie', 0, map { "Cookie: c$_=$_" } 1 .. 500);
is("$status $who @found", '200 (null) ', 'five hundred fields of cookies: nobody');
($status, $who, @found) = ask('/cookie', 0, 'Cookie: ' . ';' x $megabyte);
is("$status $who @found", '200 (null) ', 'a megabyte of semicolons: nobody');
my $long = $server->get('/env', 'X-Env: plain', 'Accept: ' . join(',', ('text/x;q=nan;q=1e999;q=-1;;;') x 30_000, 'application/json'));
is("$long->{status} $long->{fields}{'content-type'}", '429 application/problem+json', 'a megabyte of Accept');
logs_are_sound();

# more identities than the store has room for
my $size = -s "$dir/run/ratelimit-counters.shm";
is($server->statuses(4, '/many', 'X-Env: limited'), '200 200 200 429', 'I-20 one is limited');
my $connection = $server->connection;
my %count;
for my $round (1 .. 200) {
    $connection->send(join '', map { "GET /many HTTP/1.1\r\nHost: localhost\r\nX-Env: junk-$round-$_\r\n\r\n" } 1 .. 100);
    $count{ $connection->response->{status} }++ for 1 .. 100;
}
is_deeply(\%count, { 200 => 20_000 }, 'I-20 twenty thousand others come, in a store for less: none is refused');
is($server->get('/many', 'X-Env: limited')->{status}, 429, 'I-20 who was limited still is');
is(-s "$dir/run/ratelimit-counters.shm", $size, 'I-20 the store has not grown');
is(join("\n", logs_are_sound()), '', 'I-20 the logs are sound');

unlike($server->log_text, qr/exit signal|segfault/i, 'no child has died');
is(join(' ', sort $server->children), "@children", 'nor was one replaced') if $RLP::Httpd::mpm ne 'prefork';
ok($server->stop, 'httpd stops');

done_testing;
