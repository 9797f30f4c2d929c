#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Modules of others (t/c-modules, docs/extending.md): compiled against the installed headers, loaded beside this one, and
# found by the directives. What is wrong with one is said by httpd -t, with file and line.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);
use Test::More;

use RLP::Httpd;

my $examples = $ENV{C_MODULES} || ($ENV{builddir} || '.') . '/t/c-modules';

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'the example modules are not built' if !-e "$examples/mod_rlp_table.so";

# In one line, so that what follows is line 2.
sub loaded {
    my ($name) = @_;
    return qq{LoadModule rlp_${name}_module "$examples/mod_rlp_$name.so"\n};
}

sub login {
    my ($user, $password) = @_;
    return 'Authorization: Basic ' . encode_base64("$user:$password", '');
}

# httpd -t says all of the texts, and of the line.
sub refused {
    my ($name, $config, $line, @texts) = @_;
    my $server = RLP::Httpd->new(config => $config);
    my ($code, $said) = $server->configtest();
    my $file = $server->config_file;
    $said =~ s/\s+/ /g;
    my @missing = grep { index($said, $_) < 0 } "line $line of $file: ", @texts;
    return ok($code != 0 && !@missing, $name) || diag("$config\n  missing: @missing\n  got: $said");
}

# --- an algorithm

{
    my $config = loaded('first_window')
        . "RateLimitEngine On\nRateLimitIdentity ip\nRateLimitRule site rate=3/min algorithm=First-Window\n"
        . "RateLimitRefund \"expr=%{REQUEST_STATUS} == 404\"\n";
    my $server = RLP::Httpd->new(clock => 1, config => $config);
    my ($code, $said) = $server->configtest('-DDUMP_RATELIMIT');
    is($code, 0, 'an algorithm of another module passes httpd -t');
    like($said, qr/3 each minute, burst 3, as first-window counts/, 'and is put into words');
    SKIP: {
        skip 'no test clock', 5 if !RLP::Httpd::has_clock();
        $server->set_clock(10);
        $server->start;
        is($server->statuses(5, '/index.html'), '200 200 200 429 429', 'it is asked');
        is($server->get('/index.html')->{fields}{'retry-after'}, 60, 'its window is that of the client');
        $server->set_clock(69.9);
        is($server->statuses(1, '/index.html'), '429', 'to its end');
        $server->set_clock(70);
        is($server->statuses(4, '/index.html'), '200 200 200 429', 'and begins anew');
        $server->set_clock(200);
        my $connection = $server->connection; # where a request is over before the next is read
        my $status = sub {
            $connection->send("GET $_[0] HTTP/1.1\r\nHost: localhost\r\n\r\n");
            return $connection->response->{status};
        };
        is(join(' ', map { $status->($_) } ('/nothing') x 5, ('/index.html') x 3), '404 404 404 404 404 200 200 200',
            'what is given back can be used again');
        $server->stop;
    }
}

my $load = loaded('first_window');
refused('V-13 the nearest algorithm, of another module', "${load}RateLimitPlan p rate=3/min algorithm=first-windw", 2,
    'RateLimitPlan: expected algorithm=NAME with one of token-bucket, ', 'sliding-log, first-window, got "algorithm=first-windw" (first-window?)');
refused('an option that the algorithm does not take', "${load}RateLimitPlan p rate=3/min burst=9 algorithm=first-window", 2,
    'expected no burst= behind "rate=3/min": first-window has none');
refused('a module that is not loaded', 'RateLimitPlan p rate=3/min algorithm=first-window', 1,
    'expected algorithm=NAME with one of token-bucket, ', 'got "algorithm=first-window"');

# --- an identity

