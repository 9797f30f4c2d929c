# Licensed under the Apache License, Version 2.0; see LICENSE.

# What httpd -t says of a configuration. Beside it stand files that maps and exemptions may name.

package RLP::Configtest;

use strict;
use warnings;

use Exporter qw(import);
use Test::More;

use RLP::Httpd;

our @EXPORT = qw(server_with tested refused passes warns $plans);

our $plans = "RateLimitPlan free rate=10/min\nRateLimitPlan pro rate=100/min\n"; # two lines

my ($server, $file);

# A server that is never started, with these modules.
sub server_with {
    my (@modules) = @_;
    $server = RLP::Httpd->new(modules => \@modules);
    $file = $server->config_file;
    $server->file('keys', "# key plan\nkey-one free\nkey-two  pro # paid\n");
    $server->file('bad', "key-one free\n\nhush-hush\n");
    $server->file('many', "key-one free\nhush-hush free pro\n");
    $server->file('twice', "hush-hush free\nkey free\nhush-hush pro\n");
    $server->file('planless', "key-one free\nhush-hush prp\n");
    $server->file('swapped', "free hush-hush\n");
    $server->file('marked', "\xef\xbb\xbfkey-one free\n");
    $server->file('marked-comment', "\xef\xbb\xbf# keys\nkey-one free\n");
    $server->file('long', "key-one free\n" . 'k' x 9000 . " free\n");
    $server->file('empty', '');
    $server->file('networks', "# ours\n\n 192.0.2.0/24\t# one\n2001:db8::/32\n");
    $server->file('networks-wrong', "192.0.2.0/24\n\n# two more\n192.0.2.0/33\n");
    $server->file('networks-two', "192.0.2.1 192.0.2.2\n");
    $server->file('networks-long', "192.0.2.1\n#" . 'x' x 600 . "\n");
    $server->file('networks-zero', "192.0.2.1\n192.0.2.2\0\n");
    $server->file("digest$_->[0]", "key free\nsha256:$_->[1] pro\n# end\nsha256:$_->[2] free\n")
        for [ 1, 'a' x 63, 'b' x 64 ], [ 2, 'a' x 65, 'b' x 64 ], [ 3, 'a' x 63 . 'g', 'b' x 64 ], [ 4, '', 'b' x 64 ], [ 5, 'aB' x 32, 'Ab' x 32 ],
        [ 'digests', 'a' x 64, 'b' x 64 ];
    return $server;
}

# What httpd -t says: its exit code, its words in one line, and as they are. The engine is on, unless the
# configuration says what it is.
sub tested {
    my ($config, @words) = @_;
    $server->configure("$config\n" . ($config =~ /RateLimitEngine/ ? '' : "RateLimitEngine On\n"));
    my ($code, $said) = $server->configtest(@words);
    (my $flat = $said) =~ s/\s+/ /g;
    return ($code, $flat, $said);
}

# The last line of the configuration, or the line given, is refused with this text.
sub refused {
    my ($name, $config, $text, $line) = @_;
    $line //= 1 + ($config =~ tr/\n//);
    my ($code, $said) = tested($config);
    my $place = "Syntax error on line $line of $file:";
    my $at = index $said, $place;
    my $told = ref $text ? substr($said, $at < 0 ? 0 : $at) =~ $text : index($said, $text, $at < 0 ? 0 : $at) >= 0;
    return ok($code != 0 && $at >= 0 && $told && $said !~ /Syntax OK/, "$name is refused")
        || diag("$config\n  exit code: $code\n  expected: $place ... $text\n  got: $said");
}

# Passes without a word more.
sub passes {
    my ($name, $config) = @_;
    my ($code, $said) = tested($config);
    return ok($code == 0 && $said eq 'Syntax OK ', "$name passes") || diag("$config\n  exit code: $code\n  got: $said");
}

# Passes with a warning that names the line.
sub warns {
    my ($name, $config, $line, $text) = @_;
    my ($code, $said) = tested($config);
    return ok($code == 0 && $said =~ /line $line of \Q$file\E: .*?$text/ && $said =~ /Syntax OK $/, "$name warns")
        || diag("$config\n  exit code: $code\n  got: $said");
}

1;
