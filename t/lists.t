#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What there is, and what the documentation has: directives, options, variables, handlers, members of JSON, commands and
# exit codes of rlpctl, links, pages. Metrics, lines of the error log and the members of the status page are compared by
# t/guards.t, the functions of the library by t/library.t. Reads sources below top_srcdir, and asks RLPCTL.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use JSON::PP qw(decode_json);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics ();

my $top = abs_path($ENV{top_srcdir} || dirname(dirname($0)));
my $build = abs_path($ENV{builddir} || '.');
my $rlpctl = $ENV{RLPCTL} || "$build/rlpctl/rlpctl";

sub slurp {
    my ($file) = @_;
    return RLP::Basics::slurp("$top/$file");
}

# Sources without comments.
sub code {
    return map { my $text = slurp($_); $text =~ s{/\*.*?\*/}{}gs; $text } @_;
}

sub files {
    my ($pattern) = @_;
    return map { substr $_, 1 + length $top } sort glob "\Q$top\E/$pattern";
}

sub set {
    return map { $_ => 1 } @_;
}

# Those of the first that the second has not.
sub missing {
    my ($name, $wanted, $had) = @_;
    my @missing = grep { !$had->{$_} } sort keys %{$wanted};
    return is("@missing", '', $name);
}

my $directives = slurp('docs/directives.md');
my $page8 = slurp('docs/mod_ratelimit_plans.8');
my $page1 = slurp('docs/rlpctl.1');

# --- directives: each has its entry, with syntax, context, default and an example