{
    my $server = RLP::Httpd->new(
        modules => [qw(authn_core authn_file authz_user auth_basic)],
        config => loaded('claimed')
            . "RateLimitEngine On\nRateLimitPlan guesses rate=3/week\nRateLimitIdentity login=claimed:basic\n"
            . "RateLimitPlanMap login txt:users\nRateLimitRule early phase=early key=login\n"
            . "<Location />\nAuthType Basic\nAuthName x\nAuthUserFile \"\@DIR\@/passwords\"\nRequire valid-user\n</Location>\n"
    );
    $server->file('users', "alice guesses\ncarol guesses\n");
    $server->file('passwords', "alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"); # password
    $server->start;
    is(join(' ', map { $server->get('/index.html', login('alice', "guess$_"))->{status} } 1 .. 4), '401 401 401 429',
        'an identity of another module is counted, before authentication');
    is($server->statuses(5, '/index.html', login('somebody', 'x')), '401 401 401 401 401',
        'one that clients choose counts only when a map knows it');
    is($server->statuses(4, '/index.html', login('carol', 'x')), '401 401 401 429', 'and each by itself');
    is($server->statuses(5, '/index.html'), '401 401 401 401 401', 'nobody is nobody');
    like($server->log_text, qr/login:[0-9a-f]{32}\b/, 'the log has its digest');
    unlike(join('', grep { /RLP/ } split /^/, $server->log_text), qr/alice/, 'and not its value');
    $server->stop;
}

$load = loaded('claimed');
refused('an argument that the provider refuses', "${load}RateLimitIdentity login=claimed:digest", 2,
    'RateLimitIdentity: expected login=claimed:basic, got "login=claimed:digest"');
refused('V-13 the nearest provider of identities', "${load}RateLimitIdentity login=claimd:basic", 2,
    'RateLimitIdentity: expected login=header:NAME, login=cookie:NAME, login=env:NAME, login=expr:EXPR or login=claimed:basic, '
        . 'got "login=claimd:basic" (claimed:?)');
refused('one name for two things', "${load}RateLimitIdentity login=claimed:basic\nRateLimitIdentity login=header:X", 3,
    'expected another name than "login": it is declared otherwise on line 2');

# --- a plan source

{
    my $server = RLP::Httpd->new(
        config => loaded('members')
            . "RateLimitEngine On\nRateLimitPlan free rate=10/week\nRateLimitPlan pro rate=100/week\n"
            . "RateLimitIdentity key=header:X-Key ip\nRateLimitRule site rate=5/week\n"
            . "RateLimitPlanMap key \"members:one=free two=pro three=gone\"\n"
    );
    $server->start;
    is(join(' ', map { $server->get('/index.html', "X-Key: $_")->{fields}{'x-ratelimit-limit'} } qw(one two three four)), '10 100 5 5',
        'a plan source of another module says who has which plan');
    like($server->log_text, qr/RLP018: plan map of key: /, 'a plan that is none is told of');
    $server->stop;
}

$load = loaded('members');
refused('an argument that the plan source refuses', "${load}RateLimitIdentity k=header:K\nRateLimitPlanMap k members:one", 3,
    'RateLimitPlanMap: expected members:VALUE=PLAN..., got "members:one"');
refused('V-13 the nearest plan source', "${load}RateLimitPlanMap k member:one=x", 2,
    'RateLimitPlanMap: expected txt:FILE, ', ' or "members:VALUE=PLAN...", got "member:one=x" (members:?)');
refused('no ttl= where nothing is kept', "${load}RateLimitPlanMap k members:one=x ttl=5s", 2,
    'expected no ttl= with members:, since it is asked for each request; leave it out, got "ttl=5s"');
refused('no variant where the plan source has none', "${load}RateLimitPlanMap k members=x:one=x", 2,
    'RateLimitPlanMap: expected txt:FILE, dbm:FILE, dbm=TYPE:FILE, "dbd:SQL", "expr:EXPR"' . (RLP::Httpd::has_redis() ? ', "redis:KEY", "redis=STORE:KEY"' : '') . ' or "members:VALUE=PLAN...", got "members=x:one=x"');

# --- a store

