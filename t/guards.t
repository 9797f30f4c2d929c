#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What docs/architecture.md says of the tree, held to. Reads sources below top_srcdir and the libraries below
# builddir; needs no server.

use strict;
use warnings;

use File::Basename qw(basename dirname);
use File::Find qw(find);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics ();

my $top = $ENV{top_srcdir} || dirname(dirname($0));
my $build = $ENV{builddir} || '.';

my @production = files(qr/\.[ch]$/, qw(lib mod_ratelimit_plans rlpctl));

# --- reading

sub slurp {
    my ($file) = @_;
    return RLP::Basics::slurp("$top/$file");
}

# Files below the folders, named from the top.
sub files {
    my ($pattern, @dirs) = @_;
    my @found;
    my $wanted = sub { push @found, substr($_, 1 + length $top) if -f && m{$pattern} };
    find({ no_chdir => 1, wanted => $wanted }, grep { -d } map { "$top/$_" } @dirs);
    return sort @found;
}

# A C file without its comments; strings stay.
sub code {
    my $text = slurp(@_);
    $text =~ s{("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+')|/\*.*?\*/}{ defined $1 ? $1 : "\n" x ($& =~ tr/\n//) }gse;
    return $text;
}

# What a file includes: "a.h" and <b.h>.
sub includes {
    return code(@_) =~ /^\s*#\s*include\s+(["<][^">]+[">])/mg;
}

# Lines of the files that match, as FILE:LINE: TEXT.
sub grep_code {
    my ($pattern, @files) = @_;
    my @hits;
    for my $file (@files) {
        my @lines = split /\n/, code($file);
        push @hits, map { "$file:" . ($_ + 1) . ": $lines[$_]" } grep { $lines[$_] =~ $pattern } 0 .. $#lines;
    }
    return @hits;
}

# Includes of the files that do not match one of those allowed, as FILE: INCLUDE.
sub strangers {
    my ($allowed, @files) = @_;
    return map { my $f = $_; map { "$f: $_" } grep { $_ !~ $allowed } includes($f) } @files;
}

sub none {
    my ($name, @found) = @_;
    return ok(!@found, $name) || diag(map { "    $_\n" } @found);
}

# --- layers

my $httpd = qr{^["<](?:ap_|http|util_|mod_|mpm|scoreboard|unixd|heartbeat|os\.h)};

none('lib/ and rlpctl/ include no httpd header',
    map { my $f = $_; map { "$f: $_" } grep { $_ =~ $httpd } includes($f) } grep { m{^(?:lib|rlpctl)/} } @production);

none('an algorithm includes rlp_algorithm.h only, or what buckets share',
    strangers(qr{^"(?:rlp_algorithm|algorithm/(?:reading|second))\.h"$}, grep { !m{/algorithms\.[ch]$} } files(qr/\.[ch]$/, 'lib/algorithm')));

none('the table of algorithms includes them and no more',
    strangers(qr{^(?:"algorithms\.h"|"rlp_algorithm\.h"|<stddef\.h>)$}, files(qr{/algorithms\.[ch]$}, 'lib/algorithm')));

none('rlp_algorithm.h includes types only',
    strangers(qr{^<std(?:bool|int|def)\.h>$}, 'lib/include/rlp_algorithm.h'));

none('the slab includes no APR',
    map { my $f = $_; map { "$f: $_" } grep { /apr/ } includes($f) }
    qw(lib/store/slab.c lib/store/slab.h lib/store/slab_layout.c lib/store/slab_layout.h lib/store/slab_visit.c lib/include/rlp_entry.h));

none('only lib/redis includes hiredis',
    grep { /hiredis|valkey/ } map { my $f = $_; map { "$f: $_" } includes($f) } grep { !m{^lib/redis/} } @production);

my %public = map { basename($_) => 1 } files(qr/\.h$/, 'lib/include');
# annex.h, glob.h, instant.h, json.h, override.h and stats_area.h need no httpd: the tool works as the module does, and on what it keeps
none(
    'the module and the tool know the library by its public headers only',
    map {
        my $f = $_;
        map { "$f: \"$_\"" } grep { !$public{$_} && !-e dirname("$top/$f") . "/$_" && !($f =~ m{^(?:mod_ratelimit_plans/(?:store|plan_map)_redis|rlpctl/redis)} && m{^redis/})
            && !($f =~ m{^rlpctl/} && m{^(?:annex|glob|instant|json|override|stats_area)[.]h$}) }
            map { /^"(.*)"$/ ? $1 : () } includes($f);
    } grep { m{^(?:mod_ratelimit_plans|rlpctl)/} } @production
);

none('one place reads the clock',
    grep_code(qr/\b(?:clock_gettime|gettimeofday|timespec_get|apr_time_now)\b|(?<![\w>.])time\s*\(/,
        grep { $_ ne 'lib/clock.c' } @production));

none('no path of the machine it was made on', grep_code(qr{/(?:work|tmp|home|root)\b}, @production));

# --- symbols

sub exports {
    my ($library) = @_;
    my @symbols = map { /^\S* [A-Z] (\S+)/i ? $1 : () } qx{nm -D --defined-only '$library'};
    return sort map { s/@.*//r } @symbols;
}

sub built {
    my ($name) = @_;
    my ($found) = grep { -e } "$build/.libs/$name.so", "$build/$name/.libs/$name.so";
    return $found;
}

SKIP: {
    skip 'nm is not here', 2 if !grep { -x "$_/nm" } split /:/, $ENV{PATH};

    my $library = built('libratelimit_plans');
    my @symbols = $library ? exports($library) : ();
    ok(@symbols > 10, 'the library is built and exports its interface');
    none('the library exports rlp_* only', grep { !/^rlp_/ } @symbols);
}

SKIP: {
    skip 'nm is not here', 1 if !grep { -x "$_/nm" } split /:/, $ENV{PATH};

    my $module = built('mod_ratelimit_plans');
    is_deeply([$module ? exports($module) : 'not built'],
        ['ratelimit_plans_module'], 'the module exports its record only');
}

# --- directives

{
    my @directives = code('mod_ratelimit_plans/config.c') =~ /\bAP_INIT_\w+\(\s*"<?(\w+)/g;
    my @headings = -e "$top/docs/directives.md" ? slurp('docs/directives.md') =~ /^#+\s+(.*)/mg : ();
    my %heading = map { $_ => 1 } map { /\b(RateLimit\w+)\b/g } @headings;
    my %directive = map { $_ => 1 } @directives;
    ok(@directives > 5, 'the table of directives can be read');
    none('every directive has a heading in docs/directives.md', grep { !$heading{$_} } @directives);
    none('every heading there is a directive', grep { !$directive{$_} } sort keys %heading);
    my $page = slurp('docs/mod_ratelimit_plans.8');
    none('every directive is in the manual page', grep { $page !~ /^[.]It Sy $_ /m } @directives);
    my @options = code('mod_ratelimit_plans/rule.c') =~ /\{ "(\w+)=", (?:rule_|stores_|NULL)/g;
    ok(@options > 5, 'the table of options of a rule can be read');
    none('every option of a rule is in the manual page',
        grep { $page !~ /^[.]It .*Cm $_ Ns = /m } @options);
}

{
    my $header = 'mod_ratelimit_plans/records.h';
    my $sources = join '', map { code($_) } files(qr/\.c$/, 'mod_ratelimit_plans');
    my ($fields, @missing) = (0);
    my $records = slurp($header);
    while ($records =~ m{/\* merged: [^*]*?(\w+)\(\) \*/\s*(?:typedef )?struct(?: (\w+))? \{(.*?)\n\}(?: (\w+))?;}gs) {
        my ($function, $body, $record) = ($1, $3, $2 // $4);
        my ($merge) = $sources =~ /^[^\s#][^;{}]*\b$function\([^;{}]*\)\s*\n\{\n(.*?)\n\}$/ms;
        $body =~ s{/\*.*?\*/}{}gs;
        for my $field ($body =~ /(\w+)(?:\[[^\]]*\])*;/g) {
            $fields++;
            push @missing, "$record.$field in $function()"
                if !defined $merge || $merge !~ /->$field\b[^=;]*=[^=]/;
        }
    }
    none('every field of a configuration record has its merge line',
        $fields > 12 ? @missing : "only $fields fields found in $header");
}

# --- monitoring

{
    my $document = slurp('docs/monitoring.md');
    my ($json, $metrics) = $document =~ /^## JSON\n(.*?)^## Metrics\n(.*?)^No label/ms;
    my $source = code('mod_ratelimit_plans/status_metrics.c');
    my %metric = map { $_ => 1 } $source =~ /"(ratelimit_\w+)"/g;
    my %documented = map { $_ => 1 } $metrics =~ /^\| `(ratelimit_\w+)`/mg;
    ok(keys %metric > 5, 'the metrics can be read');
    is(join(' ', sort keys %documented), join(' ', sort keys %metric), 'docs/monitoring.md has the metrics there are');
    my %label = map { $_ => 1 } $source =~ /[{,](\w+)=\\"/g;
    none('and their labels', grep { $metrics !~ /\| [^|]*`$_`[^|]*\| [^|]*\|$/m } keys %label);
    my %used = map { $_ => 1 } slurp('conf/grafana-dashboard.json') =~ /\b(ratelimit_\w+)\b/g;
    ok(keys %used > 4, 'the dashboard uses metrics');
    none('and only those that there are', grep { !$metric{$_} } sort keys %used);

    my $writer = code('mod_ratelimit_plans/status_json.c');
    my @kinds = code('mod_ratelimit_plans/status.c') =~ /\[STATS_\w+\] = \{ "[\w-]+", "(\w+)", "(\w+)",/g;
    my %kind = @kinds; # as JSON has it => as mod_status
    is(scalar(keys %kind), scalar(my @all = code('mod_ratelimit_plans/stats_area.h') =~ /^    STATS_(?!KINDS)[A-Z_]+,/mg),
        'the kinds of numbers can be read');
    my %member = map { $_ => 1 } $writer =~ /(?<!\\)"(\w+)"/g, $writer =~ /\\"(\w+)\\":/g, keys %kind;
    my %said = map { $_ => 1 } grep { !/^(?:closed|open|1|dbm)$/ } map { split /\./ } map { s/\[\]//r } $json =~ /`([\w.\[\]]+)`/g;
    ok(keys %member > 25, 'the members of JSON can be read') or diag(join ' ', sort keys %member);
    none('docs/monitoring.md has every member of JSON', grep { !$said{$_} } sort keys %member);
    none('and no other', grep { !$member{$_} } sort keys %said);
    none('and the kinds in mod_status', grep { $document !~ /`RateLimit$_`/ } values %kind,
        code('mod_ratelimit_plans/status.c') =~ /RateLimit(\w+): %/g);
}

# --- lines of the error log

{
    my %level = (CRIT => 'critical', ERR => 'error', WARNING => 'warning', NOTICE => 'notice', INFO => 'info');
    my (%said, %unclear);
    for my $file (files(qr/\.c$/, 'mod_ratelimit_plans')) {
        my $text = code($file);
        while ($text =~ /"(RLP\d{3}):/g) {
            my ($line, $before) = ($1, substr $text, 0, $-[0]);
            my ($word) = $before =~ /.*ap_log_r?error\(APLOG_MARK,\s*(\w+),/s;
            $said{$line}{ $level{ ($word // '') =~ s/^APLOG_//r } // 'by its cause' } = 1;
        }
    }
    my $page = slurp('docs/operations.md');
    my %meaning = $page =~ /^\| `(RLP\d{3})` \| ((?:critical|error|warning|notice|info)(?:, \w+)*) \| \S.* \|$/mg;
    my %advice = map { $_ => 1 } $page =~ /^\| `(RLP\d{3})` \| (?!(?:critical|error|warning|notice|info)(?:,| \|))\S.* \|$/mg;
    ok(keys %said > 20, 'the lines of the error log can be read');
    none('each is in docs/operations.md, with what it means', grep { !$meaning{$_} } sort keys %said);
    none('with its level', grep { my $line = $_; grep { $_ ne 'by its cause' && $meaning{$line} !~ /\b$_\b/ } keys %{ $said{$line} } }
        grep { $meaning{$_} } sort keys %said);
    none('and with what to do', grep { !$advice{$_} } sort keys %said);
    none('and there are no others', grep { !$said{$_} } sort keys %{ { %meaning, %advice } });
}

# --- what it is built with

{
    my ($packages) = slurp('quickstart') =~ /^readonly packages_build=\((.*?)^\)/ms;
    my $needed = slurp('debian/control') =~ s/^(?!Build-Depends:|  ).*\n//mgr;
    none('the package is built with what ./quickstart build installs',
        $packages ? grep { /-dev$/ && $_ ne 'libc6-dev' && $needed !~ /\b\Q$_\E\b/ } split ' ', $packages : 'no packages found');
    my ($by_hand) = slurp('CONTRIBUTING.md') =~ /`apt-get install (.*?)`/s;
    none('and CONTRIBUTING.md says so to who builds by hand',
        $by_hand ? grep { $by_hand !~ /(?<!\S)\Q$_\E(?!\S)/ } split ' ', $packages : 'no packages found');
}

# --- the access log's own format

{
    my ($offered) = slurp('conf/ratelimit_plans.conf') =~ /^\s*#LogFormat "(.*)" ratelimit$/m;
    my ($known) = slurp('rlpctl/log_format.c') =~ /\{ "ratelimit",\s*((?:"(?:\\.|[^"\\])*"\s*)+)\}/;
    $known = join '', ($known // '') =~ /"((?:\\.|[^"\\])*)"/g;
    is($offered, $known, 'the LogFormat of conf/ratelimit_plans.conf is what rlpctl calls ratelimit');
}

# --- what docs/extending.md quotes

{
    my $document = slurp('docs/extending.md');
    my %quoted;
    my @wrong;
    while ($document =~ /^(?:<!-- (\S+) -->\n)?```c\n(.*?)^```$/msg) {
        my ($file, $text) = ($1, $2);
        if (!defined $file || !-e "$top/$file") {
            push @wrong, 'no file for: ' . substr $text, 0, 60;
        } elsif (index("\n" . slurp($file), "\n$text") < 0) {
            push @wrong, "not in $file: " . substr $text, 0, 60;
        } else {
            $quoted{$file} = 1;
        }
    }
    none('what docs/extending.md quotes stands so in its file', keys %quoted > 4 ? @wrong : 'nothing is quoted');
    my @examples = grep { !m{/mod_rlp_(?:forwarded|misfits|starved)[.]c$} } files(qr/[.]c$/, 't/c-modules');
    none('docs/extending.md quotes every example', grep { !$quoted{$_} } @examples);
    my $header = slurp('mod_ratelimit_plans/mod_ratelimit_plans.h');
    my @kinds = $header =~ /^#define (RLP_\w+_GROUP) /mg;
    none('docs/extending.md has every kind of provider', @kinds > 4 ? grep { $document !~ /\b$_\b/ } @kinds : 'none found');
    none('and every example is built by t/httpd.am', grep { slurp('t/httpd.am') !~ /\Q$_\E/ } files(qr/[.]c$/, 't/c-modules'));
}

# --- files

{
    my @units = map { basename($_) } files(qr/\.c$/, 't/unit');
    my $registered = slurp('t/unit/unit.am');
    none('every unit test is in t/unit/unit.am', grep { $registered !~ /\b\Q$_\E/ } @units);
}

my @sources = (
    'Makefile.am', 'configure.ac',
    (grep { -e "$top/$_" } 'quickstart', '.ci/run'),
    @production, files(qr{\.(?:[ch]|t|p[lm]|PL|sh|am)$}, 't')
);
none('every source file names its licence',
    grep { slurp($_) !~ /\A(?:.*\n){0,2}.*(?:SPDX-License-Identifier: |Licensed under the )Apache/ } @sources);

done_testing;
