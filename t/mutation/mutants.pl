#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# usage: mutants.pl BUILDDIR
#
# Changes the algorithms in one place at a time, as a slip of the pen would, and asks whether the unit tests notice.
# A mutant is compiled to a library that takes the place of the one source in test programs that are built once; the
# programs that killed most of this source so far, for the time they take, run first. It is
#
#   killed      by a test that fails, a crash or a run that does not end
#   equal       if the compiler, optimising, makes the same code of it
#   equivalent  if t/mutation/equivalent.txt says why nothing it answers can differ
#   survived    else
#   invalid     if it does not compile; it counts for nothing
#
# In the environment: MUTANTS=200, a sample of so many (the same each time), or all; FILES="lib/check.c" or a part of
# that; AT="lib/check.c:120" runs what is on that line, afresh. Results stand in BUILDDIR/results.txt: what was killed
# stays killed while its source is the same, what survived is asked again when a test program is another. Run in the
# top directory. Fails where fewer than 95 of 100 are killed.

use strict;
use warnings;

use Cwd qw(abs_path);
use Digest::MD5 qw(md5_hex);
use File::Path qw(make_path);
use List::Util qw(first max);
use Time::HiRes qw(time);

use lib 't/lib', 't/mutation';
use RLP::Basics qw(slurp spill);
use Mutate qw(mutants_of);

my $floor = 95;
my @sources = (glob('lib/algorithm/*.c'), qw(lib/check.c lib/calendar.c lib/limit.c lib/limit_figures.c));
my %only = (    # of which sources alone a program speaks
    calendar => qr/calendar|quota|limit/,
    calendar_quota => qr/calendar|quota|limit/,
    concurrency_step => qr/concurrency/,
    calendar_table => qr/calendar/,
    flush => qr/bucket|window|log|quota|check|second/,
    grammar => qr/limit|calendar/,
    grammar_plan => qr/limit|calendar/,
    joint => qr/check/,
    joint_failure => qr/check/,
    joint_more => qr/check/,
    segment => qr/check|concurrency/,
    segment_restart => qr/check|concurrency/,
    limit_table => qr/limit|algorithm/,
    property => qr/bucket|window|log|quota|check/,
    property_more => qr/bucket|window|log|quota|check|second/,
    property_shared => qr/bucket|window|quota|second/,
    second => qr/second/,
    sliding => qr/sliding/,
    sliding_state => qr/sliding/,
);
my $equivalents = 't/mutation/equivalent.txt';

my $build = abs_path($ARGV[0] || '') or die "usage: mutants.pl BUILDDIR\n";
my $cc = $ENV{CC} || 'cc';
my @cflags = (qw(-std=gnu11 -w -fPIC), split ' ', $ENV{MUTATION_CFLAGS} || '');
my @names = split ' ', $ENV{MUTATION_PROGRAMS} || '';
my @libs = split ' ', $ENV{MUTATION_LIBS} || '';
my $work = "$build/work";
make_path($work);
$ENV{RLP_SEED} = 1;    # who survives today does so tomorrow
$ENV{RLP_STEPS} ||= 200_000;

# The tables that the programs read: as they are now, whatever becomes of them during the run.
sub copy_tables {
    make_path("$work/t/unit");
    spill("$work/$_", slurp($_)) for glob 't/unit/*.txt';
    $ENV{top_srcdir} = $work;
    return;
}

# --- the programs: each with all of the library in a library of its own, in front of which a mutant can be put

sub link_programs {
    my @objects = glob "$build/lib/.libs/*.o $build/lib/*/.libs/*.o";
    my ($unit) = glob "$build/t/unit/libunit_la-*.o $build/t/unit/.libs/libunit_la-*.o";
    my $library = "$build/libmutation.so";
    system($cc, '-shared', '-o', $library, @objects, @libs) == 0 or die "$library: not linked\n";
    for my $name (@names) {
        my @own = glob "$build/t/unit/$name-*.o";
        unlink "$build/mutation-$name";
        system($cc, '-o', "$build/mutation-$name", @own, $unit, "-L$build", '-lmutation',
            "-Wl,-rpath,$build", @libs) == 0 or die "$name: not linked\n";
    }
    return;
}