{
    my $server = RLP::Httpd->new(
        config => loaded('table')
            . "RateLimitEngine On\nRateLimitStore counters table slots=64\nRateLimitIdentity ip\nRateLimitRule site rate=40/week\n"
    );
    $server->start;
    my @answers = map { $server->get('/index.html')->{status} } 1 .. 30;
    ok($server->kill9, 'a child is killed');
    push @answers, map { $server->get('/index.html')->{status} } 1 .. 5;
    ok($server->graceful, 'httpd is restarted');
    push @answers, map { $server->get('/index.html')->{status} } 1 .. 20;
    # a connection that is lost with a child, or while httpd restarts, may have been counted or not
    my ($passed, $refused, $lost) = map { my $status = $_; scalar grep { ($_ || 0) == $status } @answers } 200, 429, 0;
    cmp_ok($lost, '<', 5, 'all but few requests are answered');
    ok($passed <= 40 && $passed >= 40 - $lost, 'a store of another module counts exactly, for all children and across restarts')
        or diag("$passed passed, $refused refused, $lost lost");
    is($refused, 55 - $passed - $lost, 'and refuses the others');
    is(join(' ', glob "\Q$server->{dir}\E/run/*.shm"), '', 'there is no file of shared memory');
    $server->stop;
}

{
    my $server = RLP::Httpd->new(
        config => loaded('table') . "RateLimitEngine On\nRateLimitStore counters table\nRateLimitIdentity ip\nRateLimitRule site concurrent=3\n"
    );
    $server->start;
    is(join(' ', map { $server->get_to_the_end('/index.html')->{status} } 1 .. 30), join(' ', (200) x 30), 'places come back in it');
    $server->stop;
}

$load = loaded('table');
refused('an option that the provider refuses', "${load}RateLimitStore s table slots=4", 2,
    'RateLimitStore: expected slots=N from 8 to 1000000, got "slots=4"');
refused('each option once', "${load}RateLimitStore s table slots=8 slots=9", 2, 'RateLimitStore: expected each option once, got "slots=9"');
my $stores = RLP::Httpd::has_redis() ? 'shm, redis' : 'shm';
refused('V-13 the nearest store', "${load}RateLimitStore s tabel", 2, qq{RateLimitStore: expected a store of the type $stores or table, got "tabel" (table?)});
refused('V-11 what stores there are', "${load}RateLimitStore s", 2, 'RateLimitStore: expected NAME shm [size=SIZE] [file=PATH], or NAME ', ', or NAME table [slots=N]');
refused('a state that the store does not keep', "${load}RateLimitStore s table\nRateLimitPlan p rate=100/min algorithm=sliding-log", 3,
    'RateLimitPlan: expected a limit with a state of at most 512 bytes, which is what the store keeps of one key, got algorithm=sliding-log with ');

# --- what is wrong with others' modules

$load = loaded('misfits');
for my $case (
    ['stepless', 'expected an algorithm with a step, got "stepless"'],
    ['unsized', 'expected an algorithm with either state_size or state_size_of, got "unsized"'],
    ['misnamed', 'expected an algorithm with its own name in rlp_algorithm_t, got "misnamed"'],
    ['places', 'expected an algorithm without quota and holds, which rate= does not have, got "places"'],
    ['greedy', 'expected an algorithm that takes RLP_TAKES_* only, got "greedy"'],
    ['dated', 'expected the algorithm "dated" for version 1 of this interface, got one for version 0'],
) {
    my ($name, $text) = @$case;
    refused("an algorithm that is not to be used: $name", "${load}RateLimitPlan p rate=1/s algorithm=$name", 2, "RateLimitPlan: $text");
    refused("and in a rule: $name", "${load}RateLimitRule r rate=1/s algorithm=$name", 2, "RateLimitRule: $text");
}
refused('a state larger than shared memory keeps', "${load}RateLimitPlan p rate=70000/s algorithm=wide", 2,
    'RateLimitPlan: expected a limit with a state of at most 65640 bytes, which is what the store keeps of one key, got algorithm=wide with 70000');
refused('and in a rule', "${load}RateLimitRule r rate=65641/s algorithm=wide", 2,
    'RateLimitRule: expected a limit with a state of at most 65640 bytes', 'got algorithm=wide with 65648');
refused('a store of another version', "${load}RateLimitStore s dated", 2,
    'RateLimitStore: expected the store "dated" for version 1 of this interface, got one for version 0');