my ($config) = code('mod_ratelimit_plans/config.c');
my %context = $config =~ /\bAP_INIT_\w+\(\s*"(\w+)",[^,]*,[^,]*,\s*(\w+)/g;
my %table = map { /^\| \[`(\w+)`\]\(#\w+\) \| ([^|]*) \| (.*) \|$/ ? ($1 => [ $2, $3 ]) : () } split /\n/, $directives;
my %entry = $directives =~ /^## (RateLimit\w+)\n(.*?)(?=^## )/msg;
my %where = (
    CONFIG_ANYWHERE => qr/^server, host, section$/,
    CONFIG_HTACCESS => qr/^server, host, section, `[.]htaccess`$/,
    RSRC_CONF => qr/^server(?:, host)?$/,
);

ok(keys %context > 10, 'the directives can be read');
for my $name (sort keys %context) {
    my $text = $entry{$name} // '';
    my ($contexts, $default) = @{ $table{$name} // [ '', '' ] };
    like($contexts, $where{ $context{$name} }, "$name is in the table, with where it may stand");
    ok($text =~ /\A\n    $name [^\n]+\n/, '  its syntax');
    ok($text =~ /^Where: \Q$contexts\E\. Default: \Q$default\E\.$/m, '  its context and its default, as in the table');
    ok($text =~ /^```apache\n(?:(?!```).*\n)*?\s*$name /m, '  an example');
}
missing('the table has no others', { map { $_ => 1 } keys %table }, \%context);

# --- options

# In the tables of what is known, and in lists of words for who misspells one.
my @known = map { /"([a-z][a-z-]*)="/g } code(files('mod_ratelimit_plans/*.c'), 'lib/limit.c');
my %option = set(grep { !/^(?:format|limit|window)$/ } @known); # of pages' addresses, and of header fields
ok(keys %option > 40, 'the options can be read: ' . keys %option);
missing('each is in docs/directives.md', \%option, { set($directives =~ /\b([a-z][a-z-]*)=/g) });
missing('and in the manual page', \%option, { set($page8 =~ /\bCm ([a-z][a-z-]*) Ns =/g) });

my ($rules) = code('mod_ratelimit_plans/rule.c');
my %of_rules = set($rules =~ /\{ "(\w+)=", (?:\w+|NULL) \}/g);
my ($syntax) = $entry{RateLimitRule} =~ /\A\n((?:    .*\n)+)/;
ok(keys %of_rules > 10, 'the options of a rule can be read');
missing('each is in its syntax', \%of_rules, { set($syntax =~ /(\w+)=/g) });
my ($redis) = code('mod_ratelimit_plans/store_redis_options.c');
my %of_redis = set($redis =~ /\.name = "([a-z-]+)="/g);
($syntax) = $entry{RateLimitStore} =~ /\A\n((?:    .*\n)+)/;
ok(keys %of_redis > 10, 'the options of a store in Redis can be read') or diag(join ' ', keys %of_redis);
missing('each is in its syntax', \%of_redis, { set($syntax =~ /([a-z-]+)=/g) });
missing('and has a row that says what it means', \%of_redis, { set(map { /`([a-z-]+)=`/g } $entry{RateLimitStore} =~ /^\| (`.*?) \|/mg) });

# --- variables and handlers

my %variable = set(grep { !/^RATELIMIT_(?:FIELDS|RESPONSE)$/ } map { /"(RATELIMIT_\w+)"/g } code(files('mod_ratelimit_plans/*.c')));
ok(keys %variable > 5, 'the variables can be read');
my %documented = set($directives =~ /^\| `(RATELIMIT_\w+)` \|/mg);
missing('each is in docs/directives.md', \%variable, \%documented);
missing('and no other', \%documented, \%variable);
missing('and in the manual page', \%variable, { set($page8 =~ /^[.]It Ev (RATELIMIT_\w+)$/mg) });

my %handler = set(grep { $_ ne 'ratelimit-refusal' } map { /"(ratelimit-[a-z]+)"/g } code(files('mod_ratelimit_plans/*.c'))); # but for the one that the module sets itself
ok(keys %handler >= 3, 'the handlers can be read') or diag(join ' ', keys %handler);
missing('each is in docs/directives.md', \%handler, { set($directives =~ /^\| `(ratelimit-\w+)` \|/mg) });
missing('and in the manual page', \%handler, { set($page8 =~ /^[.]It .*(ratelimit-\w+)$/mg) });

# --- what ratelimit-quota and ratelimit-admin are asked, and say

my $admin = slurp('docs/admin.md');
my ($asked) = code('mod_ratelimit_plans/admin.c');
my ($rows) = $admin =~ /^\| action \| members \| \|\n((?:\|.*\n)+)/m;
my (%action, %row);
while ($asked =~ /\{ "([a-z-]+)", admin_\w+, \{ (.*?) \} \}/g) {
    my ($name, $members) = ($1, $2);
    $action{$name} = join ' ', sort $members =~ /"(\w+)"/g;
}
while ($rows =~ /^\| `([a-z-]+)` \|([^|]*)\|/mg) {
    my ($name, $members) = ($1, $2);
    $row{$name} = join ' ', sort $members =~ /`(\w+)`/g;
}
ok(keys %action >= 10, 'the actions of ratelimit-admin can be read');
is_deeply(\%row, \%action, 'docs/admin.md has each, with its members');

my %said = set(map { /json_(?:string|number|bool|open)\([^;"]*?, "(\w+)"/g, /probe_seconds\(out, "(\w+)"/g }
        code(files('mod_ratelimit_plans/admin*.c'), map { "mod_ratelimit_plans/$_.c" } qw(quota probe)));
my %told = set($admin =~ /`([a-z_]+)(?:\[\])?`/g);
ok(keys %said > 30, 'the members of answers can be read: ' . keys %said);
missing('each is in docs/admin.md', \%said, \%told);

my %problem = set(map { /\\"([\w-]+)\\":/g } code('mod_ratelimit_plans/refuse.c'));
ok(keys %problem > 4, 'the members of a refusal can be read');
missing('each is in docs/directives.md', \%problem, { set(map { /`([\w-]+)`/g } $entry{RateLimitDenyStatus} =~ /^\| (`[^|]*) \|/mg) });

# --- rlpctl

my %exit = (EX_USAGE => 64, EX_DATAERR => 65, EX_NOINPUT => 66, EX_UNAVAILABLE => 69, EX_SOFTWARE => 70, EX_IOERR => 74, EX_NOPERM => 77);
my $tool = join '', code(files('rlpctl/*.c'));
my %status = set(0, map { $exit{$_} // $_ } $tool =~ /\b(EX_[A-Z]+)\b/g);
$status{$1} = 1 while $tool =~ /\bEXIT_[A-Z]+ = (\d+)|^#define \w+ (1)\n/mg;
$status{1} = 1 if $tool =~ /^#define (?:SIMULATE_DIFFERENT|REDIS_NOTHING) 1\b/m;
delete $status{''};
my ($statuses) = $page1 =~ /^[.]Sh EXIT STATUS\n(.*?)^[.]Sh /ms;
my %in_page = set($statuses =~ /^[.]It (\d+)$/mg);
ok(keys %status > 7, 'the exit codes can be read: ' . join ' ', sort { $a <=> $b } keys %status);
missing('each is in the manual page', \%status, \%in_page);
missing('and no other', \%in_page, \%status);
my ($exits) = $admin =~ /^\| exit code \|.*?\n((?:\|.*\n)+)/m;
missing('nor in docs/admin.md', { set($exits =~ /^\| (\d+) \|/mg) }, \%status);

my %flag = set($tool =~ /"(--[a-z]+)=?"/g);
ok(keys %flag > 15, 'the options of rlpctl can be read');
missing('each is in the manual page', \%flag, { set(map { "-$_" } $page1 =~ /\bFl (-[a-z]+)/g) });
my %command = map { $_ => 1 } keys %action, qw(try simulate hash-key);
missing('and each command', \%command, { set(map { split / [|] / } $page1 =~ /^[.]Cm ([a-z -|]+)$/mg) });

# members, as the source has them
my @printed = $tool =~ /\\"(\w+)\\":/g;
my ($report) = code('rlpctl/report_json.c');
push @printed, $report =~ /json_\w+\((?:&?\w+), "(\w+)"/g;
push @printed, map { /\bjson_(?:string|number|bool|open)\([\w&>-]+, "(\w+)"/g } code(files('rlpctl/*.c'));
my %in_page1 = set(map { /\b([a-z_]+)\b/g } $page1 =~ /^[.](?:Cm|It Cm|It) (.*)$/mg);
my %in_dumps = set(slurp('docs/dump-format.md') =~ /[`"]([a-z_]+)[`"]/g);
ok(@printed > 30, 'the members that rlpctl prints can be read: ' . @printed);
missing('each is in the manual page, in docs/dump-format.md or in docs/admin.md', { set(@printed) }, { %in_page1, %in_dumps, %told });

# and as they come
sub members {
    my ($value) = @_;
    return map { members($_) } @{$value} if ref $value eq 'ARRAY';
    return map { ($_, members($value->{$_})) } keys %{$value} if ref $value eq 'HASH';
    return;
}

SKIP: {
    skip 'rlpctl is not built', 2 if !-x $rlpctl;
    my $log = q(for s in 1 2 3; do echo "192.0.2.7 176371560${s}000000 pass"; done);
    my $replayed = qx($log | '$rlpctl' simulate --json --compare --format='%a %{usec}t %{RATELIMIT_ACTION}e' --plan='slow=rate=1/min');
    my %member = set(grep { !/^(?:slow|[\d.]+)$/ } members(decode_json($replayed)));
    ok(keys %member > 35, 'rlpctl simulate --json has members: ' . keys %member);
    missing('each is in the manual page', \%member, \%in_page1);
}

# --- pages: each is installed, linked from README.md, and its links lead somewhere

my %document = map { basename($_) => $_ } files('docs/*.md');
my $automake = slurp('docs/docs.am');
my $readme = slurp('README.md');
missing('every page is installed', { set(values %document, files('docs/*.[1-8]')) }, { set($automake =~ m{(docs/[\w-]+[.](?:md|[1-8]))\b}g) });
missing('and README.md leads to it', { set(values %document) }, { set($readme =~ m{\((docs/[\w-]+[.]md)[)#]}g) });

# The anchors of a page, as headings make them.
sub anchors {
    my ($file) = @_;
    my $text = slurp($file) =~ s/^```.*?^```$//mgsr;
    return map { lc(s/[`*]//gr =~ s/[^\w\s-]//gr =~ s/^\s+|\s+$//gr) =~ s/ /-/gr } $text =~ /^#+ (.*)$/mg;
}

my @broken;
for my $file ('README.md', 'CONTRIBUTING.md', 'SECURITY.md', values %document) {
    my $text = slurp($file) =~ s/^```.*?^```$//mgsr;
    for my $link ($text =~ /\]\(([^)\s]+)\)/g) {
        next if $link =~ /^\w+:/;
        my ($path, $anchor) = split /#/, $link;
        my $target = $path eq '' ? $file : dirname($file) eq '.' ? $path : dirname($file) . "/$path";
        $target =~ s{^docs/\.\./}{};
        push @broken, "$file: $link" if !-e "$top/$target" || (defined $anchor && !grep { $_ eq $anchor } anchors($target));
    }
}
is(join(', ', @broken), '', 'no link leads nowhere');

my %there = set(map { basename($_) } map { files("$_/*.[ch]") } qw(lib lib/algorithm lib/include lib/redis lib/store mod_ratelimit_plans rlpctl t/unit));
my %drawn = set(slurp('docs/architecture.md') =~ /\b([a-z_]+[.][ch])\b/g);
ok(keys %drawn > 40, 'docs/architecture.md names files: ' . keys %drawn);
missing('each is there', \%drawn, \%there);

# --- the comparison: each mark is a test

my %mark = set(slurp('docs/comparison.md') =~ /\[([A-Z]\d+)\]/g);
my %tested = set(slurp('t/peers.t') =~ /['"]([A-Z]\d+) /g);
ok(keys %mark > 30, 'docs/comparison.md has marks');
missing('each is the name of a test in t/peers.t', \%mark, \%tested);
missing('and each test is marked', \%tested, \%mark);

done_testing;
