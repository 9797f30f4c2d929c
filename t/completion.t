#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The completion of bash knows each command and option that rlpctl tells of, and no others. Needs RLPCTL and top_srcdir.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Temp ();
use Test::More;

my $top = $ENV{top_srcdir} || dirname(dirname($0));
my $rlpctl = $ENV{RLPCTL} || 'rlpctl/rlpctl';

plan skip_all => 'bash is missing' if !grep { -x "$_/bash" } split /:/, $ENV{PATH};

# What is offered behind these words, the last of which is begun; as bash calls it, whose words end at = and : too.
sub offered {
    my (@words) = @_;
    my $line = join ' ', 'rlpctl', @words;
    my @parts = map { my @part = /[=:]+|[^=:]+/g; @part ? @part : '' } 'rlpctl', @words;
    my $script = 'compopt() { :; }; . "$1"; shift; COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDBREAKS=$2; shift 2;'
        . 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rlpctl; printf "%s\n" "${COMPREPLY[@]}"';
    open my $out, '-|', 'bash', '-c', $script, 'bash', "$top/rlpctl/completion/rlpctl", $line, " \t\n\"'><=;|&(:", @parts or die "bash: $!\n";
    chomp(my @lines = <$out>);
    close $out;
    return sort grep { length } @lines;
}

sub help {
    my (@words) = @_;
    open my $out, '-|', $rlpctl, @words, '--help' or die "$rlpctl: $!\n";
    local $/ = undef;
    return <$out>;
}

my %offered = map { $_ => 1 } offered('');
my @commands = help('get') =~ /^  ([a-z][a-z-]*)(?: [A-Z].*| {2,}.*)$/mg;
ok(@commands >= 10, 'commands can be read: ' . join ' ', @commands);
is(join(' ', grep { !$offered{$_} } @commands, qw(try simulate hash-key)), '', 'each command is offered');
is(join(' ', offered('g')), 'get grant', 'by its beginning');
is(join(' ', offered('nonsense', '--')), '', 'nothing behind what is no command');
for my $command (sort grep { !/^-/ } keys %offered) {
    my $text = help($command);
    my %told = map { $_ => 1 } $text =~ /(--[a-z]+)/g;
    my @options = offered($command, '--');
    ok(@options > 0, "$command: options");
    is(join(' ', grep { !/^--help/ && !$told{ (/^(--[a-z]+)/)[0] } } @options), '', "$command: its --help has them");
}
for my $command (qw(try simulate)) {
    my %known = map { ((/^(--[a-z]+)/)[0] => 1) } offered($command, '--');
    my @told = help($command) =~ /^  (--[a-z]+)/mg;
    is(join(' ', grep { !$known{$_} && $_ ne '--version' } @told), '', "$command: each option is offered");
}
my %known = map { my $command = $_; map { ((/^(--[a-z]+)/)[0] => 1) } offered($command, '--') } @commands;
is(join(' ', grep { !$known{$_} } help('get') =~ /(--[a-z]+)/g), '', 'each option of the others is offered somewhere');
my $file = File::Temp->new(TEMPLATE => 'completion-XXXXXX', DIR => '.'); # whatever the path to here is
is(join(' ', offered('ban', '--file=' . substr("$file", 0, -1))), "$file", 'files behind --file=');
isnt(join(' ', offered('dump', '--file=')), '', 'and with no sign of them yet');
is(join(' ', offered('try', '--store=m')), 'memory', 'values of an option');
is(join(' ', offered('try', '--store=')), 'memory redis:// shm', 'all of them');
is(join(' ', offered('try', '--store=redis:')), '//', 'with a colon');
is(join(' ', offered('try', '--sto')), '--store=memory --store=redis:// --store=shm', 'behind the option where that is not whole');

done_testing();