# The first test that fails, or how else the program ends; '' if all is well. Its output is read line by line, so a
# failure need not wait for the rest. What it may take is seconds of the processor, so a busy machine kills nobody.
sub run_program {
    my ($name, $preload, $limit) = @_;
    my $failure = '';
    my $pid = open my $out, '-|';
    die "fork: $!\n" if !defined $pid;
    if (!$pid) {
        setpgrp;
        open STDERR, '>', '/dev/null';
        exec '/bin/sh', '-c', 'ulimit -t "$2"; ulimit -v 4000000; LD_PRELOAD=$1 exec "$3"', 'sh', $preload, $limit, "$build/mutation-$name";
        exit 127;
    }
    while (<$out>) {
        next if !/^not ok \d+ - (.*)/;
        $failure = $1;
        last;
    }
    kill 'KILL', -$pid if $failure;
    close $out;
    die "$name does not run\n" if !$failure && $? >> 8 == 127;
    return $failure || ($? ? sprintf 'ends with %s %d', $? & 127 ? 'signal' : 'status', $? & 127 || $? >> 8 : '');
}

# How long each takes, and that all pass without a mutant.
sub time_programs {
    my %seconds;
    for my $name (@names) {
        my $start = time;
        my $failure = run_program($name, '', 300);
        die "$name fails without a mutant: $failure\n" if $failure;
        $seconds{$name} = max(time - $start, 0.01);
        printf "# %-18s %5.1f s\n", $name, $seconds{$name};
    }
    return %seconds;
}

# --- one mutant

sub compile {
    my ($mutant, @how) = @_;
    my $file = "$work/mutant.c";
    spill($file, $mutant->{text});
    my ($dir) = $mutant->{file} =~ m{(.*)/};
    return system("$cc @cflags -I$dir @how $file >$work/errors 2>&1") == 0;
}

sub optimise {
    my ($mutant) = @_;
    return compile($mutant, "-O2 -g0 -c -o $work/optimised.o") && slurp("$work/optimised.o");
}

my %optimised;

# Does the optimising compiler see no difference?
sub is_equal {
    my ($mutant) = @_;
    my $file = $mutant->{file};
    $optimised{$file} ||= optimise({ %$mutant, text => slurp($file) }) || die "$file does not compile\n";
    return optimise($mutant) eq $optimised{$file};
}

sub judge {
    my ($mutant, $seconds, $kills) = @_;
    return ('invalid', '') if !compile($mutant, "-O0 -g0 -shared -o $work/mutant.so");
    my $of = $kills->{ $mutant->{file} } ||= {};
    my @of = grep { !$only{$_} || $mutant->{file} =~ $only{$_} } @names;
    my $looked = 0;
    for my $name (sort { ($of->{$b} || 0.5) / $seconds->{$b} <=> ($of->{$a} || 0.5) / $seconds->{$a} } @of) {
        return ('equal', '') if !$looked && $seconds->{$name} > 0.3 && ++$looked && is_equal($mutant);
        my $failure = run_program($name, "$work/mutant.so", int(2 + 4 * $seconds->{$name}));
        next if !$failure;
        $of->{$name}++;
        return ('killed', "$name: $failure");
    }
    return (!$looked && is_equal($mutant) ? 'equal' : 'survived', '');
}

# --- what is known

# FILE:FUNCTION ~ LINE ~ MUTATED LINE ~ REASON
sub read_equivalents {
    my (@mutants) = @_;
    my (%reasons, @stale);
    for (split /\n/, slurp($equivalents)) {
        next if /^#|^\s*$/;
        my ($where, $before, $after, $why) = split / ~ /, $_, 4;
        die "$equivalents: expected FILE:FUNCTION ~ LINE ~ MUTATED LINE ~ REASON, got \"$_\"\n" if !$why;
        my $key = "$where ~ $before ~ $after";
        push @stale, $key if !first { $_->{key} eq $key } @mutants;
        $reasons{$key} = $why;
    }
    die map { "$equivalents: no such mutant: $_\n" } @stale if @stale;
    return %reasons;
}