refused('a store without its functions', "${load}RateLimitStore s bare", 2, 'RateLimitStore: expected a store with configure and open, got "bare"');
refused('an identity without its function', "${load}RateLimitIdentity x=bare:y", 2, 'RateLimitIdentity: expected an identity with value, got "bare:y"');
refused('a plan source without its functions', "${load}RateLimitPlanMap k bare:y", 2,
    'RateLimitPlanMap: expected a plan source with configure and find, got "bare:y"');
refused('a plan source of another version', "${load}RateLimitPlanMap k dated:y", 2,
    'RateLimitPlanMap: expected the plan source "dated" for version 1 of this interface, got one for version 0');
refused('an identity of another version', "${load}RateLimitIdentity x=dated:y", 2,
    'RateLimitIdentity: expected the identity "dated" for version 1 of this interface, got one for version 0');

{
    my $server = RLP::Httpd->new(config => $load);
    my ($code, $said) = $server->configtest('-DMISFIT_CLOCK');
    ok($code != 0 && $said =~ /expected the clock "default" for version 1 of this interface, got one for version 0/,
        'a clock of another version') || diag $said;
    ($code, $said) = $server->configtest();
    is($code, 0, 'none, without it') || diag $said;

    $server->configure("${load}RateLimitIdentity k=header:K ip\nRateLimitPlanMap k txt: timeout=50ms\n");
    ($code, $said) = $server->configtest('-DMISFIT_TXT');
    is($code, 0, 'a plan source registered later takes the place of one of ours') || diag $said;
    ($code, $said) = $server->configtest();
    ok($code != 0 && $said =~ /expected txt:FILE with a path, got "txt:"/, 'which else is there') || diag $said;

    my $needed = "${load}RateLimitEngine On\nRateLimitRule r rate=1/s\n";
    for my $case (['SHM', 'expected slots=N'], ['BARE_SHM', 'expected a store with configure and open']) {
        my ($define, $text) = @{$case};
        $server->configure($needed);
        ($code, $said) = $server->configtest("-DMISFIT_$define");
        ok($code == 1 && $said =~ /RateLimitStore: none is declared, and "shm" of another module cannot be had without: \Q$text\E$/m,
            "a store that has taken the place of ours: $text") || diag "$code: $said";
        $server->configure($load);
        ($code, $said) = $server->configtest("-DMISFIT_$define");
        is($code, 0, 'where no store is needed, nobody asks for it') || diag $said;
    }
    $server->configure(loaded('table') . "RateLimitStore s table slots=64\n$needed");
    ($code, $said) = $server->configtest('-DMISFIT_BARE_SHM');
    is($code, 0, 'nor where another is declared') || diag $said;

    $server->configure("${load}RateLimitEngine On\nRateLimitStore s hollow\nRateLimitRule r rate=1/s\n");
    like($server->try_start, qr/RateLimitStore: expected a store with owners and secret/, 'a store without what a store has')
        || $server->stop;
}

