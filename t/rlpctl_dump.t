#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl dump and load of store files: nothing is lost on the way, what is there stays, and what is no dump is refused
# before anything is loaded. Needs RLPCTL in the environment.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use File::Basename qw(dirname);
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

use lib dirname($0) . '/lib';
use RLP::Basics qw(slurp);
use RLP::Rlpctl qw($dir refused rlpctl scratch);

my $json = JSON::PP->new->canonical;
my $order = unpack('h', pack 'S', 1) eq '1' ? 'little-endian' : 'big-endian';
my $now = int(time * 1_000_000);
my $hour = 3_600_000_000;

$ENV{RLPCTL} ||= 'rlpctl/rlpctl';
umask 077;

# --- dumps made up

sub header {
    my (%more) = @_;
    my $key = delete $more{hex} // '07' x 32;
    return {
        type => 'dump', version => 1, store => 'shm', byte_order => $order, key => $key, wall => $now, time => $now,
        key_id => substr(sha256_hex("rlpctl dump key\0" . pack 'H*', $key), 0, 32), %more
    };
}

sub counter {
    my ($i, %more) = @_;
    return {
        type => 'counter', fingerprint => substr(sha256_hex("identity $i"), 0, 16), signature => '00000000000000ab',
        expires => $now - $now % 1024 + $hour - $hour % 1024, loss => 1000 + $i, lasting => JSON::PP::false, size => 40, state => sprintf('%08x5a', $i), %more
    };
}

sub override {
    my ($i, %more) = @_;
    return {
        type => 'override', fingerprint => sprintf('%016x', 1000 + $i), digest => sprintf('%016x', $i), identity => "ip:192.0.2.$i",
        banned_until => $now + $hour, plan => undef, plan_until => undef, %more
    };
}

