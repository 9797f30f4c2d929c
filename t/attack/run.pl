#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# make attack: the scripts t/attack/NAME.pl against our module and its peers, one after the other. Prints a table, and
# writes it to attack.md in the build directory. ATTACKS="flush burst" runs these alone, SERVERS="ours nginx" against
# these alone; SCALE=0.1 sends a tenth. The exit code is 1 when ours does not hold, whatever the others do.
#
# A script returns its attacks: { name, promise, servers (all), run => sub { my ($name) = @_; ... ($held, $seen) },
# missing => sub { what it cannot do without, or nothing } }.

use strict;
use warnings;

use File::Basename qw(basename dirname);
use File::Spec;

use RLP::Attacked;

$RLP::Attacked::top = File::Spec->rel2abs(dirname(dirname(dirname(__FILE__))));
my $build = File::Spec->rel2abs($ENV{builddir} || '.');
$RLP::Attacked::load = "$build/t/attack/load";
local $| = 1;

my @all = RLP::Attacked::names();
my @wanted = split ' ', $ENV{ATTACKS} // '';
my %server = map { $_ => 1 } split ' ', $ENV{SERVERS} || "@all";
my @lines;
my ($lost, $skipped) = (0, 0);

if (my @unknown = grep { my $name = $_; !grep { $_ eq $name } @all } keys %server) {
    die "SERVERS: unknown: @unknown; there are @all\n";
}

sub scripts {
    my @found = map { basename($_, '.pl') } grep { basename($_) ne 'run.pl' } sort glob "\Q$RLP::Attacked::top\E/t/attack/*.pl";
    my @unknown = grep { my $name = $_; !grep { $_ eq $name } @found } @wanted;
    die "ATTACKS: unknown: @unknown; there are @found\n" if @unknown;
    return @wanted ? @wanted : @found;
}

# A row of the table, as Markdown has it.
sub row {
    my (@cells) = @_;
    my $line = '| ' . join(' | ', map { s/\|/\//gr } @cells) . ' |';
    push @lines, $line;
    print "$line\n";
    return;
}

sub attack {
    my ($attack, $name) = @_;
    my $missing = RLP::Attacked::missing($name);
    my $without = $missing ? "not installed: $missing" : $attack->{missing} ? $attack->{missing}->() : '';
    my ($held, $seen) = $without ? (undef, $without) : eval { $attack->{run}->($name) };
    $seen = 'the attack failed: ' . ($@ =~ s/\s+/ /gr) if !defined $seen;
    if ($name eq 'ours' && !$held) {
        $without && !$missing ? $skipped++ : $lost++;
    }
    row($attack->{name}, $name, $missing ? '-' : RLP::Attacked::version($name), $attack->{promise}, $seen,
        $without ? 'not run' : !defined $held ? 'failed' : $held ? 'held' : 'NOT HELD');
    return;
}

row('attack', 'server', 'version', 'promised', 'seen', 'verdict');
row(('---') x 6);
for my $script (scripts()) {
    my $file = "$RLP::Attacked::top/t/attack/$script.pl";
    my @attacks = do $file;
    die "$file: ", $@ || $!, "\n" if !@attacks || !ref $attacks[0];
    for my $attack (@attacks) {
        attack($attack, $_) for grep { $server{$_} } @{ $attack->{servers} || \@all };
    }
}
RLP::Httpd::spill("$build/attack.md", join '', map { "$_\n" } @lines);
print $lost ? "ours: $lost not held\n" : 'ours: all held' . ($skipped ? ", but $skipped not run" : '') . "\n";
exit($lost ? 1 : 0);
