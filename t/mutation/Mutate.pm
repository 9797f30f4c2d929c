# Licensed under the Apache License, Version 2.0; see LICENSE.

package Mutate;

# The mutants of a C source: each differs from it in one operator, constant or returned value.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use Exporter qw(import);

our @EXPORT_OK = qw(mutants_of);

my $operand = qr/[\w.\->\[\]]+(?:\([\w.\->, ]*\))?/;

# What stands for what. Unary signs and pointers are told from operators by what stands before them: clang-format
# has put a blank on both sides of what is binary.
my @swaps = (
    [qr/(?<= )<(?= )/, '<=', '>='],
    [qr/(?<= )<=(?= )/, '<', '>'],
    [qr/(?<= )>(?= )/, '>=', '<='],
    [qr/(?<= )>=(?= )/, '>', '<'],
    [qr/(?<= )==(?= |$)/, '!='],
    [qr/(?<= )!=(?= |$)/, '=='],
    [qr/(?<= )&&(?= |$)/, '||'],
    [qr/(?<= )\|\|(?= |$)/, '&&'],
    [qr/(?<=[\w)\]] )\+(?= |$)/, '-'],
    [qr/(?<=[\w)\]] )-(?= |$)/, '+'],
    [qr/(?<=[\w)\]] )\*(?= )/, '/'],
    [qr/(?<=[\w)\]] )\/(?= )/, '*'],
    [qr/(?<= )%(?= )/, '/'],
    [qr/(?<=[\w)\]] )&(?= )/, '|'],
    [qr/(?<=[\w)\]] )\|(?= )/, '&'],
    [qr/(?<= )<<(?= )/, '>>'],
    [qr/(?<= )>>(?= )/, '<<'],
    [qr/(?<= )\+=(?= )/, '-=', '='],
    [qr/(?<= )-=(?= )/, '+=', '='],
    [qr/(?<= )\|=(?= )/, '&=', '='],
    [qr/\+\+/, '--'],
    [qr/(?<=[\w\]])--(?!>)/, '++'],
    [qr/!(?==)(?!=)|!(?=[\w(*])/, ''],
    [qr/(?<=[(,=?:] |return |[(])-(?=[\w(])/, ''],
    [qr/\btrue\b/, 'false'],
    [qr/\bfalse\b/, 'true'],
);

# The text with comments, strings and what only the compiler reads blanked; every character keeps its place.
sub bare {
    my ($text) = @_;
    my $blank = sub { my ($s) = @_; $s =~ s/[^\n]/ /g; return $s };
    $text =~ s{("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'|/\*.*?\*/)}{ $blank->($1) }gse;
    $text =~ s{^(_Static_assert\(.*?\);)}{ $blank->($1) }gmse;
    $text =~ s{^(\#\s*(?:include|if|endif|else).*)}{ $blank->($1) }gme;
    $text =~ s{^(\#define \w+(?:\([^)]*\))?)}{ $blank->($1) }gme;
    $text =~ s{(__attribute__\(\(.*?\)\)|__extension__ typedef [^;]*;|unsigned __int128|uint\d+_t|int\d+_t)}{ $blank->($1) }gse;
    return $text;
}

# [from, length, replacement] of all that is to be changed, in order.
sub changes_of {
    my ($bare) = @_;
    my @changes;

    # of the smaller or larger of two, the border is neither's
    my %choice;
    while ($bare =~ /($operand) ([<>]=?) ($operand)\s+\?\s+($operand)\s+:\s+($operand)/g) {
        next if !($1 eq $4 && $3 eq $5 || $1 eq $5 && $3 eq $4);
        $choice{ $-[2] } = 1;
    }
    for my $swap (@swaps) {
        my ($what, @instead) = @$swap;
        while ($bare =~ /$what/g) {
            my ($at, $len) = ($-[0], $+[0] - $-[0]);
            my @of = $choice{$at} ? (substr($bare, $at, 1) eq '<' ? '>' : '<') : @instead;
            push @changes, map { [$at, $len, $_] } @of;
        }
    }
    while ($bare =~ /(?<![\w.])(\d+)(?![\w.])/g) {
        my ($at, $n) = ($-[1], $1);
        push @changes, map { [$at, length $n, $_] } $n ? ($n + 1, $n - 1) : (1);
    }
    while ($bare =~ /\breturn (?!0;|true;|false;|NULL;)([^;{}]+);/g) {
        push @changes, [$-[1], $+[1] - $-[1], '0'];
    }
    return sort { $a->[0] <=> $b->[0] || $a->[2] cmp $b->[2] } @changes;
}

# The line around a position, trimmed.
sub line_at {
    my ($text, $at) = @_;
    my $begin = 1 + rindex $text, "\n", $at - 1;
    my $line = substr $text, $begin, index($text, "\n", $at) - $begin;
    return $line =~ s/^\s+|\s+$//gr;
}

# The function, or what else stands at the left margin, before a position.
sub function_at {
    my ($text, $at) = @_;
    my $name = '';
    while ($text =~ /^(?:__attribute__\(\(\w+\)\) )?(?=\w)[\w *]*?(\w+)(?:\(|(?:\[\w*\])* = )/gm) {
        last if $-[1] > $at;
        $name = $1 if $1 ne '__attribute__';
    }
    return $name;
}

# { file, line, key, id, text } of each: the key names it for people, the id also its place and source.
sub mutants_of {
    my ($file, $text) = @_;
    my @mutants;
    my $source = md5_hex($text);
    for my $change (changes_of(bare($text))) {
        my ($at, $len, $instead) = @$change;
        my $changed = $text;
        substr $changed, $at, $len, $instead;
        my $key = join ' ~ ', "$file:" . function_at($text, $at), line_at($text, $at), line_at($changed, $at);
        push @mutants, {
            file => $file,
            line => 1 + (substr($text, 0, $at) =~ tr/\n//),
            key => $key,
            id => md5_hex("$source $at $len $instead"),
            text => $changed,
        };
    }
    return @mutants;
}

1;