# The lines, with the last one.
sub lines {
    my (@objects) = @_;
    my %n = (counter => 0, override => 0);
    $n{ $_->{type} // '' }++ for @objects;
    return map { $json->encode($_) . "\n" } @objects, { type => 'end', counters => $n{counter}, overrides => $n{override} };
}

# What load said, in JSON, and its exit status.
sub load {
    my ($file, $dump, @more) = @_;
    my ($status, $out, $err) = rlpctl('', 'load', '--json', "--file=$dir/$file", @more, $dump);
    diag $err if $err;
    return ($status, $out =~ /^\{/ ? $json->decode($out) : {});
}

# The lines of a dump, in order; without the header, and without what goes down by and by.
sub contents {
    my ($file) = @_;
    my ($status, $out) = rlpctl('', 'dump', "--file=$dir/$file");
    is($status, 0, "$file: dumped");
    my @objects = map { $json->decode($_) } split /\n/, $out;
    is($objects[0]{type}, 'dump', 'a header first');
    is($objects[-1]{type}, 'end', 'and an end');
    shift @objects;
    delete $_->{loss} for @objects;
    return join '', sort map { $json->encode($_) . "\n" } @objects;
}

# --- there and back

my @sizes = (40, 232, 1000, 4072, 16_360, 65_640);
my @all = (
    header(), (map { counter($_) } 1 .. 3000), (map { override($_) } 1 .. 200),
    counter(4000, expires => undef),
    (map { counter(5000 + $_, size => $sizes[$_], state => substr(sha256_hex($_) x 4000, 0, 2 * $sizes[$_] - 2) . '5a') } 0 .. $#sizes),
    override(201, banned_until => undef, plan => '00000000000000ff', plan_until => $now + $hour),
    override(202, plan => 'ffffffffffffffff', plan_until => $now + $hour),
);
my $dump = scratch('dump', lines(@all));
my ($status, $sum) = load('one', $dump, '--size=4M');
is($status, 0, 'loaded into a file that was not there');
is_deeply($sum, {
        action => 'load', counters => 3007, overrides => 202, loaded => 3007, kept => 0, over => 0, crowded => 0, evicted => 0,
        overrides_loaded => 202, overrides_kept => 0
    }, 'all of it');
is((stat "$dir/one")[2] & 0777, 0600, 'for its owner alone');
my $one = contents('one');
my %wanted = map { $json->encode($_) => 1 } map { my %o = %{$_}; delete $o{loss}; \%o } @all[1 .. $#all];
is(join('', grep { !$wanted{$_} } grep { !/"end"/ } split /\n/, $one), '', 'a dump of it has the same lines');
is((() = $one =~ /\n/g), @all, 'as many');

(undef, my $with_key) = rlpctl('', 'dump', '--with-key', "--file=$dir/one");
my $second = scratch('second', $with_key);
for my $size (qw(1M 2M 8M)) {
    ($status, $sum) = load("to-$size", $second, "--size=$size");
    is($sum->{evicted} + $sum->{crowded}, $size eq '1M' ? $sum->{evicted} + $sum->{crowded} : 0, "$size: room");
    is(contents("to-$size"), $one, "$size: nothing is lost") if $size ne '1M';
}
($status, my $out) = rlpctl($with_key, 'load', '--size=2M', "--file=$dir/by-input");
is($status, 0, 'from standard input');
is(contents('by-input'), $one, 'all of it');
open my $pipe, '|-', "'$ENV{RLPCTL}' load --size=2M --file='$dir/by-pipe' - >'$dir/said'" or die "$!\n";
print {$pipe} $with_key;
ok(close $pipe, 'through a pipe');
is(contents('by-pipe'), $one, 'all of it');
my @overrides = (rlpctl('', 'overrides', '--json', "--file=$dir/by-pipe"))[1] =~ /"identity":"ip:192/g;
is(@overrides, 202, 'bans and plans are known by that file\'s commands');

# where output is closed, what is opened next is not taken for it: what is printed would go into the store
for my $closed ('>&- 2>/dev/null', '<&- >&- 2>&-') {
    is(system("'$ENV{RLPCTL}' dump --file='$dir/by-pipe' $closed") >> 8, 74, "dump $closed: cannot write");
    is(contents('by-pipe'), $one, 'and the store has what it had');
}

# what a dump could not say, a server refuses as well
for my $words ([qw(ban ip:192.0.2.1 2099-01-01T00:00:00Z)], [qw(ban ip:192.0.2.1 9999-12-31T23:59:59Z)], [qw(set-plan ip:192.0.2.1 free 2300-01-01T00:00:00Z)]) {
    refused("@{$words}", '', [ @{$words}, "--file=$dir/by-pipe" ], 65, qr/^rlpctl: expected ten years at most$/);
}

# --- what is there already

($status, $sum) = load('one', $dump);
is($status, 1, 'loaded once more');
is("$sum->{loaded} $sum->{kept} $sum->{overrides_loaded} $sum->{overrides_kept}", '0 3007 0 202', 'all of it stays as it is');
my $newer = scratch('newer', lines(header(), counter(1, state => 'ffff'), counter(9000), override(1, banned_until => $now + 2 * $hour)));
($status, $sum) = load('one', $newer);
is("$status: $sum->{loaded} $sum->{kept} $sum->{overrides_kept}", '1: 1 1 1', 'what is not there yet is loaded, what is there stays');
($status, $sum) = load('one', $newer, '--replace');
is("$status: $sum->{loaded} $sum->{kept} $sum->{overrides_loaded}", '0: 2 0 1', '--replace');
like(contents('one'), qr/"ffff"/, 'replaces');
my $large = scratch('large', lines(header(), counter(5005, size => 65_640, state => 'ab' x 65_640)));
($status, $sum) = load('one', $large, '--replace');
is("$status: $sum->{loaded}", '0: 1', 'even 64 kB of which each byte differs');
like(contents('one'), qr/"abab/, 'which are there now');

my $past = scratch('past', lines(header(), counter(1, expires => $now - 1), override(1, banned_until => 5), override(2)));
($status, $sum) = load('past-file', $past, '--size=1M');
is("$status: $sum->{loaded} $sum->{over} $sum->{overrides_loaded}", '0: 0 2 1', 'what has ended is left out');

# an hour of the wall clock went by: the file's time went on
my $old = scratch('old', lines(header(wall => $now - 2 * $hour, time => 5 * $hour), counter(1, expires => 5 * $hour + $hour), counter(2, expires => 8 * $hour)));
($status, $sum) = load('old-file', $old, '--size=1M');
is("$sum->{loaded} $sum->{over}", '1 1', 'lives end on the wall clock');
my ($header) = split /\n/, (rlpctl('', 'dump', "--file=$dir/old-file"))[1];
cmp_ok(abs($json->decode($header)->{time} - 7 * $hour), '<', 300_000_000, 'and the time line goes on');

# --- a damaged file: what no dump could say is left out, and told

load('damaged', scratch('whole', lines(header(), counter(1), counter(2), override(1), override(2))), '--size=1M');
my $bytes = slurp("$dir/damaged");
my $counter = pack('H*', counter(1)->{fingerprint});
$counter = reverse $counter if $order eq 'little-endian';
my $slot = index $bytes, $counter . pack 'Q', 0xab;
my $ban = index $bytes, pack 'QQ', 1, $now + $hour;
ok($slot > 0 && $ban > 0, 'a counter and a ban are found');
substr($bytes, $slot + 16, 8) = pack 'Q', unpack('Q', substr $bytes, $slot + 16, 8) | 1 << 62; # its end is in the first 48 bits
substr($bytes, $ban + 8, 8) = pack 'Q', 1 << 62;
scratch('damaged', $bytes);
($status, $out, my $said) = rlpctl('', 'dump', '--with-key', "--file=$dir/damaged");
is("$status $said", "0 rlpctl: left out 2 counters, bans or plans that are damaged\n", 'a damaged file');
($status, $sum) = load('undamaged', scratch('rest', $out), '--size=1M');
is("$status: $sum->{loaded} $sum->{overrides_loaded}", '0: 1 1', 'the rest is loaded');

# --- other keys

my $strange = scratch('strange', lines(header(hex => '08' x 32), counter(1)));
my ($name, $err);
for my $row (
    [ 'into a file in use with another key', ["--file=$dir/one", $strange], qr/another key, and in this one something is counted already/ ],
    [ 'without the key',                     ["--file=$dir/one", scratch('keyless', map { s/"key":"(?:08)+",//r } lines(header(hex => '08' x 32), counter(1)))],
        qr/does not have it: expected one of rlpctl dump --with-key/ ],
    [ 'without the key into a new file', ["--file=$dir/none", "$dir/keyless"],   qr/expected a dump of rlpctl dump --with-key/ ],
    [ 'a size of a file that is there',  ["--file=$dir/one", '--size=2M', $dump], qr/expected no --size=/ ],
    [ 'no store',                        ["--file=$dump", $dump],                qr/not a store of this module|unusable/ ],
    [ 'no directory',                    ["--file=$dir/none/none", $dump],       qr/cannot open the store file/ ],
) {
    ($name, my $args, my $pattern) = @{$row};
    refused($name, '', [ 'load', @{$args} ], 65, $pattern);
}
ok(!-e "$dir/none", 'no file was made');
refused('a file that the disk has no room for', '', [ 'load', "--file=$dir/too-large", '--size=999999999G', $dump ], 65, qr/cannot allocate/);
($status, $sum) = load('too-large', $dump, '--size=4M');
is("$status $sum->{loaded}", '0 3007', 'is made in another size then');
(undef, $out) = rlpctl('', 'dump', "--file=$dir/one");
unlike($out, qr/"key":/, 'a dump has no key');
unlike($out, qr/(?:07){8}/, 'in no form');
my $keyless = scratch('keyless-own', $out);
is((load('one', $keyless))[0], 1, 'and goes back into the file it is of');
load('empty', scratch('nothing', lines(header(hex => '09' x 32))), '--size=1M');
($status, $sum) = load('empty', $dump);
is($status, 0, 'a file in which nothing is counted takes another key');

umask 022;
($status) = system "'$ENV{RLPCTL}' dump --with-key --file='$dir/one' >'$dir/public' 2>'$dir/said'";
is($status >> 8, 64, 'a key is not written where others can read it');
is(-s "$dir/public", 0, 'nothing of it');
umask 077;

# --- what is no dump: refused before anything is loaded, with the line

my $good = $json->encode(counter(1));
my %member = (
    counter => {
        fingerprint => [ undef, 1, '', '0000000000000000', '00000000000000g1', '00000000000000001', '000000000000001', '0X00000000000001', 'ABCDEF0123456789' ],
        signature => [ undef, 7, '', 'zzzzzzzzzzzzzzzz', ' 00000000000000a' ],
        expires => [ 'soon', '5', -1, 1.5, 9_007_199_254_740_993, '1e5', [], {} ],
        loss => [ undef, -1, 4_294_967_296, 1.5, 'all', [] ],
        lasting => [ undef, 1, 'true', [] ],
        size => [ undef, 0, 1, 39, 41, 48, 65_641, 65_648, 4_294_967_336, -40, '40', 1e300 ],
        state => [ undef, 1, '', '0', '00', '000', 'zz', '0g', 'AB', '01' x 41, " 1", [] ],
        type => [ undef, 1, '', 'Counter', 'end', 'dump' ],
    },
    override => {
        fingerprint => [ undef, '0000000000000000', '0000000000000001', 'x' ],
        digest => [ undef, 5, 'x' x 16 ],
        identity => [ undef, 5, [] ],
        banned_until => [ undef, -1, 'tomorrow', 0.5 ],
        plan => [ 'pro', 5, '00000000000000ff' ],
        plan_until => [ 5, 'x' ],
    },
    dump => {
        version => [ undef, 0, 2, '1', 1.5 ],
        store => [ undef, 'redis', 5, '' ],
        byte_order => [ undef, 'middle-endian', $order eq 'little-endian' ? 'big-endian' : 'little-endian' ],
        key_id => [ undef, '', '00' x 16, '00' x 17, '0' ],
        key => [ undef, '', '07' x 31, '07' x 33, '08' x 32, 'x' x 64 ],
        wall => [ undef, -1, 'now' ],
        time => [ undef, -1, 1.5 ],
        type => [ 'counter', 'end', undef ],
    },
);
my $table = 0;
for my $type (sort keys %member) {
    my $make = { counter => \&counter, override => \&override, dump => sub { shift; header(@_) } }->{$type};
    for my $member (sort keys %{ $member{$type} }) {
        for my $value (@{ $member{$type}{$member} }, 'missing') {
            my $object = $make->(1, $member => $value);
            delete $object->{$member} if ($value // '') eq 'missing';
            next if $member eq 'key' && ($value // '') eq 'missing'; # which is said elsewhere
            my @objects = $type eq 'dump' ? ($object, counter(1)) : (header(), counter(2), $object);
            my $number = $type eq 'dump' ? 1 : 3;
            scratch('bad', lines(@objects));
            my ($bad, undef, $said) = rlpctl('', 'load', "--file=$dir/bad-file", "$dir/bad");
            my $shown = $json->allow_nonref->encode($value);
            ok($bad == 65 && $said =~ /\Arlpctl: \Q$dir\E\/bad, line $number: .*expected .*\n\z/ && !-e "$dir/bad-file", "$type: $member: $shown")
                or diag "$bad $said";
            $table++;
        }
    }
}
cmp_ok($table, '>', 90, 'a table');

my @head = lines(header(), counter(1));
my ($first, $middle, $last) = @head;
for my $row (
    [ 'empty',                          '',                                             1 ],
    [ 'a blank line',                   "\n",                                           1 ],
    [ 'no JSON',                        "hello\n",                                      1 ],
    [ 'bytes',                          join('', map { chr } 0 .. 255),                 1 ],
    [ 'no object',                      "[]\n",                                         1 ],
    [ 'null',                           "null\n",                                       1 ],
    [ 'a number',                       "1\n",                                          1 ],
    [ 'an object',                      "{}\n",                                         1 ],
    [ 'deep',                           '[' x 100_000 . "\n",                           1 ],
    [ 'deep objects',                   '{"a":' x 1000 . "\n",                          1 ],
    [ 'two objects in a line',          $first =~ s/\n/{}\n/r,                          1 ],
    [ 'no end of the first line',       $first =~ s/\n//r,                              1 ],
    [ 'the first line alone',           $first,                                         2 ],
    [ 'no end',                         $first . $middle,                               3 ],
    [ 'cut off in a line',              substr($first . $middle . $last, 0, -20),       3 ],
    [ 'the end without its end',        substr($first . $middle . $last, 0, -1),        3 ],
    [ 'a line twice',                   $first . $middle . $middle . $last,             4 ],
    [ 'a line missing',                 $first . $last,                                 2 ],
    [ 'two headers',                    $first . $first . $middle . $last,              2 ],
    [ 'no header',                      $middle . $last,                                1 ],
    [ 'behind the end',                 $first . $middle . $last . $middle,             4 ],
    [ 'a blank line behind the end',    $first . $middle . $last . "\n",                4 ],
    [ 'two ends',                       $first . $middle . $last . $last,               4 ],
    [ 'a member more',                  $first . $middle =~ s/\}/,"more":1}/r . $last,  2 ],
    [ 'a member twice',                 $first . $middle =~ s/\}/,"size":40}/r . $last, 2 ],
    [ 'a NUL',                          $first . $middle =~ s/0/\0/r . $last,           2 ],
    [ 'an escaped NUL',                 $first . $middle =~ s/"counter"/"counter\\u0000"/r . $last, 2 ],
    [ 'half of a surrogate',            $first . $middle =~ s/"counter"/"\\ud800"/r . $last, 2 ],
    [ 'carriage returns within',        $first . $middle =~ s/counter/counter\r/r . $last, 2 ],
    [ 'many members',                   '{' . join(',', map { qq("m$_":1) } 1 .. 100_000) . "}\n", 1 ],
    [ 'a long line',                    $first . ' ' x 5_000_000 . "\n",                2 ],
    [ 'a long line without an end',     $first . 'x' x 9_000_000,                       2 ],
    [ 'terminal sequences',             $first . "{\"type\":\"\e]0;owned\a\"}\n",       2 ],
    [ 'too many said',                  $first . $middle . $last =~ s/"counters":1/"counters":2/r, 3 ],
    [ 'too few said',                   $first . $middle . $last =~ s/"counters":1/"counters":0/r, 3 ],
    [ 'overrides said',                 $first . $middle . $last =~ s/"overrides":0/"overrides":1/r, 3 ],
    [ 'negative said',                  $first . $middle . $last =~ s/"counters":1/"counters":-1/r, 3 ],
) {
    my ($what, $text, $line) = @{$row};
    scratch('bad', $text);
    my $begun = time;
    my ($bad, undef, $said) = rlpctl('', 'load', "--file=$dir/bad-file", "$dir/bad");
    ok($bad == 65 && $said =~ /\Arlpctl: \Q$dir\E\/bad, line $line: [ -~]+\n\z/ && !-e "$dir/bad-file", "$what: line $line") or diag "$bad $said";
    cmp_ok(time - $begun, '<', 20, '  soon');
}

# bytes of a whole dump, changed at random: loaded as a whole, or not at all
my $text = join '', lines(header(), (map { counter($_) } 1 .. 3), override(1));
my $seed = $ENV{RLP_SEED} || time ^ $$;
note "RLP_SEED=$seed replays this";
srand $seed;
my ($taken, $refused) = (0, 0);
for my $turn (1 .. 60) {
    my $changed = $text;
    for (1 .. 1 + int rand 3) {
        my $at = int rand length $changed;
        my $how = int rand 4;
        substr $changed, $at, $how == 0 ? 0 : 1, $how == 1 ? '' : $how == 2 ? chr int rand 256 : (split //, '0,"{}:a')[rand 7];
    }
    unlink "$dir/random-file";
    scratch('random', $changed);
    my ($got, undef, $said) = rlpctl('', 'load', '--size=1M', "--file=$dir/random-file", "$dir/random");
    if ($got == 0 && -e "$dir/random-file") {
        $taken++;
    } elsif ($got == 65 && $said =~ /\Arlpctl: .*line \d+: / && !-e "$dir/random-file") {
        $refused++;
    } else {
        fail("turn $turn: $got $said");
        last;
    }
}
is($taken + $refused, 60, "changed at random: $taken taken, $refused refused");

is((rlpctl('', 'load', '--check', "--file=$dir/none", $dump))[0], 0, '--check of a good one');
scratch('bad', $first);
is((rlpctl('', 'load', '--check', "--file=$dir/none", "$dir/bad"))[0], 65, 'of a bad one');
ok(!-e "$dir/none", 'makes nothing');
($status, $out) = rlpctl('', 'load', '--check', '--json', "--file=$dir/none", $dump);
is($out, qq({"action":"check","counters":3007,"overrides":202}\n), 'and says what is in it');

# --- the documentation

my $top = $ENV{top_srcdir} || dirname(dirname($0));
open my $in, '<', "$top/docs/dump-format.md" or die "dump-format.md: $!\n";
my $text_of_format = do { local $/ = undef; readline $in };
my @examples = $text_of_format =~ /^```json\n(.*?)^```/msg;
is(@examples, 2, 'two examples');
for my $example (@examples) {
    my @of_redis = $example =~ /"store":"redis"/ ? '--store=redis://127.0.0.1:1' : ();
    my ($checked, undef, $complaint) = rlpctl('', 'load', '--check', @of_redis ? @of_redis : "--file=$dir/none", scratch('example', $example));
    ok($checked == 0 || $complaint =~ /built without Redis/, 'is a dump') or diag $complaint;
}
my %told = map { $_ => 1 } $text_of_format =~ /`(\w+)`/g;
my %written = map { map { $_ => 1 } keys %{ $json->decode($_) } } split(/\n/, $with_key), split(/\n/, join '', @examples), (rlpctl('', 'load', '--check', '--json', "--file=$dir/none", $dump))[1];
is(join(' ', grep { !$told{$_} && $_ ne 'type' && $_ ne 'version' } sort keys %written, keys %{$sum}), '', 'all members are documented');

# --- words

for my $row (
    [ 64, qr/expected either --file=PATH or --store=URL/, 'dump' ],
    [ 64, qr/expected either --file=PATH or --store=URL/, 'load', $dump ],
    [ 64, qr/expected either --file=PATH or --store=URL/, 'dump', "--file=$dir/one", '--store=redis://127.0.0.1/0' ],
    [ 64, qr/expected --store=URL with --password=/,      'dump', "--file=$dir/one", '--prefix=x' ],
    [ 64, qr/expected --file=PATH with --with-key/,       'dump', '--store=redis://127.0.0.1/0', '--with-key' ],
    [ 64, qr/expected a --prefix= without braces/,        'dump', '--store=redis://127.0.0.1/0', '--prefix={x' ],
    [ 64, qr/got "--json"/,                               'dump', "--file=$dir/one", '--json' ],
    [ 64, qr/got "x"/,                                    'dump', "--file=$dir/one", 'x' ],
    [ 64, qr/got "--with-key"/,                           'load', "--file=$dir/one", '--with-key' ],
    [ 64, qr/got "more"/,                                 'load', "--file=$dir/one", $dump, 'more' ],
    (map { [ 64, qr/a size of 1M or more, .*, got "\Q$_\E"/, 'load', $_, "--file=$dir/one" ] } map { "--size=$_" } qw(16 M 1 5K 512K 1025K 16m 999M9 -1M 9999999999G)),
    (map { [ 64, qr/a word as rlpctl load --help has it, got "\Q$_\E"/, 'load', $_, "--file=$dir/one" ] } qw(--size= --file= --what)),
    [ 65, qr/cannot open the store file/,                 'dump', "--file=$dir/none" ],
    [ 65, qr/not a store of this module|unusable/,        'dump', "--file=$dump" ],
    [ 66, qr/cannot open/,                                'load', "--file=$dir/one", "$dir/none" ],
) {
    my ($wanted, $pattern, @words) = @{$row};
    refused("rlpctl @words", '', \@words, $wanted, $pattern);
}
open my $full, '>', '/dev/full' or die "/dev/full: $!\n";
for my $words ([ 'dump', "--file=$dir/one" ], [ 'overrides', "--file=$dir/by-pipe" ], [ 'overrides', '--json', "--file=$dir/by-pipe" ]) {
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDOUT, '>&', $full or exit 126;
        open STDERR, '>', '/dev/null' or exit 126;
        exec { $ENV{RLPCTL} } $ENV{RLPCTL}, @{$words} or exit 127;
    }
    waitpid $pid, 0;
    is($? >> 8, 74, "@{$words}: a full disk is told");
}
for my $command (qw(dump load)) {
    ($status, $out) = rlpctl('', $command, '--help');
    ok($status == 0 && $out =~ /^usage: rlpctl dump/, "$command --help");
    ok((() = $out =~ /\n/g) <= 24 && !grep({ length > 80 } split /\n/, $out), 'which fits a screen of 24 lines of 80');
}

# --- a file in which no server has made its areas

($status) = load('bare', $dump, '--size=4M');
is($status, 0, 'a file');
{
    open my $file, '+<:raw', "$dir/bare" or die "bare: $!\n";
    seek $file, -1_048_576, 2; # as long as all areas together
    print {$file} "\0" x 1_048_576;
    close $file or die "bare: $!\n";
}
for my $words ([qw(overrides)], [qw(top)], [qw(ban ip:192.0.2.1 1h)], [qw(unban ip:192.0.2.1)], [qw(set-plan ip:192.0.2.1 free 1h)]) {
    my ($printed) = refused("@{$words} in a file without areas", '', [ @{$words}, "--file=$dir/bare" ], 65,
        qr/^rlpctl: no server has made its areas in this file yet: start one once$/);
    is($printed, '', '  and prints nothing');
}
is(scalar(() = contents('bare') =~ /"type":"counter"/g), 3007, 'what is counted there is there');
($status, $sum) = load('bare', $dump);
is("$status $sum->{kept} $sum->{overrides_loaded}", '1 3007 202', 'load makes the area of bans and plans');
(undef, $out) = rlpctl('', 'overrides', '--json', "--file=$dir/bare");
like($out, qr/\A\{[^\n]*\}\n\z/, 'one line of JSON, with its end');
@overrides = $out =~ /"identity":"ip:192/g;
is(@overrides, 202, 'which are known there then');

done_testing;
