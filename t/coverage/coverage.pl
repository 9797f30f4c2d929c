#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# usage: coverage.pl BUILDDIR [ROOT...]
#
# What share of the sources was executed, from gcov's counters below BUILDDIR, and below each ROOT, where GCOV_PREFIX
# has put others of the same objects. A line counts if the compiler made code of it. A branch is one outcome of one
# conditional jump in code that was not optimised, so "a && b" has four; none is left out. A source that was compiled
# several times counts once, a line or branch of it as executed if any of its objects did so.
#
# Prints a line for each file and part; with UNCOVERED="lib/limit.c mod_ratelimit_plans/" in the environment instead
# the lines, and branches, of these that nobody executed. Run in the top directory. Fails below the floors.

use strict;
use warnings;

use Cwd qw(abs_path getcwd);
use File::Find qw(find);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use JSON::PP qw(decode_json);

my %floors = (
    lib => { lines => 95, branches => 90 },
    mod_ratelimit_plans => { lines => 90 },
);
my @parts = qw(lib mod_ratelimit_plans rlpctl);
my $gcov = $ENV{GCOV} || 'gcov';
my $top = getcwd();

# --- reading

# The counters of one root.
sub counters {
    my ($root) = @_;
    my @found;
    find({ no_chdir => 1, wanted => sub { push @found, $_ if /[.]gcda$/ } }, $root);
    return sort @found;
}

# gcov looks for an object's notes beside its counters.
sub bring_notes {
    my ($gcda, $root) = @_;
    my $notes = substr $gcda, length $root;
    $notes =~ s/[.]gcda$/.gcno/;
    my $beside = $root . $notes;
    return -e $beside || -e $notes && symlink $notes, $beside;
}

sub report_of {
    my ($gcda) = @_;
    open my $in, '-|', $gcov, qw(--json-format --stdout --branch-probabilities), $gcda or die "$gcov: $!\n";
    my @reports = map { decode_json($_) } grep { /^\{/ } <$in>;
    close $in or die "$gcov fails with $gcda\n";
    return @reports;
}

# The name of a source from the top, or undef if it is none of ours; its directory may be gone from the build's view.
sub source_of {
    my ($file, $dir) = @_;
    my $path = abs_path($file =~ m{^/} ? $file : "$dir/$file") || return;
    return if index $path, "$top/";
    my $name = substr $path, length "$top/";
    return $name =~ m{^(?:lib|mod_ratelimit_plans|rlpctl)/[^.]*[.][ch]$} ? $name : undef;
}

sub add_line {
    my ($known, $line) = @_;
    $known->{count} += $line->{count};
    my @branches = map { $_->{count} } @{ $line->{branches} };
    $known->{branches}[$_] += $branches[$_] for 0 .. $#branches;
    return;
}

# { FILE => { LINE => { count, branches => [count] } } }
sub collect {
    my (%roots) = @_;
    my %sources;
    for my $root (sort keys %roots) {
        for my $gcda (counters($roots{$root})) {
            # what lies in another root is read there; there may be programs that tests have built elsewhere
            next if grep { $_ ne $root && length $roots{$_} > length $roots{$root} && index($gcda, "$roots{$_}/") == 0 } keys %roots;
            next if $root ne 'build' && !bring_notes($gcda, $roots{$root});
            for my $report (report_of($gcda)) {
                for my $file (@{ $report->{files} }) {
                    my $name = source_of($file->{file}, $report->{current_working_directory}) or next;
                    add_line($sources{$name}{ $_->{line_number} } ||= { count => 0, branches => [] }, $_)
                        for @{ $file->{lines} };
                }
            }
        }
    }
    return \%sources;
}

# --- telling

sub share {
    my ($done, $all) = @_;
    return $all ? 100 * $done / $all : 100;
}

sub sum_of {
    my (@lines) = @_;
    my @branches = map { @{ $_->{branches} } } @lines;
    return {
        lines => [scalar(grep { $_->{count} } @lines), scalar @lines],
        branches => [scalar(grep { $_ } @branches), scalar @branches],
    };
}

sub tell_sum {
    my ($name, $sum) = @_;
    return printf "%-42s  %5d of %5d  %5.1f %%   %5d of %5d  %5.1f %%\n", $name,
        map { @{ $sum->{$_} }, share(@{ $sum->{$_} }) } qw(lines branches);
}

# What a part lacks of its floors.
sub lacking {
    my ($part, $sum) = @_;
    return map {
        my $is = share(@{ $sum->{$_} });
        $is < $floors{$part}{$_} ? sprintf '%s: expected %d %% of %s, got %.1f', $part, $floors{$part}{$_}, $_, $is : ();
    } sort keys %{ $floors{$part} };
}

sub tell_all {
    my ($sources) = @_;
    my @lacking;
    printf "%-42s  %23s   %23s\n", '', 'lines        ', 'branches       ';
    for my $part (@parts) {
        my @names = sort grep { m{^\Q$part\E/} } keys %$sources;
        tell_sum($_, sum_of(values %{ $sources->{$_} })) for @names;
        my $sum = sum_of(map { values %{ $sources->{$_} } } @names);
        tell_sum("= $part", $sum);
        push @lacking, lacking($part, $sum);
    }
    return @lacking;
}

sub tell_uncovered {
    my ($sources, @wanted) = @_;
    for my $name (sort keys %$sources) {
        next if !grep { index($name, $_) == 0 } @wanted;
        open my $in, '<', $name or die "$name: $!\n";
        chomp(my @text = <$in>);
        close $in;
        for my $number (sort { $a <=> $b } keys %{ $sources->{$name} }) {
            my $line = $sources->{$name}{$number};
            my $missed = grep { !$_ } @{ $line->{branches} };
            next if $line->{count} && !$missed;
            my $what = $line->{count} ? sprintf('%d of %d branches', $missed, scalar @{ $line->{branches} }) : 'line';
            printf "%s:%d: %s: %s\n", $name, $number, $what, $text[$number - 1];
        }
    }
    return;
}

my ($build, @roots) = map { abs_path($_) } @ARGV;
die "usage: coverage.pl BUILDDIR [ROOT...]\n" if !$build;
my $sources = collect(build => $build, map { ($_ => $_) } @roots);
die "no counters below $build\n" if !%$sources;
if ($ENV{UNCOVERED}) {
    tell_uncovered($sources, split ' ', $ENV{UNCOVERED});
    exit;
}
my @lacking = tell_all($sources);
print STDERR map { "$_\n" } @lacking;
exit(@lacking ? 1 : 0);
