#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The figures that the code is held to, where clang-tidy has none. Run in the top directory. It reads the
# layout that clang-format has checked before: what stands at the left margin is at file scope.

use strict;
use warnings;

use File::Find qw(find);

my %most = (median => 12, p90 => 30, max => 60, nesting => 3, globals => 3);
my @production = qw(lib mod_ratelimit_plans rlpctl);
my @public = (glob('lib/include/*.h'), glob('mod_ratelimit_plans/*.h'));
my $failed = 0;

sub complain {
    my ($where, $what) = @_;
    print STDERR "$where: $what\n";
    $failed = 1;
    return;
}

sub files {
    my ($pattern, @dirs) = @_;
    my @found;
    find({ no_chdir => 1, wanted => sub { push @found, $_ if -f && m{$pattern} } }, grep { -d } @dirs);
    return sort @found;
}

sub lines {
    my ($file) = @_;
    open my $in, '<', $file or die "$file: $!\n";
    chomp(my @lines = <$in>);
    close $in;
    return @lines;
}

# The lines of a C file without comments and preprocessor lines, both left empty.
sub code {
    my $text = join "\n", lines(@_);
    $text =~ s{("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+')|/\*.*?\*/}{ defined $1 ? $1 : "\n" x ($& =~ tr/\n//) }gsex;
    $text =~ s{__attribute__\(\(.*?\)\) ?}{}g;
    $text =~ s{^\#(?:.*\\\n)*.*}{ "\n" x ($& =~ tr/\n//) }gmex;
    return split /\n/, $text, -1;
}

# How deep blocks lie in each other, the body of the function being the first; initialisers are none.
sub nesting {
    my ($deepest, @open) = (0);
    for (@_) {
        pop @open if /^\s*\}/;
        push @open, /(?:^|\) |else |do |:)\{$/ if /\{$/;
        my $depth = 1 + grep { $_ } @open;
        $deepest = $depth if $depth > $deepest;
    }
    return $deepest;
}

# One file: { functions => [[name, first line, lines, nesting]], statements => [[text, line]] of file scope }.
sub scan {
    my ($file) = @_;
    my @code = code($file);
    my (@functions, @statements);
    my ($text, $start, $inside) = ('', 0, 0);    # inside: the line of a function's opening brace

    for my $i (0 .. $#code) {
        my $line = $code[$i];

        if ($inside) {    # a function; its statics are as global as any
            push @statements, [$1, $i + 1] if $line =~ /^\s+(static\s.*)/;
            if ($line eq '}') {
                my ($name) = $text =~ /(\w+)\s*\(/;
                push @functions, [$name, $start, $i + 2 - $start, nesting(@code[$inside .. $i - 1])];
                ($text, $inside) = ('', 0);
            }
            next;
        }
        next if $text eq '' && ($line =~ /^\s*$/ || $line =~ /^extern "C"|^}$/);
        $start = $i + 1 if $text eq '';
        $inside = $i + 1 if $line eq '{';
        $text .= "$line\n" unless $inside;
        if (!$inside && ($line =~ /^[^\s}].*;$/ || $line =~ /^}.*;$/ || $line =~ /^\s.*;$/ && $text !~ /\{/)) {
            push @statements, [$text, $start];
            $text = '';
        }
    }
    return { functions => \@functions, statements => \@statements };
}

# Is it a definition of data that may change?
sub mutable {
    my ($text) = @_;
    return 0 if $text =~ /^(?:__extension__\s+)?(?:typedef|extern|_Static_assert|APLOG_USE_MODULE)\b/;
    return 1 if $text =~ /^(?:AP_DECLARE_MODULE)\b/ || $text =~ /^module\b/;
    return 0 if $text =~ /^(?:struct|union|enum)\s*\w*\s*(?:\{.*\})?;$/s;
    $text =~ s/\{.*?\n\}/ /s if $text =~ /^[^=]*\b(?:struct|union|enum)\b[^=]*\{/;    # the type's body
    $text =~ s/_Alignas\([^)]*\)//;
    $text =~ s/\s*=.*//s;                                       # the initialiser
    return 0 if $text =~ /\w\s*\([^*]/;                         # a prototype
    return $text =~ /.*\*(.*)/s ? $1 !~ /\bconst\b/ : $text !~ /\bconst\b/;
}

my @sources = files(qr/\.[ch]$/, @production);
my %scan = map { $_ => scan($_) } @sources;

# functions
my @all = sort { $a->[2] <=> $b->[2] } map { my $f = $_; map { [@$_, $f] } @{ $scan{$f}{functions} } } @sources;
die "no functions found\n" if !@all;
my %is = (
    median => $all[ $#all / 2 ][2],
    p90 => $all[ $#all * 0.9 ][2],
    max => $all[-1][2],
);
printf "functions: %d; lines: median %d, p90 %d, max %d (at most %d, %d, %d)\n", scalar @all,
    @is{qw(median p90 max)}, @most{qw(median p90 max)};
for my $figure (qw(median p90 max)) {
    next if $is{$figure} <= $most{$figure};
    complain("figures", "$figure of function lines is $is{$figure}, expected at most $most{$figure}");
    printf STDERR "    %3d lines: %s, %s:%d\n", @{$_}[2, 0, 4, 1] for reverse grep { defined } @all[-10 .. -1];
}

# nesting; clang-tidy's own figure counts the blocks inside httpd's log macros too
for (grep { $_->[3] > $most{nesting} } @all) {
    complain("$_->[4]:$_->[1]", "$_->[0]() nests blocks $_->[3] deep, expected at most $most{nesting}");
}

# mutable globals
my @globals = map { my $f = $_; map { [$f, @$_] } grep { mutable($_->[0]) } @{ $scan{$f}{statements} } } @sources;
printf "mutable globals: %d (at most %d)\n", scalar @globals, $most{globals};
if (@globals > $most{globals}) {
    complain("$_->[0]:$_->[2]", 'mutable at file scope: ' . ($_->[1] =~ /^(.*)/)[0]) for @globals;
}

# comments above public prototypes
my $prototypes = 0;
for my $file (@public) {
    my @lines = lines($file);
    for (@{ $scan{$file}{statements} }, map { ["$_->[0](", $_->[1]] } @{ $scan{$file}{functions} }) {
        my ($text, $start) = @$_;
        next if $text !~ /\w\(/ && $text !~ /^extern/ || $text =~ /^(?:typedef|_Static_assert|extern module\b)/;
        next if $text =~ /\{/;
        my $above = $start - 2;
        $above-- while $above > 0 && $lines[$above] !~ /^\s*$/ && $lines[$above] !~ m{\*/$};
        $prototypes++;
        complain("$file:$start", 'a prototype without a comment above it') if $lines[$above] !~ m{\*/$};
    }
}
printf "public prototypes, all with a comment: %d\n", $prototypes if !$failed;

# tests and what they test
sub weigh {
    return scalar grep { /\S/ } map { lines($_) } @_;
}
my $source = weigh(@sources);
my $test = weigh(grep { !m{^t/(?:lint|bench)/} } files(qr/\.(?:c|h|t|pm)$/, 't'));
printf "lines: %d of source, %d of tests\n", $source, $test;
complain('t', 'fewer lines of tests than of source') if $test < $source;

exit $failed;