{
    my $server = RLP::Httpd->new(config => $load
            . "RateLimitEngine On\nRateLimitIdentity ip\nRateLimitRule r rate=1000/s algorithm=wild\n"
            . "RateLimitHeaders Both\nRateLimitCost \"expr=%{HTTP:X-Cost}\"\n");
    $server->start;
    my $said = sub {
        my ($cost) = @_;
        my $response = $server->get('/index.html', "X-Cost: $cost");
        return join ' ', $response->{status}, map { $response->{fields}{$_} // '-' } qw(retry-after x-ratelimit-remaining x-ratelimit-reset);
    };
    is($said->(4), '200 - 1 0', 'an answer that is none lets pass');
    like($server->log_text, qr/RLP002: /, 'and the log says so');
    is($said->(1), '200 - 0 0', 'nobody waits who may not, nor for ever');
    is($said->(2), '429 1 0 0', 'a refusal has an end');
    is($said->(3), '200 - 999999999999999 0', 'a rest has 15 digits');
    $server->stop;
}

{
    my $server = RLP::Httpd->new(config => $load
            . "RateLimitEngine On\nRateLimitIdentity ip\nRateLimitRule r rate=100/s algorithm=broken\nRateLimitHeaders Both\n");
    $server->start;
    my $connection = $server->connection;
    my @left;
    for (1 .. 4) {
        $connection->send("GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n");
        push @left, $connection->response->{fields}{'x-ratelimit-remaining'} // '-';
    }
    is("@left", '99 98 97 96', 'T-27 a counter found damaged is charged once a request, on a kept connection too');
    $server->stop;
}

{
    my $server = RLP::Httpd->new(config => $load
            . "RateLimitEngine On\nRateLimitPlan slow rate=10/week\nRateLimitIdentity key=header:X-Key ip\n"
            . "RateLimitRule site rate=5000/week\nRateLimitPlanMap key drowsy: timeout=50ms\n");
    $server->start;
    my $limit = sub { return $server->get('/index.html', "X-Key: $_[0]")->{fields}{'x-ratelimit-limit'} };
    is($limit->('a'), 5000, 'nobody waits longer than timeout= for a source that blocks');
    ok(RLP::Httpd::wait_for(sub { $limit->('a') == 10 }), 'its answer counts when it has come');
    is($limit->('fail'), 5000, 'a value without an answer is unknown');
    is($limit->('a'), 10, 'and others are not');
    $server->stop;
}

# Rules of both phases and of several chains, before and after an internal redirect.
SKIP: {
    my @needed = qw(dir authn_core authz_user);
    skip 'httpd has no mod_dir', 1 if grep { !RLP::Httpd::has_module($_) } @needed;
    my $server = RLP::Httpd->new(modules => \@needed, config => $load
            . "RateLimitEngine On\nRateLimitPlan slow rate=10/week\nRateLimitIdentity key=header:X-Key ip\n"
            . "RateLimitPlanMap key counted:\nRateLimitRule early phase=early key=key\nRateLimitRule late\n"
            . "RateLimitRule apart key=key+ip\nRateLimitRule dry mode=log key=key\nRateLimitRule index path=/index.html key=key\n"
            . "DirectoryIndex index.html\n<Location /gone>\nErrorDocument 404 /index.html\n</Location>\n");
    $server->start;
    my $asked = sub { return join ' ', $server->get(@_)->{head} =~ /^X-Asked: (.*)$/mg };
    is($asked->($_, 'X-Key: a'), 'a', "P-12 $_: asked once for all rules of a request") for qw(/index.html / /gone);
    is($asked->('/', 'X-Key: x'), 'x', 'P-12 once, too, when it knows nothing');
    is($asked->('/'), '', 'P-12 and not without a value to ask for');
    $server->stop;
}

# A source that does not block, and uses the rest of the contract.
{
    my $config = $load . "RateLimitEngine On\nRateLimitPlan slow rate=10/week\nRateLimitIdentity key=header:X-Key ip\n"
        . "RateLimitRule site rate=5000/week\nRateLimitPlanMap key moody=any:thing ttl=1min\n";
    my $server = RLP::Httpd->new(config => $config);
    $server->start;
    my $limit = sub { return $server->get('/index.html', "X-Key: $_[0]")->{fields}{'x-ratelimit-limit'} };
    my $in_a_row = 0;
    ok(RLP::Httpd::wait_for(sub { $in_a_row = $limit->('a') == 10 ? $in_a_row + 1 : 0; $in_a_row > 30 }),
        'a source is told to look for changes, its version ends what was kept before, and its answers are kept for all children');
    is($limit->('fail'), 5000, 'a value for which it fails is unknown');
    like($server->log_text, qr/RLP017: plan map of key: it is in a mood; values that were known stay known/, 'and the log has its words');
    my ($code, $said) = $server->configtest('-DDUMP_RATELIMIT');
    like($said, qr/plans of key by moody, else the next identity/, 'the dump has its name') || diag $said;
    $config =~ s{slow rate=10/week}{slow quota=100/day};
    $server->configure($config);
    ($code, $said) = $server->configtest();
    $said =~ s/\s+/ /g;
    like($said, qr/the store is too small for all quotas: 4294967295 by rule site for 4294967295 values of "key"/, 'and its values are counted, as far as that goes')
        || diag $said;
    $server->stop;
}

done_testing;
