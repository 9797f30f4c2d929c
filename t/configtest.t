#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# httpd -t: each wrong directive is refused with file, line, what was expected and what came. Case ids are those of
# the conformance tables. What passes is in configtest_right.t, how a configuration is told in configtest_words.t.

use strict;
use warnings;

use POSIX ();
use Test::More;

use RLP::Configtest;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $server = server_with('env');
my $file = $server->config_file;
my $dir = $server->dir;
POSIX::mkfifo("$dir/pipe", 0600) or die "$dir/pipe: $!\n";
symlink 'nowhere', "$dir/link" or die "$dir/link: $!\n";

# --- the nearest word for a wrong one

for my $case (
    # directive, what comes behind the word
    ['RateLimitEngine Onn', 'On'], ['RateLimitEngine LogOny', 'LogOnly'], ['RateLimitEngine log', 'LogOnly'], ['RateLimitStore x shmm', 'shm'], ['RateLimitStore x shm szie=1M', 'size='],
    ['RateLimitStore x shm flie=x', 'file='], ['RateLimitPlan p rate=1/s algoritm=token-bucket', 'algorithm='], ['RateLimitPlan p rate=1/s algorithm=token-buckt', 'token-bucket'],
    ['RateLimitPlan p conurrent=5', 'concurrent='], ['RateLimitPlan p qouta=5', 'quota='], ["${plans}RateLimitPlan p rate=1/s like=fere", 'free'],
    ["${plans}RateLimitPlanDefault fere", 'free'], ['RateLimitPlanChange cary', 'carry'], ["${plans}RateLimitPlanMap usr txt:keys", 'user'],
    ["${plans}RateLimitPlanMap user txt:keys unknwon=next", 'unknown='], ["${plans}RateLimitPlanMap user txt:keys unknown=nxt", 'next'],
    ["${plans}RateLimitPlanMap user txt:keys unknown=dney:401", 'deny:'], ['RateLimitIdentity anonymus', 'anonymous'], ['RateLimitIdentity k=haeder:X', 'header:'],
    (map { ["RateLimitRule r rate=1/s $_->[0]", $_->[1]] } ['metod=GET', 'method='], ['pth=/', 'path='], ['prio=1', ''], ['priorty=1', 'priority='],
        ['kye=ip', 'key='], ['pan=none', 'plan='], ['acton=mark', 'action='], ['action=dny', 'deny'], ['mod=log', 'mode='], ['mode=lgo', 'log'], ['phas=early', 'phase='],
        ['phase=fixup', 'fixups'], ['stoer=x', 'store='], ['failur=open', 'failure='], ['cots=1', 'cost='], ['resrve=1', 'reserve='], ['coun=request', 'count='], ['count=reqest', 'request'], ['fi=true', 'if='],
        ['brust=5', 'burst='], ['inital=5', 'initial='], ['strat=2026-01-01', 'start=']),
    ['RateLimitKeyLog hsah', 'hash'], ['RateLimitKeyLog plian', 'plain'], ['RateLimitKeyLog hash repet=1s', 'repeat='], ['RateLimitDelay mx=1s', 'max='],
    ['RateLimitDelay max=1s bugdet=1%', 'budget='], ['RateLimitHeaders Legcy', 'Legacy'], ['RateLimitHeaders Both reset=epcoh', 'reset=epoch'],
    ['RateLimitHeaders Both alwys', 'always'], ['RateLimitEnv alwas', 'always'], ['RateLimitCost exrp=1', 'expr='], ['RateLimitExempt exrp=true', 'expr='],
    ['RateLimitExempt ipp 192.0.2.1', 'ip'], ['RateLimitCost response-header:X rserve=1', 'reserve='],
) {
    my ($config, $near) = @$case;
    my ($wrong) = $config =~ /([^\n]*)\z/;
    refused("V-13 a typo: $wrong", $config, $near eq '' ? qr/got "[^"]+"(?! \()/ : qr/got "[^"]+"(?: in "[^"]+")? \(\Q$near\E\?\)/);
}

# --- one directive each: line, what is said

my $name_rule = 'expected a name of 1 to 64 letters, digits, "_", "." or "-" that begins with a letter';
my $no_name = 'a' x 65;
my $stores = RLP::Httpd::has_redis() ? 'shm or redis' : 'shm';
my $maps = 'txt:FILE|dbm:FILE|"dbd:SQL"|"expr:EXPR"' . (RLP::Httpd::has_redis() ? '|"redis:KEY"' : '');
my $sources = 'txt:FILE, dbm:FILE, dbm=TYPE:FILE, "dbd:SQL"'
    . (RLP::Httpd::has_redis() ? ', "expr:EXPR", "redis:KEY" or "redis=STORE:KEY"' : ' or "expr:EXPR"');

my @wrong = (
    ['RateLimitEngine', 'RateLimitEngine takes one argument'],
    ['RateLimitEngine On Off', 'RateLimitEngine takes one argument'],
    ['RateLimitEngine Maybe', 'RateLimitEngine: expected On, Off or LogOnly, got "Maybe"'],

    ['RateLimitStore', 'RateLimitStore: expected NAME shm [size=SIZE] [file=PATH]'],
    ['RateLimitStore x', 'RateLimitStore: expected NAME shm [size=SIZE] [file=PATH]', 'V-11 a store without a type'],
    ['RateLimitStore 1x shm', qr/RateLimitStore: \Q$name_rule\E, got "1x"/, 'V-11 a wrong store name'],
    ['RateLimitStore shm size=1M', qr/RateLimitStore: expected .*shm/, 'V-11 a store without a name'],
    ['RateLimitStore x file', qq{RateLimitStore: expected a store of the type $stores, got "file"}, 'V-11 V-13 an unknown store type'],
    ['RateLimitStore x shmm', qq{RateLimitStore: expected a store of the type $stores, got "shmm"}, 'V-13 a misspelt store type'],
    (RLP::Httpd::has_redis() ? () : ['RateLimitStore x redis url=redis://localhost',
        qr/RateLimitStore: expected shm: .*built without Redis, got "redis"/, 'V-14 a store type that is not built in']),
    ["RateLimitStore x shm\nRateLimitStore y shm\nRateLimitStore x shm", 'RateLimitStore: expected a name that no store has yet, got "x"'],
    ['RateLimitRule r rate=1/s store=9', qq{RateLimitRule: $name_rule, got "9"}],
    ['RateLimitRule r rate=1/s store=there', 'RateLimitRule: expected the name of a store, got "store=there"'],
    ["RateLimitStore near shm\nRateLimitRule r rate=1/s store=nera", 'RateLimitRule: expected the name of a store, got "store=nera" (near?)', 'V-13 a misspelt store'],
    ['RateLimitRule r rate=1/s failure=never', 'RateLimitRule: expected failure=local, open or closed, got "failure=never"'],
    ['RateLimitRule r rate=1/s failure=opne', 'RateLimitRule: expected failure=local, open or closed, got "failure=opne" (open?)', 'V-13 a misspelt failure='],
    ["RateLimitStore near shm\nRateLimitRule r rate=1/s failure=open", 'RateLimitRule: expected no failure= with the store "near", which is on this host', 'V-11 failure= without Redis'],
    ["RateLimitStore near shm\nRateLimitRule r rate=1/s sync=lease", 'RateLimitRule: expected no sync= with the store "near", which is on this host', 'V-11 sync= without Redis'],
    ['RateLimitRule r rate=1/s sync=leese', 'RateLimitRule: expected sync=exact or lease, got "sync=leese" (lease?)', 'V-13 a misspelt sync='],
    ['RateLimitRule r rate=1/s store=x store=x', 'RateLimitRule: expected store= once, got "store=x"'],
    ['RateLimitStore x shm sise=1M', 'RateLimitStore: expected size=SIZE or file=PATH, got "sise=1M"', 'V-13 an unknown store option'],
    (map { ["RateLimitStore x shm $_\"hush-hush\"", qr/RateLimitStore: expected the quotes around the whole word: write "$_[.]{3}", got $_"[.]{3}(?!.*hush)/s, "$_ with quotes behind the word"] }
        'file=', 'size='),
    ['RateLimitStore x shm 16M', 'expected size=SIZE or file=PATH, got "16M"'],
    ['RateLimitStore x shm file=', 'expected size=SIZE or file=PATH, got "file="'],
    ['RateLimitStore x shm file=none/x', "RateLimitStore: cannot create $dir/none/x: No such file or directory", 'V-13 a file in no directory'],
    ['RateLimitStore x shm file=tested.conf/x', "RateLimitStore: cannot create $dir/tested.conf/x: Not a directory", 'V-13 a file in a file'],
    ['RateLimitStore x shm file=run', "RateLimitStore: expected a file: $dir/run", 'V-13 a directory for a file'],
    ['RateLimitStore x shm file=link', "RateLimitStore: expected a file: $dir/link is a symbolic link", 'V-13 a symbolic link for a file'],
    ['RateLimitStore x shm file=pipe', "RateLimitStore: expected a file: $dir/pipe", 'V-13 a pipe for a file'],
    (map { ["RateLimitStore x shm size=$_", qq{RateLimitStore: expected size=N with K, M or G, got "size=$_"}] }
        '', 'x', 'M', '-1M', '+1M', '1.5M', '16MB', '16T', '16 M' =~ s/ /%20/r, '0x10M', '1e3M'),
    (map { ["RateLimitStore x shm size=$_", qq{RateLimitStore: expected a size from 1M to 1024G, got "size=$_"}] }
        qw(0 1 1K 1023K 1048575 1025G 2000000G 99999999999999999999 99999999999999999999G 9223372036854775807K)),

    ['RateLimitPlan', 'RateLimitPlan: expected NAME LIMIT...'],
    ['RateLimitPlan p', 'RateLimitPlan: expected NAME LIMIT..., such as RateLimitPlan free rate=10/min'],
    ['RateLimitPlan 9p rate=1/s', qq{RateLimitPlan: $name_rule, got "9p"}],
    ['RateLimitPlan "" rate=1/s', qq{RateLimitPlan: $name_rule, got ""}],
    ['RateLimitPlan p/q rate=1/s', qq{RateLimitPlan: $name_rule, got "p/q"}],
    ["RateLimitPlan p\x{c3}\x{a4} rate=1/s", qr/RateLimitPlan: \Q$name_rule\E, got "p/],
    ["RateLimitPlan $no_name rate=1/s", qq{RateLimitPlan: $name_rule, got "$no_name"}],
    (map { ["RateLimitPlan $_ rate=1/s", qq{RateLimitPlan: expected a name other than auto, none and default, got "$_"}] }
        qw(auto none default Default)),
    ["RateLimitPlan p rate=1/s\nRateLimitPlan p rate=2/s", 'RateLimitPlan: expected a name that no plan has yet, got "p"',
        'R-30 a plan twice'],
    ['RateLimitPlan p rate=1/s like=q', 'RateLimitPlan: expected like=PLAN with a plan declared before, got "like=q"'],
    ['RateLimitPlan p like=p rate=1/s', 'expected like=PLAN with a plan declared before, got "like=p"'],
    ["RateLimitPlan p rate=1/s\nRateLimitPlan q like=p like=r", 'got "like=r"'],
    ["RateLimitPlan p " . join(' ', ('rate=1/s') x 8) . "\nRateLimitPlan q quota=1 like=p",
        'RateLimitPlan: expected at most 8 limits in one plan, with those of "p"'],
    ['RateLimitPlan p then=q rate=1/s', qr/RateLimitPlan: expected .*got "then=q"/, 'then= without a quota'],

    ["RateLimitPlan p quota=5 then=qq\nRateLimitPlan q rate=1/s", 'RateLimitPlan: then=: expected the name of a plan, got "qq" (q?)',
        'V-13 then= with an unknown plan', 1],
    ['RateLimitPlan p quota=5 then=p', 'RateLimitPlan: expected another plan, which has no then= of its own (no chains), got "then=p"',
        'then= with the plan itself'],
    ["RateLimitPlan p quota=5 then=q\nRateLimitPlan q quota=5 then=r\nRateLimitPlan r rate=1/s",
        'RateLimitPlan: expected another plan, which has no then= of its own (no chains), got "then=q"', 'a chain of then=', 1],
    ["RateLimitPlan r rate=1/s\nRateLimitPlan q quota=5 then=r\nRateLimitPlan p quota=9 like=q then=q",
        'which has no then= of its own (no chains), got "then=q"', 'then= with the plan that like= names', 3],
    ["RateLimitPlan q rate=1/s\nRateLimitRule r quota=5 then=q", 'RateLimitRule: expected then= in a RateLimitPlan alone, got "then=q"'],
    ["RateLimitPlan q rate=1/s\nRateLimitRule r rate=5/s then=q", 'RateLimitRule: expected then= in a RateLimitPlan alone, got "then=q"'],
    ['RateLimitPlan p rate=1/s then=p', 'RateLimitPlan: expected a quota= beside then=, got "then=p"'],
    ['RateLimitPlan pro quota=5 then=pr0', qr/RateLimitPlan: then=: expected the name of a plan, got "pr0"(?! \()/, 'then= near a plan that cannot stand there'],
    ['RateLimitPlan p rate=1/s bandwidth=1M/s', 'RateLimitPlan: expected mod_ratelimit to be loaded for bandwidth='],
    ['RateLimitRule r rate=1/s bandwidth=1M/s', 'RateLimitRule: expected mod_ratelimit to be loaded for bandwidth='],
    ['RateLimitPlan p concurrent=2 lease=60s', 'RateLimitPlan: expected no lease= with a store of this host: a child\'s death frees what it held'],
    ['RateLimitRule r concurrent=2 lease=60s', 'RateLimitRule: expected no lease= with a store of this host: a child\'s death frees what it held'],
    ['RateLimitRule r rate=9/s concurrent=2 cost=10', 'expected a cost of at most 9, which is all that "r" ever has at once, got 10'],

    ["${plans}RateLimitPlanDefault fre", 'RateLimitPlanDefault: expected the name of a plan, got "fre" (free?)'],
    ["${plans}RateLimitPlanDefault zzzzzzzz", 'RateLimitPlanDefault: expected the name of a plan, got "zzzzzzzz"'],
    ['RateLimitPlanDefault free', 'RateLimitPlanDefault: expected the name of a plan, got "free"', 'a plan where there is none'],
    ['RateLimitPlanDefault', 'RateLimitPlanDefault takes one argument'],
    ['RateLimitPlanChange maybe', 'RateLimitPlanChange: expected carry or reset, got "maybe"'],
    ['RateLimitPlanChange', 'RateLimitPlanChange takes one argument'],

    ['RateLimitPlanMap', qq{RateLimitPlanMap: expected TYPE $maps [ttl=DURATION] [timeout=DURATION] [unknown=next|default|deny[:STATUS]]}],
    ['RateLimitPlanMap user', qq{RateLimitPlanMap: expected TYPE $maps [ttl=DURATION] [timeout=DURATION] [unknown=next|default|deny[:STATUS]]}],
    ["${plans}RateLimitPlanMap user txt:keys\nRateLimitPlanMap user txt:keys",
        'RateLimitPlanMap: expected one map for each type of identity, got "user"'],
    ['RateLimitPlanMap user keys', qq{RateLimitPlanMap: expected $sources, got "keys"}],
    ['RateLimitPlanMap user txt:', 'RateLimitPlanMap: expected txt:FILE with a path, got "txt:"'],
    [RLP::Httpd::has_redis() ? 'RateLimitPlanMap user nosql:keys' : 'RateLimitPlanMap user redis:keys', qr/RateLimitPlanMap: expected \Q$sources\E, got "/,
        'V-14 a kind of map that is not here'],
    ['RateLimitPlanMap user dmb:keys', 'got "dmb:keys" (dbm:?)', 'V-13 a misspelt dbm:'],
    ['RateLimitPlanMap user txt=a:keys', 'got "txt=a:keys"'],
    ['RateLimitPlanMap user dbm:', 'RateLimitPlanMap: expected dbm:FILE or dbm=TYPE:FILE with a path'],
    ['RateLimitPlanMap user dbm=db:', 'RateLimitPlanMap: expected dbm:FILE or dbm=TYPE:FILE with a path'],
    ['RateLimitPlanMap user dbm=:keys', 'RateLimitPlanMap: expected dbm:FILE or dbm=TYPE:FILE with a path'],
    ["${plans}RateLimitPlanMap user dbm:missing", qr/RateLimitPlanMap: cannot open \S.*\/missing: .*; to make it: httxt2dbm -i TEXT -o/, 'a DBM file that is missing'],
    ["${plans}RateLimitPlanMap user dbm=sdbm:missing", qr/RateLimitPlanMap: cannot open .*\/missing\.\w+: .*; to make it: httxt2dbm -f sdbm -i TEXT -o/,
        'a DBM file of a type that is missing'],
    ["${plans}RateLimitPlanMap user dbm:keys", qr/RateLimitPlanMap: cannot use .*\/keys: it is damaged, locked by its writer, or no DBM file of the type default: make it anew with httxt2dbm/,
        'a damaged DBM file'],
    ["${plans}RateLimitPlanMap user dbm=nodbm:keys", 'RateLimitPlanMap: expected a type of DBM file that APR-util has here (such as db, gdbm or sdbm), got "nodbm"'],
    ["${plans}RateLimitPlanMap user dbd:SELECT", 'RateLimitPlanMap: expected one %s in the statement, where the value goes, as in "dbd:SELECT plan FROM customers'],
    ["${plans}RateLimitPlanMap user \"dbd:SELECT plan FROM k WHERE a = %s AND b = %s\"", 'RateLimitPlanMap: expected one %s in the statement'],
    ["${plans}RateLimitPlanMap user \"dbd:SELECT plan FROM k WHERE a = %d\"", 'RateLimitPlanMap: expected one %s in the statement'],
    ["${plans}RateLimitPlanMap user \"dbd:SELECT plan FROM k WHERE a = '%s'\"", 'RateLimitPlanMap: expected %s without quotes, since the database gets the value apart from'],
    ["${plans}RateLimitPlanMap user \"dbd:SELECT plan FROM k WHERE a = %s\"",
        'RateLimitPlanMap: expected mod_dbd for a map by dbd: load it before, with LoadModule dbd_module'],
    ["${plans}RateLimitPlanMap user txt:keys ttl=5s",
        'RateLimitPlanMap: expected no ttl= with txt:, since the file is in memory, and is read again when it changes; leave it out, got "ttl=5s"'],
    ["${plans}RateLimitPlanMap user txt:keys timeout=5s", 'RateLimitPlanMap: expected no timeout= with txt:, since the file is in memory; leave it out, got "timeout=5s"'],
    ['RateLimitPlanMap user expr:x ttl=5s', 'RateLimitPlanMap: expected no ttl= with expr:, since the expression is evaluated for each request; leave it out, got "ttl=5s"'],
    ['RateLimitPlanMap user expr:x timeout=5s', 'RateLimitPlanMap: expected no timeout= with expr:'],
    ['RateLimitPlanMap user dbm:keys timeout=5s', 'RateLimitPlanMap: expected no timeout= with dbm:, since nobody waits for a file; leave it out, got "timeout=5s"'],
    ['RateLimitPlanMap user dbm:keys ttl=5', 'RateLimitPlanMap: expected ttl=DURATION from 1s to 1day, got "ttl=5"'],
    ['RateLimitPlanMap user dbm:keys ttl=999ms', 'RateLimitPlanMap: expected ttl=DURATION from 1s to 1day, got "ttl=999ms"'],
    ['RateLimitPlanMap user dbm:keys ttl=2day', 'RateLimitPlanMap: expected ttl=DURATION from 1s to 1day, got "ttl=2day"'],
    ['RateLimitPlanMap user dbm:keys ttl=5s ttl=6s', 'RateLimitPlanMap: expected each option once, got "ttl=6s"'],
    ['RateLimitPlanMap user dbm:keys tll=5s', 'RateLimitPlanMap: expected unknown=next|default|deny[:STATUS], ttl=DURATION or timeout=DURATION, got "tll=5s" (ttl=?)',
        'V-13 a misspelt ttl='],
    ['RateLimitPlanMap user exp:pro', qq{RateLimitPlanMap: expected $sources, got "exp:pro" (expr:?)}, 'V-13 a misspelt expr:'],
    ['RateLimitPlanMap user expr:', 'RateLimitPlanMap: expected an expression behind expr:, got "": nothing is there'],
    ['RateLimitPlanMap user "expr:%{no"', qr/RateLimitPlanMap: expected an expression behind expr:, got "%\{no": \S/],
    ['RateLimitPlanMap user expr:"%{env:PLAN}"',
        'RateLimitPlanMap: expected the quotes around the whole word: write "expr:%{env:PLAN}", got expr:"%{env:PLAN}"'],
    ["${plans}RateLimitPlanMap user txt:keys unknwon=next",
        'RateLimitPlanMap: expected unknown=next|default|deny[:STATUS], ttl=DURATION or timeout=DURATION, got "unknwon=next" (unknown=?)', 'V-13 an unknown map option'],
    ["${plans}RateLimitPlanMap user txt:keys unknown=maybe",
        'expected unknown=next, unknown=default, unknown=deny or unknown=deny:STATUS, got "unknown=maybe"'],
    (map { ["${plans}RateLimitPlanMap user txt:keys unknown=deny:$_",
        qr/RateLimitPlanMap: expected unknown=deny:STATUS with a status .*, got "unknown=deny:$_"/] }
        '', qw(abc 200 399 600 4030 40 -403 403x 420 444 499)),
    ["${plans}RateLimitPlanMap usr txt:keys", qr/RateLimitPlanMap: expected a type of RateLimitIdentity .*got "usr"/],
    ["${plans}RateLimitIdentity k=header:X-Key ip\nRateLimitPlanMap k txt:keys unknown=default",
        'RateLimitPlanMap: expected unknown=next or unknown=deny for "k"', 'unknown=default for a header identity'],
    ["${plans}RateLimitPlanMap user txt:missing", qr{RateLimitPlanMap: cannot open \Q$dir\E/missing: No such file}],
    ["${plans}RateLimitPlanMap user txt:logs", qr{RateLimitPlanMap: .*\Q$dir\E/logs}, 'a directory as a map'],
    ["${plans}RateLimitPlanMap user txt:bad", qq{RateLimitPlanMap: line 3 of $dir/bad: expected "VALUE PLAN"}],
    ["${plans}RateLimitPlanMap user txt:many", qq{RateLimitPlanMap: line 2 of $dir/many: expected "VALUE PLAN"}],
    ["${plans}RateLimitPlanMap user txt:twice", "RateLimitPlanMap: line 3 of $dir/twice: expected each value once"],
    ["${plans}RateLimitPlanMap user txt:planless", qr{RateLimitPlanMap: line 2 of \Q$dir\E/planless: expected the name of a plan}],
    ["${plans}RateLimitPlanMap user txt:swapped", qr{RateLimitPlanMap: line 1 of \Q$dir\E/swapped: expected the name of a plan}],
    (map { ["${plans}RateLimitPlanMap user txt:digest$_",
        "RateLimitPlanMap: line 2 of $dir/digest$_: expected 64 hexadecimal digits behind sha256:"] } 1 .. 4),
    ["${plans}RateLimitPlanMap user txt:digest5", "RateLimitPlanMap: line 4 of $dir/digest5: expected each value once"],
    ["${plans}RateLimitPlanMap user txt:/dev/zero", 'RateLimitPlanMap: expected a file: /dev/zero'],
    (map { ["${plans}RateLimitPlanMap user txt:$_",
        "RateLimitPlanMap: line 1 of $dir/$_: expected a value, got the byte order mark that an editor has put there"] }
        'marked', 'marked-comment'),
    ["${plans}RateLimitPlanMap user txt:long", "RateLimitPlanMap: line 2 of $dir/long: expected lines of less than 8 kB"],

    ['RateLimitIdentity', 'RateLimitIdentity: expected TYPE..., such as RateLimitIdentity user ip'],
    ['RateLimitIdentity usr', qr/expected an identity type: user, ip, .*got "usr" \(user\?\)/, 'V-13 an unknown identity'],
    ['RateLimitIdentity user ip vhots', qr/got "vhots" \(vhost\?\)/],
    ['RateLimitIdentity 1x', qq{RateLimitIdentity: $name_rule, got "1x"}],
    ['RateLimitIdentity "" ip', 'RateLimitIdentity: expected TYPE or TYPE+TYPE, got ""'],
    ['RateLimitIdentity +ip', 'RateLimitIdentity: expected TYPE or TYPE+TYPE, got "+ip"'],
    ['RateLimitIdentity ip+', 'RateLimitIdentity: expected TYPE or TYPE+TYPE, got "ip+"'],
    ['RateLimitIdentity user++ip', 'RateLimitIdentity: expected TYPE or TYPE+TYPE, got "user++ip"'],
    ['RateLimitIdentity user+ip+vhost+global+anonymous', 'RateLimitIdentity: expected at most 4 parts joined with "+"'],
    (map { ["RateLimitIdentity ip/$_", qq{RateLimitIdentity: expected ip/BITS4,BITS6 with 1 to 32 and 1 to 128, got "ip/$_"}] }
        '', '0', '33', '-1', 'x', '24,', '24,0', '24,129', '24,x', '24,64,1', '99999999999999999999'),
    (map { my ($name) = /^(\w+)/; ["RateLimitIdentity $_", qq{RateLimitIdentity: expected $name=header:NAME, $name=cookie:NAME, $name=env:NAME or }
        . qq{$name=expr:EXPR, got "$_"}] } qw(k=X-Key k= sid=cooky sid=session:sid)),
    ['RateLimitIdentity sid=cooki:sid', 'got "sid=cooki:sid" (cookie:?)', 'V-13 a misspelt cookie:'],
    ['RateLimitIdentity k=cookie:', 'RateLimitIdentity: expected the name of a cookie, got "k=cookie:"'],
    ['RateLimitIdentity "k=cookie:a b"', 'RateLimitIdentity: expected the name of a cookie, got "k=cookie:a b"'],
    ['RateLimitIdentity k=cookie:a=b', 'RateLimitIdentity: expected the name of a cookie, got "k=cookie:a=b"'],
    ['RateLimitIdentity k=expr:', 'RateLimitIdentity: expected an expression behind expr:, got "": nothing is there'],
    ['RateLimitIdentity "k=expr:%{no"', qr/RateLimitIdentity: expected an expression behind expr:, got "%\{no": \S/],
    ['RateLimitIdentity k=expr:"%{HTTP:X Y}"', 'RateLimitIdentity: expected the quotes around the whole word: write "k=expr:%{HTTP:X...", got k=expr:"%{HTTP:X'],
    ['RateLimitIdentity cert=env:X', 'RateLimitIdentity: expected another name than "cert": it is built in'],
    ["RateLimitIdentity k=cookie:sid\nRateLimitIdentity k=cookie:SID",
        qq{RateLimitIdentity: expected another name than "k": it is declared otherwise on line 1 of $file}, 'a cookie of another case'],
    ["RateLimitIdentity k=expr:a\nRateLimitIdentity k=env:a", 'expected another name than "k"', 'an expression redefined'],
    ["${plans}RateLimitIdentity k=cookie:sid ip\nRateLimitPlanMap k txt:keys unknown=default",
        'RateLimitPlanMap: expected unknown=next or unknown=deny for "k"', 'unknown=default for a cookie'],
    (map { ["RateLimitIdentity \"k=header:$_\"", qq{RateLimitIdentity: expected the name of a header field, got "k=header:$_"}] } '', 'X Y', 'X-Key:', 'X-Key,X-Token'),
    ['RateLimitRule r rate=1/s key=k=header:X/Y+ip', 'RateLimitRule: expected the name of a header field, got "k=header:X/Y"'],
    ['RateLimitIdentity k=env:', 'RateLimitIdentity: expected a name behind the colon, got "k=env:"'],
    ['RateLimitIdentity =env:X', qq{RateLimitIdentity: $name_rule, got ""}],
    ['RateLimitIdentity 1k=env:X', qq{RateLimitIdentity: $name_rule, got "1k"}],
    ['RateLimitIdentity ip=24', 'RateLimitIdentity: expected another name than "ip": it is built in'],
    ['RateLimitIdentity user=env:X', 'RateLimitIdentity: expected another name than "user": it is built in'],
    ["RateLimitIdentity k=env:X\nRateLimitIdentity k=env:Y",
        qq{RateLimitIdentity: expected another name than "k": it is declared otherwise on line 1 of $file}, 'an identity redefined'],
    ["RateLimitIdentity k=env:X\nRateLimitRule r rate=1/s key=k=header:X",
        qq{RateLimitRule: expected another name than "k": it is declared otherwise on line 1 of $file}],

    (map { ["RateLimitRule r rate=1/s key=$_", qq{RateLimitRule: expected a name before the source, as in id=$_, got "$_"}] }
        qw(header:X-Key cookie:sid env:ORG expr:%{HTTP:X-Key})),
    ['RateLimitIdentity header:X-Key ip', 'RateLimitIdentity: expected a name before the source, as in id=header:X-Key, got "header:X-Key"'],
    (map { ["RateLimitRule $_", qq{RateLimitRule: expected NAME Off, with the name of a rule, got "$_"}] } qw(Off off)),
    ['RateLimitRule', 'RateLimitRule: expected NAME [LIMIT...] [option=...]..., or NAME Off'],
    ['RateLimitRule 1r rate=1/s', qq{RateLimitRule: $name_rule, got "1r"}],
    ['RateLimitRule r@h rate=1/s', qq{RateLimitRule: $name_rule, got "r\@h"}],
    ["RateLimitRule r rate=1/s\nRateLimitRule r rate=2/s", 'RateLimitRule: expected each name once in a section, got "r"',
        'R-30 B-32 two rules of one name'],
    ["RateLimitRule r rate=1/s\nRateLimitRule r Off", 'RateLimitRule: expected each name once in a section, got "r"',
        'R-30 a rule and its Off'],
    [join("\n", map { "RateLimitRule r$_ rate=1/s" } 1 .. 17), 'RateLimitRule: expected at most 16 rules in one section, got "r17"'],
    ['RateLimitRule r rate=1/s priorty=10', qr/RateLimitRule: expected a limit, plan=, .*got "priorty=10"/,
        'V-13 R-31 an option that is not known'],
    ['RateLimitRule r rate=1/s metod=GET', qr/RateLimitRule: expected .*got "metod=GET" \(method=\?\)/, 'V-13 an option misspelt'],
    ['RateLimitRule r rat=1/s', qr/RateLimitRule: expected .*got "rat=1\/s" \(rate=\?\)/, 'V-13 a limit misspelt'],
    ['RateLimitRule r plna=free', qr/RateLimitRule: expected .*got "plna=free" \(plan=\?\)/],
    ['RateLimitRule r rate=1/s xyzzyx=1', qr/RateLimitRule: expected .*got "xyzzyx=1"(?! \()/],
    ['RateLimitRule r Off rate=1/s', qr/RateLimitRule: expected .*got "Off"/],
    ['RateLimitRule r rate=1/s Off', qr/RateLimitRule: expected .*got "Off"/],
    (map { ["RateLimitRule r rate=1/s $_->[0] $_->[1]", qr/RateLimitRule: expected a limit, plan=, .*, got "\Q$_->[0]\E" \(\Q$_->[0]\E=\?\)/, "V-13 $_->[0] without its ="] }
        ['plan', 'none'], ['key', 'ip'], ['method', 'GET'], ['burst', 'five']),
    ['RateLimitRule r rate=1/s xyzzy', qr/RateLimitRule: expected a limit, plan=, .*got "xyzzy"(?! \()/],
    ['RateLimitRule r plan=1x', qq{RateLimitRule: $name_rule, got "1x"}],
    ['RateLimitRule r plan=', qq{RateLimitRule: $name_rule, got ""}],
    ['RateLimitRule r plan=none', 'RateLimitRule: expected a limit with plan=none, such as rate=10/min, got none'],
    ["${plans}RateLimitRule r plan=free rate=1/s",
        'RateLimitRule: expected no limits with plan=free, which is for everybody: they would never apply'],
    ["${plans}RateLimitRule r plan=prp", 'RateLimitRule: expected the name of a plan, got "prp" (pro?)', 'V-13 an unknown plan'],
    ["${plans}RateLimitRule r plan=Free", 'RateLimitRule: expected the name of a plan, got "Free" (free?)'],
    ['RateLimitRule r rate=1/s key=usr', qr/expected an identity type: .*got "usr" \(user\?\)/],
    ['RateLimitRule r rate=1/s key=', 'RateLimitRule: expected TYPE or TYPE+TYPE, got ""'],
    ['RateLimitRule r rate=1/s key=ip/64', qr/RateLimitRule: expected ip\/BITS4,BITS6 .*got "ip\/64"/],
    (map { ["RateLimitRule r rate=1/s path=$_", qq{RateLimitRule: expected path= with a path from the first / on, such as /items/* or /api/**, got "path=$_"},
        'R-13 a path without its first /'] } '', 'items', '**'),
    (map { ["RateLimitRule r rate=1/s path=$_", qq{expected path= with "*" or "**" as a whole segment, such as /items/*, got "path=$_"},
        'R-13 a * in a word'] } qw(/*** /api*** /a/*.html /a/**b)),
    (map { ["RateLimitRule r rate=1/s path=$_", qq{expected path= with segments that a path can have: httpd removes "//", "/./" and "/../" from it, got "path=$_"},
        'R-23 a path that none is'] } qw(// //a /a//b /./a /a/..)),
    ['RateLimitRule r rate=1/s path=' . '/a' x 33, qr/expected path= with at most 32 segments, got/],
    ['RateLimitRule r rate=1/s path=/a path=/b', 'RateLimitRule: expected path= once, got "path=/b"'],
    ['RateLimitRule r rate=1/s pth=/a', qr/RateLimitRule: expected .*got "pth=\/a" \(path=\?\)/, 'V-13 an option misspelt'],
    (map { ["RateLimitRule r rate=1/s priority=$_", qq{RateLimitRule: expected priority=N with a whole number from 0 to 999999, got "priority=$_"},
        'R-31 a priority that is no number'] } '', qw(x -1 +1 1.5 1000000 0x10)),
    (map { ["RateLimitRule r rate=1/s mode=$_", qq{RateLimitRule: expected mode=enforce or mode=log, got "mode=$_"}, 'V-13 an unknown mode'] } '', 'dry'),
    ['RateLimitRule r rate=1/s mode=enforced', 'RateLimitRule: expected mode=enforce or mode=log, got "mode=enforced" (enforce?)', 'V-13 a mode misspelt'],
    ['RateLimitRule r rate=1/s action=marks', 'expected action=deny, action=delay, action=delay:DURATION or action=mark, got "action=marks" (mark?)'],
    ['RateLimitRule r rate=1/s action=mark mode=log', 'RateLimitRule: expected no action=mark with mode=log, which refuses nobody either'],
    (map { ["RateLimitRule r rate=1/s key=ip phase=$_", qq{RateLimitRule: expected phase=early or phase=fixups, got "phase=$_"}, 'V-13 an unknown phase'] } '', 'late'),
    ['RateLimitRule r rate=1/s phase=erly', 'expected phase=early or phase=fixups, got "phase=erly" (early?)', 'V-13 a phase misspelt'],
    ['RateLimitRule r rate=1/s phase=early',
        'RateLimitRule: expected key= with phase=early, such as key=ip: it says whom to count before authentication, got none'],
    (map { ["RateLimitRule r rate=1/s phase=early key=$_", 'RateLimitRule: expected a key= without user with phase=early, which is before authentication, got "user"'] }
        qw(user vhost+user user+ip)),
    ['RateLimitRule r rate=1/s method=', 'RateLimitRule: expected method=GET,POST or method=!OPTIONS, got "method="'],
    ['RateLimitRule r rate=1/s method=,', 'RateLimitRule: expected method=GET,POST or method=!OPTIONS, got "method=,"'],
    ['RateLimitRule r rate=1/s method=!', 'RateLimitRule: expected method=GET,POST or method=!OPTIONS, got "method=!"'],
    ['RateLimitRule r rate=1/s method=GET,GTE', qr/expected methods that httpd knows, .*got "method=GET,GTE"/],
    ['RateLimitRule r rate=1/s method=GET,!POST', qr/expected methods that httpd knows, .*got "method=GET,!POST"/],
    ['RateLimitRule r rate=1/s if="%{REQUEST_METHOD} == \'GET\'"',
        q{write "if=%{REQUEST_METHOD}}, 'if="..." with the quotes in the wrong place'],
    ['RateLimitRule r rate=1/s "if=%{REQUEST_METHOD} = = x"', qr/expected an expression behind if=, got "%\{REQUEST_METHOD\} = = x": /],
    ['RateLimitRule r rate=1/s if=', qr/expected an expression behind if=, got ""/],
    ['RateLimitRule r rate=1/s "if=%{NO_SUCH:x} == 1"', qr/expected an expression behind if=, got/],

    ['RateLimitHeaders', 'RateLimitHeaders: expected Off, IETF, Legacy or Both first, got ""'],
    ['RateLimitHeaders maybe', 'RateLimitHeaders: expected Off, IETF, Legacy or Both first, got "maybe"'],
    ['RateLimitHeaders reset=epoch', 'RateLimitHeaders: expected Off, IETF, Legacy or Both first, got "reset=epoch"'],
    ['RateLimitHeaders Both reset=unix', 'RateLimitHeaders: expected reset=delta, reset=epoch, always or denied, got "reset=unix"'],
    ['RateLimitHeaders Both reset=delta reset=epoch', 'RateLimitHeaders: expected reset= once, and either always or denied, got "reset=epoch"'],
    ['RateLimitHeaders Both always denied', 'RateLimitHeaders: expected reset= once, and either always or denied, got "denied"'],
    ['RateLimitRule r rate=1/s key=ip key=user', 'RateLimitRule: expected key= once, got "key=user"'],
    ['RateLimitStore x shm size=1M size=2M', 'RateLimitStore: expected each option once, got "size=2M"'],
    ["RateLimitPlan a rate=1/s\nRateLimitPlan b rate=1/s\nRateLimitPlan c like=a like=b", 'RateLimitPlan: expected like= once, got "like=b"'],
    ['RateLimitPlanMap user txt:keys unknown=next unknown=default', 'RateLimitPlanMap: expected each option once, got "unknown=default"'],
    ['RateLimitHeaders Both never', 'RateLimitHeaders: expected reset=delta, reset=epoch, always or denied, got "never"'],

    ['RateLimitCost', 'RateLimitCost: expected N, "expr=EXPR" or response-header:NAME [reserve=N]'],
    (map { ["RateLimitCost $_", qq{RateLimitCost: expected a cost of 0 or more with at most three decimals, "expr=EXPR" or }
        . qq{response-header:NAME, got "$_"}, "V-07 RateLimitCost $_"] } qw(-1 +1 ten 1e3 1.2345 1. 1/s 9999999999999999)),
    ['RateLimitCost exp=5', 'got "exp=5" (expr=?)', 'V-13 a misspelt expr='],
    ['RateLimitCost response-heder:X', 'got "response-heder:X" (response-header:?)', 'V-13 a misspelt response-header:'],
    ['RateLimitCost request-header:', qr/RateLimitCost: expected .*got "request-header:"/, 'V-13 an unknown source of a cost'],
    ['RateLimitCost expr=', 'RateLimitCost: expected an expression behind expr=, got "": nothing is there'],
    ['RateLimitCost "expr=%{no"', qr/RateLimitCost: expected an expression behind expr=, got "%\{no": \S/],
    ['RateLimitCost "expr=%{nofunction:x}"', qr/expected an expression behind expr=, got "%\{nofunction:x}": Function 'nofunction' does not exist/],
    ['RateLimitCost expr="%{HTTP:X-Size}"',
        'RateLimitCost: expected the quotes around the whole word: write "expr=%{HTTP:X-Size}", got expr="%{HTTP:X-Size}"'],
    ['RateLimitCost expr=%{HTTP:X-Size} .5', qr/RateLimitCost: expected one word .*got ".5"/],
    ['RateLimitCost 5 6', qr/RateLimitCost: expected one word .*got "6"/],
    (map { ["RateLimitCost \"response-header:$_\"", qq{RateLimitCost: expected response-header:NAME with the name of a header field, }
        . qq{got "response-header:$_"}] } '', 'X Y', 'X:', '(x)'),
    (map { ["RateLimitCost response-header:X-Cost reserve=$_", qq{RateLimitCost: expected reserve=N with at most three decimals, got "reserve=$_"}] }
        '', qw(-1 x 1.0001)),
    ['RateLimitCost 5 reserve=2', 'RateLimitCost: expected reserve= with response-header:NAME alone, got "reserve=2"'],
    ['RateLimitCost expr=5 reserve=2', 'RateLimitCost: expected reserve= with response-header:NAME alone, got "reserve=2"'],
    ['RateLimitCost response-header:X reserve=1 reserve=2', 'RateLimitCost: expected each option once, got "reserve=2"'],
    ['RateLimitCost response-header:X resrve=2', qr/RateLimitCost: expected one word .*got "resrve=2" \(reserve=\?\)/, 'V-13 a misspelt reserve='],

    ['RateLimitRefund', 'RateLimitRefund: expected "expr=EXPR"'],
    ['RateLimitRefund true', 'RateLimitRefund: expected "expr=EXPR" as one word in quotes, got "true"'],
    ['RateLimitRefund expr=', 'RateLimitRefund: expected an expression behind expr=, got "": nothing is there'],
    ['RateLimitRefund "expr=%{REQUEST_STATUS} -ge"', qr/RateLimitRefund: expected an expression behind expr=, got "%\{REQUEST_STATUS} -ge": \S/],
    ['RateLimitRefund expr="%{REQUEST_STATUS} -ge 500"',
        'RateLimitRefund: expected the quotes around the whole word: write "expr=%{REQUEST_STATUS}...", got expr="%{REQUEST_STATUS}'],
    ['RateLimitRefund expr=%{REQUEST_STATUS} -ge 500', 'RateLimitRefund: expected "expr=EXPR" as one word in quotes, got "-ge"'],

    ['RateLimitExempt', 'RateLimitExempt: expected ip CIDR..., file:PATH or "expr=EXPR"'],
    ['RateLimitExempt ip', 'RateLimitExempt: expected ip CIDR..., file:PATH or "expr=EXPR", got "ip"'],
    ['RateLimitExempt ip', qr/got "ip"(?! \()/, 'V-13 a word is not like itself'],
    ['RateLimitExempt 192.0.2.1', 'RateLimitExempt: expected ip CIDR..., file:PATH or "expr=EXPR", got "192.0.2.1"'],
    ['RateLimitExempt iip 192.0.2.1', 'RateLimitExempt: expected ip CIDR..., file:PATH or "expr=EXPR", got "iip" (ip?)', 'V-13 a misspelt ip'],
    ['RateLimitExempt user bob', 'RateLimitExempt: expected ip CIDR..., file:PATH or "expr=EXPR", got "user"'],
    ['RateLimitExempt fiel:networks', 'got "fiel:networks" (file:?)', 'V-13 a misspelt file:'],
    ['RateLimitExempt exp=true', 'got "exp=true" (expr=?)', 'V-13 a misspelt expr='],
    (map { ["RateLimitExempt ip 192.0.2.1 $_", qq{RateLimitExempt: expected an address or a network, such as 192.0.2.0/24 or 2001:db8::/32, got "$_"}] }
        qw(192.0.2 192.0.2.0/33 192.0.2.0/ 192.0.2.0/x 192.0.2.0/-1 192.0.2.0/+8 192.0.2.0/255.255.255.0 192.0.2.256 2001:db8::/129 /64
        fe80::1%lo example.org 1::2::3 192.0.2.0//24 file:networks)),
    ['RateLimitExempt ip' . ' 192.0.2.1' x 100 . ' 192.0.2.300', 'got "192.0.2.300"', 'a wrong network behind a hundred'],
    ['RateLimitExempt ip 192.0.2.1/24', 'expected nothing behind the bits of the network: 192.0.2.0/24, got "192.0.2.1/24"'],
    ['RateLimitExempt ip 2001:db8::1/64', 'expected nothing behind the bits of the network: 2001:db8::/64, got "2001:db8::1/64"'],
    ['RateLimitExempt ip ::ffff:192.0.2.1/120', 'expected nothing behind the bits of the network: 192.0.2.0/24, got "::ffff:192.0.2.1/120"'],
    ['RateLimitExempt file:', 'RateLimitExempt: expected file:PATH with a path, got "file:"'],
    ['RateLimitExempt file:networks ip', 'RateLimitExempt: expected ip CIDR..., file:PATH or "expr=EXPR", got "ip"'],
    ['RateLimitExempt file:missing', qr{RateLimitExempt: cannot open \Q$dir\E/missing: No such file}],
    ['RateLimitExempt file:logs', qr{RateLimitExempt: cannot .*\Q$dir\E/logs}, 'a directory as a file of networks'],
    ['RateLimitExempt file:pipe', "RateLimitExempt: expected a file: $dir/pipe"],
    ['RateLimitExempt file:networks-wrong', qq{RateLimitExempt: line 4 of $dir/networks-wrong: expected an address or a network, such as }
        . '192.0.2.0/24 or 2001:db8::/32, got "192.0.2.0/33"'],
    ['RateLimitExempt file:networks-two', qq{RateLimitExempt: line 1 of $dir/networks-two: expected one address or network on a line, got "192.0.2.2" behind it}],
    ['RateLimitExempt file:networks-long', "RateLimitExempt: line 2 of $dir/networks-long: expected lines of less than 510 bytes"],
    ['RateLimitExempt file:networks-zero', "RateLimitExempt: line 2 of $dir/networks-zero: expected text, got a NUL byte"],
    ['RateLimitExempt file:/dev/zero', 'RateLimitExempt: line 1 of /dev/zero: expected text, got a NUL byte'],
    ['RateLimitExempt expr=', 'RateLimitExempt: expected an expression behind expr=, got "": nothing is there'],
    ['RateLimitExempt "expr=%{REQUEST_METHOD} =="', qr/RateLimitExempt: expected an expression behind expr=, got "%\{REQUEST_METHOD} ==": \S/],
    ['RateLimitExempt expr="%{REQUEST_METHOD} == 1"', 'expected the quotes around the whole word: write "expr=%{REQUEST_METHOD}...", got expr="'],
    ['RateLimitExempt expr=%{REQUEST_METHOD} == 1', 'RateLimitExempt: expected ip CIDR..., file:PATH or "expr=EXPR", got "1"'],

    (map { ["RateLimitKeyLog$_", 'RateLimitKeyLog takes 1-2 arguments'] } '', ' hash repeat=1s plain'),
    ['RateLimitKeyLog clear', 'RateLimitKeyLog: expected hash or plain first, got "clear"'],
    ['RateLimitKeyLog repeat=5s', 'RateLimitKeyLog: expected hash or plain first, got "repeat=5s"'],
    ['RateLimitKeyLog hash repaet=5s', 'RateLimitKeyLog: expected repeat=DURATION, got "repaet=5s" (repeat=?)', 'V-13 a misspelt repeat='],
    ['RateLimitKeyLog hash plain', 'RateLimitKeyLog: expected repeat=DURATION, got "plain"'],
    (map { ["RateLimitKeyLog hash repeat=$_", qq{RateLimitKeyLog: expected repeat=DURATION from 1s to 1day, or repeat=0, got "repeat=$_"}] }
        '', qw(5 -1s 00 0s 1.5s soon 999ms 86401s 2days)),

    (map { ["RateLimitDelay$_", 'RateLimitDelay: expected max=DURATION [budget=N%]'] } '', ' budget=10%'),
    (map { ["RateLimitDelay max=$_", qq{RateLimitDelay: expected max=DURATION, such as max=2s, or max=0, got "max=$_"}, "V-08 max=$_"] }
        '', qw(soon 20 -1s 00 0s 1.5s none)),
    (map { ["RateLimitDelay max=$_", qr/RateLimitDelay: expected max=DURATION of at most 10 minutes .*, got "max=$_"/] } qw(601s 600001ms 11min hour)),
    (map { ["RateLimitDelay max=1s budget=$_", qq{RateLimitDelay: expected budget=N% from 1% to 90%, got "budget=$_"}] }
        '', qw(10 % 0% 91% 100% -1% 10%% 1.5% x%)),
    ['RateLimitDelay max=1s max=2s', 'RateLimitDelay: expected each option once, got "max=2s"'],
    ['RateLimitDelay max=1s bugdet=10%', 'RateLimitDelay: expected max=DURATION [budget=N%], got "bugdet=10%" (budget=?)', 'V-13 a misspelt budget='],
    ['RateLimitDelay 1s', 'RateLimitDelay: expected max=DURATION [budget=N%], got "1s"'],

    (map { ["RateLimitRule r rate=1/s cost=$_", qr/RateLimitRule: expected a cost of 0 or more with at most three decimals, .*, got "\Q$_\E"/,
        "V-07 cost=$_"] } '', qw(-1 x 1.2345)),
    ['RateLimitRule r rate=1/s burst=4 cost=5', 'RateLimitRule: expected a cost of at most 4, which is all that "r" ever has at once, got 5',
        'V-07 B-20 a cost above the capacity'],
    ['RateLimitRule r rate=9/s quota=3 cost=3.001', 'expected a cost of at most 3, which is all that "r" ever has at once, got 3.001',
        'V-07 a cost above the smallest capacity'],
    ["RateLimitPlan p rate=2/s\nRateLimitRule r plan=p cost=response-header:X reserve=2.5",
        'expected a cost of at most 2, which is all that "p" ever has at once, got 2.500', 'V-07 a reserve above the capacity of a plan'],
    ['RateLimitRule r rate=1/s burst=9 algorithm=leaky-bucket cost=2', 'expected a cost of at most 1, which is all that "r" ever has at once, got 2',
        'V-07 B-20 a cost above the one unit that a leaky bucket lets pass'],
    ['RateLimitRule r rate=1/s burst=9 algorithm=leaky-bucket action=delay cost=10.5', 'expected a cost of at most 10, which is all that',
        'V-07 B-20 a cost above that and its queue'],
    ['RateLimitRule r rate=1/s reserve=1', 'RateLimitRule: expected reserve= with cost=response-header:NAME, got "reserve=1"'],
    ['RateLimitRule r rate=1/s reserve=1 cost=1', 'RateLimitRule: expected reserve= with response-header:NAME alone, got "reserve=1"'],
    ['RateLimitRule r rate=1/s cost=response-header: reserve=1', 'RateLimitRule: expected response-header:NAME with'],
    ['RateLimitRule r rate=1/s cost=1 cost=2', 'RateLimitRule: expected cost= once, got "cost=2"'],
    ['RateLimitRule r rate=1/s cost="expr=%{HTTP:X}"', 'expected the quotes around the whole word: write "cost=expr=%{HTTP:X}", got cost="expr='],
    ['RateLimitRule r rate=1/s cost=expr="%{HTTP:X} 1"', 'expected the quotes around the whole word: write "cost=expr=%{HTTP:X}...", got cost=expr="'],
    ['RateLimitRule r rate=1/s csot=1', qr/RateLimitRule: expected .*got "csot=1" \(cost=\?\)/, 'V-13 a misspelt cost='],
    (map { ["RateLimitRule r rate=1/s count=$_", qq{RateLimitRule: expected count=request or "count=response:EXPR", got "count=$_"}] }
        '', qw(all response), 'request:true'),
    ['RateLimitRule r rate=1/s count=reponse:true', 'got "count=reponse:true" (response:?)', 'V-13 a misspelt response:'],
    ['RateLimitRule r rate=1/s count=response:', 'expected an expression behind count=response:, got "": nothing is there'],
    ['RateLimitRule r rate=1/s "count=response:%{REQUEST_STATUS} -eq"', qr/expected an expression behind count=response:, got "%\{REQUEST_STATUS} -eq": \S/],
    ['RateLimitRule r rate=1/s count="response:%{REQUEST_STATUS} -eq 401"',
        'expected the quotes around the whole word: write "count=response:%{REQUEST_STATUS}...", got count="response:'],
    ['RateLimitRule r rate=1/s count=response:"true"', 'expected the quotes around the whole word: write "count=response:true", got count=response:"'],
    ['RateLimitRule r rate=1/s count=request count=request', 'RateLimitRule: expected count= once, got "count=request"'],
    (map { ["RateLimitRule r rate=1/s action=$_", qq{RateLimitRule: expected action=deny, action=delay, action=delay:DURATION or action=mark, got "action=$_"}] }
        '', qw(reject deny:1s)),
    ['RateLimitRule r rate=1/s action=delya', 'got "action=delya" (delay?)', 'V-13 a misspelt action'],
    (map { ["RateLimitRule r rate=1/s action=delay:$_", qr/RateLimitRule: expected a span of time .*, got "$_" in "action=delay:$_"/] } '', qw(0 soon 1.5s)),
    ['RateLimitRule r rate=1/s action=delay action=deny', 'RateLimitRule: expected action= once, got "action=deny"'],

    (map { ["RateLimitDenyStatus $_", qq{RateLimitDenyStatus: expected a status from 400 to 599, got "$_"}] }
        qw(4290 abc 200 399 600 -429 +429 429x 42)),
    (map { ["RateLimitDenyStatus $_", qq{RateLimitDenyStatus: expected a status that httpd knows (it would answer 500), got "$_"}] }
        qw(420 444 499 599)),
    ['RateLimitDenyStatus', 'RateLimitDenyStatus takes one argument'],

    ['RateLimitEnv maybe', 'RateLimitEnv: expected auto or always, got "maybe"'],
    ['RateLimitEnv', 'RateLimitEnv takes one argument'],
);
refused($_->[2] // ($_->[0] =~ /([^\n]*)\z/), @$_[0, 1, 3]) for @wrong;

# --- limits, in a plan and in a rule

my @limits = (
    ['G-06 10 per minute', '"10 per minute"', qr/expected .*got "10 per minute"/],
    ['G-06', 'rate=10 per minute', qr/expected .*got "rate=10"/],
    (map { ['G-06', "rate=$_", qr/expected .*"rate=\Q$_\E"/] } qw(10m minute/10 5 5/ /s 5//s 5/minute/2), ''),
    ['G-06', '5/minute', qr/expected rate=5\/minute, got "5\/minute"/],
    ['G-07 S-14', 'rate=0/s', qr/expected a count above 0 .*got "rate=0\/s"/],
    (map { ['V-04 G-07 G-08 G-09', "rate=$_", qr/expected .*"rate=\Q$_\E"/] } qw(-1/s 5.0/s .8/s 1e3/s ten/minute +5/s 1_000/h)),
    ['G-09', "rate=\x{d9}\x{a5}/s", qr/expected rate=COUNT\/PERIOD with a whole number/],
    ['G-11', 'rate=5/fortnight', qr/expected a span of time .*"fortnight" in "rate=5\/fortnight"/],
    (map { ['V-03 P-10', "rate=5/$_", qr/expected .*"rate=5\/\Q$_\E"/] } qw(0s 0 -1s 1.5s s10 1 2minutez 10decades), '99999999999999999999s'),
    ['', 'rate=5/11years', qr/expected .*"rate=5\/11years"/],
    ['', 'rate=5/600weeks', qr/expected a span of at most ten years, .*"rate=5\/600weeks"/],
    ['overflow', 'rate=9999999999999999/s', qr/expected .*"rate=9999999999999999\/s"/],
    ['overflow', 'rate=1/s burst=999999999999999', qr/expected a burst .*"rate=1\/s"/],
    ['overflow', 'rate=999999999999999/10days', qr/expected a burst of at most \d+ .*"rate=999999999999999\/10days"/],
    ['G-13', 'limit=10 window=60', qr/expected rate=10\/60s, got "limit=10 window=60"/],
    ['G-13', 'window=60 limit=10', qr/expected rate=10\/60s/],
    ['G-13 in capitals', 'Limit=10 WINDOW=60', qr/expected rate=10\/60s/],
    ['G-13', 'limit=10', qr/expected .*got "limit=10"/],
    ['V-02', 'rate=1/s burst=-1', qr/expected burst=N above 0, .*got "burst=-1"/],
    ['V-02', 'rate=1/s burst=0', qr/expected burst=N above 0, .*got "burst=0"/],
    ['V-02', 'rate=1/s burst=many', qr/expected burst=N above 0, .*got "burst=many"/],
    ['V-02', 'rate=1/s burst=', qr/expected burst=N above 0, .*got "burst="/],
    ['V-01', 'rate=1/s burst=2.2222', qr/expected burst=N above 0, with at most three decimals, got "burst=2.2222"/],
    ['V-06', 'rate=1/s initial=-1', qr/expected initial=N .*got "initial=-1"/],
    ['V-06', 'rate=1/s burst=4 initial=5', qr/expected an initial= of at most the burst .*got "rate=1\/s"/],
    ['V-06', 'rate=1/s initial=1.0005', qr/expected initial=N with at most three decimals, got "initial=1.0005"/],
    ['V-13', 'rate=1/s algorithm=tokenbucket', qr/expected algorithm=NAME with one of token-bucket, .*got "algorithm=tokenbucket" \(token-bucket\?\)/],
    ['V-13', 'rate=1/s algorithm=', qr/expected algorithm=NAME with one of .*got "algorithm="/],
    ['V-13', 'rate=1/s bust=2', qr/expected .*got "bust=2" \(burst=\?\)/],
    ['', 'quota=5 algorithm=fixed-window', qr/expected algorithm= after a rate=, not after a quota=, got/],
    ['', 'burst=5 rate=1/s', qr/expected rate=COUNT\/PERIOD before it, got "burst=5"/],
    ['', 'algorithm=fixed-window', qr/expected rate=COUNT\/PERIOD before it, got "algorithm=fixed-window"/],
    ['', 'initial=1', qr/expected rate=COUNT\/PERIOD before it, got "initial=1"/],
    ['', 'start=2026-01-01', qr/expected rate=COUNT\/PERIOD before it, got "start=2026-01-01"/],
    ['', 'rate=1/s algorithm=fixed-window burst=5', qr/expected no burst= behind "rate=1\/s": fixed-window has none/],
    ['', 'rate=1/s algorithm=fixed-window initial=0', qr/expected no initial= behind "rate=1\/s": fixed-window has none/],
    ['', 'rate=1/s start=2026-01-01', qr/expected no start= behind "rate=1\/s": token-bucket has none/],
    ['F-09', 'rate=1/day algorithm=fixed-window start=2999-01-01', qr/expected a start that is not in the future, got "start=2999-01-01"/],
    (map { ['F-09', "rate=1/day algorithm=fixed-window start=$_", qr/expected start=TIME such as .*got "start=\Q$_\E"/] }
        qw(noon 2026-13-01 2026-02-30 2026-01-01T25:00Z 2026-01-01T06:00), ''),
    ['', 'quota=-1', qr/expected quota=COUNT .*got "quota=-1"/],
    ['', 'quota=', qr/expected quota=COUNT .*got "quota="/],
    ['', 'quota=1.5', qr/expected quota=COUNT .*got "quota=1.5"/],
    ['Q-05', 'quota=10/min', qr/expected day, week, month or year .*got "min" in "quota=10\/min"/],
    ['Q-05', 'quota=10/2days', qr/expected day, week, month or year .*got "2days" in "quota=10\/2days"/],
    ['', 'quota=10/day@Nowhere/City', qr/expected \@UTC.* got "\@Nowhere\/City" in "quota=10\/day\@Nowhere\/City"/],
    ['F-11', 'quota=10 start=2026-01-01', qr/expected no start= behind "quota=10": quota has none/],
    ['', 'quota=10/day initial=1', qr/expected no initial= behind "quota=10\/day": only a quota that is never renewed/],
    ['V-10', 'concurrent=2.2', qr/expected concurrent=N with a whole number from 1 to 1000000, got "concurrent=2.2"/],
    ['V-10', 'concurrent=0', qr/expected concurrent=N with a whole number from 1 to 1000000, got "concurrent=0"/],
    ['', 'concurrent=2 concurrent=3', qr/expected concurrent= once in a plan, got "concurrent=3"/],
    ['', 'lease=60s', qr/expected concurrent=N before it, got "lease=60s"/],
    ['', 'bandwidth=1M/s', qr/expected a rate=, quota= or concurrent= beside bandwidth=/],
    ['', 'rate=1/s bandwidth=1000/s', qr/expected bandwidth=SIZE\/s with K, M or G, .*got "bandwidth=1000\/s"/],
    ['', join(' ', ('rate=1/s') x 9), qr/expected at most 8 limits in one plan/],
    ['', 'fast', qr/expected .*got "fast"/],
);
for my $case (@limits) {
    my ($id, $text, $said) = @$case;
    my $name = $id ? "$id: $text" : $text;
    refused("$name in a plan", "RateLimitPlan p $text", qr/RateLimitPlan: $said/);
    refused("$name in a rule", "RateLimitRule r $text", qr/RateLimitRule: $said/);
}

# --- where a directive may not stand

for my $case (['RateLimitStore x shm', 'VirtualHost'], ['RateLimitPlan p rate=1/s', 'VirtualHost'],
    ['RateLimitStore x shm', 'Location'], ['RateLimitPlan p rate=1/s', 'Location'], ['RateLimitPlanDefault p', 'Location'],
    ['RateLimitPlanChange reset', 'Location'], ['RateLimitDelay max=1s', 'Location'], ['RateLimitDelay max=1s', 'If'], ['RateLimitKeyLog plain', 'Location'], ['RateLimitPlanMap user txt:keys', 'Location'],
    ['RateLimitPlan p rate=1/s', 'If'], ['RateLimitPlanDefault p', 'Directory'], ['RateLimitPlanMap user txt:keys', 'Files']) {
    my ($line, $section) = @$case;
    my %open = (VirtualHost => '*:80', Location => '"/x"', If => '"true"', Directory => '"/x"', Files => 'x');
    my ($directive) = $line =~ /^(\S+)/;
    refused("$directive in <$section>", "<$section $open{$section}>\n$line\n</$section>",
        qr/\Q$directive\E (?:not allowed|cannot occur)(?: here)?(?:.*<$section>)?/, 2);
}
refused('a wrong rule in a section', qq{<Location "/x">\n    RateLimitRule r rate=1/fortnight\n</Location>}, 'RateLimitRule: expected a span', 2);
refused('an unknown plan in a virtual host', "${plans}<VirtualHost *:80>\nRateLimitPlanDefault fee\n</VirtualHost>",
    'RateLimitPlanDefault: expected the name of a plan, got "fee" (free?)', 4);
refused('an unknown plan in a section of a virtual host',
    qq{${plans}<VirtualHost *:80>\n<Location "/x">\nRateLimitRule r plan=fre\n</Location>\n</VirtualHost>}, 'got "fre" (free?)', 5);
refused('a wrong map in a virtual host', "${plans}<VirtualHost *:80>\nRateLimitPlanMap user txt:bad\n</VirtualHost>", "line 3 of $dir/bad", 4);

{
    my (undef, $said) = tested("${plans}RateLimitPlanDefault x1\nRateLimitRule r plan=x2\nRateLimitPlanMap user txt:missing");
    like($said, qr/line $_ of/, "each of several errors is told, that of line $_ too") for 3, 4, 5;
}

# What stands in a map may be secret: no message shows it.
for my $map (qw(bad many twice planless swapped)) {
    my ($code, $said) = tested("${plans}RateLimitIdentity k=header:X-Key ip\nRateLimitPlanMap k txt:$map");
    isnt($code, 0, "a wrong line in the map $map is refused");
    unlike($said, qr/hush-hush/, "what it says of the map $map does not show the value");
}

# Whoever leaves a word out has the URL with its password in the place of another.
for my $words (
    'RateLimitStore redis url=redis://amy:hush-hush@127.0.0.1/0',
    'RateLimitStore redis redis://amy:hush-hush@127.0.0.1/0',
    'RateLimitStore redis://amy:hush-hush@127.0.0.1/0 redis url=redis://127.0.0.1',
    'RateLimitStore s "redis url=redis://:hush-hush@127.0.0.1"',
    'RateLimitStore s shm url=redis://amy:hush@hush-hush@127.0.0.1/0',
    'RateLimitStore s shm password=hush-hush',
    'RateLimitStore password=hush-hush redis',
    'RateLimitStore s shm Secret=hush-hush',
    'RateLimitRule r rate=1/s store=redis://amy:hush-hush@127.0.0.1/0',
    'RateLimitPlanMap user redis://amy:hush-hush@127.0.0.1/0',
    'RateLimitPlanMap user mysql://amy:hush-hush@127.0.0.1/plans',
    'RateLimitPlanMap user dbd=mysql://amy:hush-hush@127.0.0.1/plans',
) {
    my ($code, $said) = tested($words);
    isnt($code, 0, "refused: $words");
    like($said, qr/expected .*, got ".*\.\.\./, 'and says what came');
    unlike($said, qr/hush-hush/, 'without the password');
}

{
    my ($code, $said) = tested("RateLimitPlanDefault nobody\n" . "<VirtualHost *:80>\n</VirtualHost>\n" x 3 . "<VirtualHost *:80>\nRateLimitPlanDefault none-at-all\n</VirtualHost>");
    isnt($code, 0, 'a wrong default that hosts have from the server is refused');
    is(scalar(() = $said =~ /got "nobody"/g), 1, '... and told of once');
    is(scalar(() = $said =~ /got "none-at-all"/g), 1, '... as that of a host');
}

ok(!-e "$dir/run/ratelimit-default.shm" && !-e "$dir/run/ratelimit-x.shm", 'httpd -t makes no store');

# --- with mod_dbd

SKIP: {
    skip 'httpd has no mod_dbd', 1 if !RLP::Httpd::has_module('dbd');
    server_with('dbd');
    my $map = "RateLimitIdentity key=header:X-Key\n${plans}RateLimitPlanMap key \"dbd:SELECT plan FROM keys WHERE key = %s\"";
    refused('a map by dbd: without a database', $map, 'RateLimitPlanMap: expected DBDriver and DBDParams, which tell mod_dbd of the database, beside a map by dbd:');
    refused('timeout=0', "$map timeout=0", 'RateLimitPlanMap: expected timeout=DURATION from 1ms to 10s, got "timeout=0"');
    refused('timeout=11s', "$map timeout=11s", 'RateLimitPlanMap: expected timeout=DURATION from 1ms to 10s, got "timeout=11s"');
    passes('a map by dbd:', "DBDriver sqlite3\nDBDParams \"$dir/database\"\n$map ttl=5min timeout=20ms unknown=deny\nRateLimitRule r rate=1/s");
}

done_testing;