sub read_results {
    my ($tests) = @_;
    my %results;
    return %results if !-e "$build/results.txt";
    for (split /\n/, slurp("$build/results.txt")) {
        my ($id, $of, $verdict, $by) = split /\t/, $_, 4;
        delete $results{$id};
        $results{$id} = [$verdict, $by] if $of eq $tests || $verdict ne 'survived';
    }
    return %results;
}

# The same shuffle each time.
sub sample {
    my ($wanted, @mutants) = @_;
    return @mutants if $wanted eq 'all';
    my @order = sort { md5_hex($a->{id}) cmp md5_hex($b->{id}) } @mutants;
    return splice @order, 0, $wanted;
}

# --- telling

sub tell_sums {
    my ($verdicts, @mutants) = @_;
    my %sums;
    for my $mutant (@mutants) {
        my $verdict = $verdicts->{ $mutant->{id} };
        $sums{$_}{$verdict}++ for $mutant->{file}, '= sum';
    }
    printf "%-36s %8s %8s %8s %10s %7s\n", '', qw(killed survived equal equivalent killed);
    my $share = 100;
    for my $name (sort keys %sums) {
        my %n = (killed => 0, survived => 0, equal => 0, equivalent => 0, %{ $sums{$name} });
        $share = 100 * $n{killed} / max($n{killed} + $n{survived}, 1);
        printf "%-36s %8d %8d %8d %10d %5.1f %%\n", $name, @n{qw(killed survived equal equivalent)}, $share;
    }
    return $share;
}

my @all = map { mutants_of($_, slurp($_)) } @sources;
my %reasons = read_equivalents(@all);
my @chosen = grep { my $m = $_; !$ENV{FILES} || first { index($m->{file}, $_) >= 0 } split ' ', $ENV{FILES} } @all;
@chosen = grep { "$_->{file}:$_->{line}" eq $ENV{AT} } @chosen if $ENV{AT};
@chosen = sample($ENV{AT} ? 'all' : $ENV{MUTANTS} || 200, @chosen);

copy_tables();
link_programs();
my %seconds = time_programs();
my $tests = md5_hex(map { slurp($_) } (map { "$build/mutation-$_" } @names), glob 't/unit/*.txt');
my %results = $ENV{AT} ? () : read_results($tests);
my (%verdicts, %kills, @wrong);
open my $log, '>>', "$build/results.txt" or die "$build/results.txt: $!\n";
$log->autoflush(1);
for my $mutant (@chosen) {
    my ($verdict, $by) = @{ $results{ $mutant->{id} } || [] };
    if (!$verdict) {
        ($verdict, $by) = judge($mutant, \%seconds, \%kills);
        print {$log} join("\t", $mutant->{id}, $tests, $verdict, $by), "\n";
    } elsif ($verdict eq 'killed') {
        $kills{ $mutant->{file} }{$1}++ if $by =~ /^(\w+):/;
    }
    my $why = $reasons{ $mutant->{key} };
    push @wrong, $mutant->{key} if $why && $verdict eq 'killed';
    $verdict = 'equivalent' if $why && $verdict eq 'survived';
    $verdicts{ $mutant->{id} } = $verdict;
    print "$mutant->{file}:$mutant->{line}: $verdict: $mutant->{key}\n" if $verdict eq 'survived';
    print "$mutant->{file}:$mutant->{line}: $verdict by $by: $mutant->{key}\n" if $ENV{AT};
}
close $log;
my $share = tell_sums(\%verdicts, @chosen);
print STDERR map { "$equivalents: killed, so not equivalent: $_\n" } @wrong;
printf STDERR "expected %d %% killed, got %.1f\n", $floor, $share if $share < $floor;
exit($share < $floor || @wrong ? 1 : 0);
