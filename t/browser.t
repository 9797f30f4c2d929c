#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The page of ratelimit-status in a real browser, headless: nothing on the console, nothing asked for elsewhere, the
# policy holds, tables sort, refreshing stops and goes on, keys reach everything, and it fits a phone.
# RLP_PICTURES=DIR keeps pictures. AXE=FILE (axe.min.js, npm axe-core) has it look, too.

use strict;
use warnings;

use Test::More;

use RLP::Browser;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'there is no Chromium' if !RLP::Browser::program();

my $browser = eval { RLP::Browser->new };
plan skip_all => 'Chromium does not start here' if !$browser;

my $server = RLP::Httpd->new(
    modules => ['setenvif'],
    clock => 1,
    config => <<'END',
SetEnvIf X-Who ^(.*)$ WHO=$1
RateLimitIdentity who=env:WHO
RateLimitEngine On
RateLimitHeaders Off
RateLimitKeyLog plain
RateLimitPlan free rate=10/min rate=1000/day
RateLimitPlan pro rate=100/min burst=200 concurrent=20
<Location /status>
    SetHandler ratelimit-status
    RateLimitEngine Off
</Location>
<Location /who>
    RateLimitRule who plan=free key=who
</Location>
<Location /pro>
    RateLimitRule pro plan=pro key=ip
</Location>
<Location /dry>
    RateLimitRule dry rate=3/week mode=log
</Location>
END
);
$server->start;
my $url = "http://127.0.0.1:$server->{port}/status";
my @names = ('ann', '<script>document.title="owned"</script>', '"><img src=x onerror="document.title=1">',
    "bidi\xe2\x80\xaetxt", 'nul%00', map { "tenant-$_" } 1 .. 12);
for my $minute (0 .. 9) { # where the test has the clock, the chart has a past
    $server->set_clock(300 * $minute);
    $server->get('/who', "X-Who: $names[$_]") for map { ($_) x (9 + 2 * $_) } 0 .. $#names % ($minute + 2);
    $server->get('/pro') for 1 .. 7 * ($minute % 4);
    $server->get('/dry', 'X-Who: ann') for 1 .. $minute;
    $server->get('/status');
}
$server->get('/who', "X-Who: $names[$_]") for map { ($_) x (11 + $_) } 0 .. $#names;
my $pros = 7 * (1 + 2 + 3 + 1 + 2 + 3 + 1);

sub rows {
    my ($table, $column) = @_;
    return $browser->value("[...document.querySelectorAll('#$table tbody tr')].map(row => row.cells[$column].textContent).join(' ')");
}

sub picture {
    my ($name) = @_;
    RLP::Httpd::spill("$ENV{RLP_PICTURES}/$name.png", $browser->picture) if $ENV{RLP_PICTURES};
    return;
}

$browser->look('light', 1280);
$browser->open_page($url);
is($browser->value('document.title'), 'Rate limits of localhost', 'the page is there');
is(join("\n", $browser->complaints), '', 'nothing is on the console');
is(join("\n", $browser->asked), $url, 'one address was asked for');
picture('light');

# the policy
$browser->value(<<'END');
(() => {
    const script = document.createElement('script');
    script.textContent = 'document.title = "owned"';
    document.body.append(script);
    const style = document.createElement('style');
    style.textContent = 'h1 { color: rgb(1, 2, 3) }';
    document.body.append(style);
    const image = document.createElement('img');
    image.src = 'http://127.0.0.1:9/picture';
    document.body.append(image);
})()
END
isnt($browser->value('document.title'), 'owned', 'no other script runs in it');
isnt($browser->value('getComputedStyle(document.querySelector("h1")).color'), 'rgb(1, 2, 3)', 'no other style applies');
ok(scalar(grep { /Content Security Policy/ } $browser->complaints) >= 3, 'and the browser says why');

# sorting
$browser->open_page($url);
my $refused = rows('t-top', 1);
is($refused, join(' ', sort { $b <=> $a } split ' ', $refused), 'most refused: the most first');
$browser->value('document.getElementById("t-top-1").click()') for 1 .. 2;
is(rows('t-top', 1), join(' ', sort { $a <=> $b } split ' ', $refused), 'sorted the other way, without another request');
is($browser->value('document.querySelector("#t-top th:nth-child(2)").getAttribute("aria-sort")'), 'ascending',
    'and said to who cannot see it');
$browser->value('document.getElementById("t-top-0").click()');
my $names = rows('t-top', 0);
is($names, join(' ', sort split ' ', $names), 'sorted by name');
is(join("\n", $browser->asked), $url, 'all in the page');

# refreshing
$browser->value('document.getElementById("pause").focus(); document.getElementById("pause").click()');
is($browser->value('document.getElementById("state").textContent'), 'Paused', 'refreshing can be paused');
$server->get('/pro') for 1 .. 2;
my $pro = q{[...document.querySelectorAll('#t-counts tbody tr')].find(row => row.cells[0].textContent === 'pro').cells[4].textContent};
is($browser->value($pro), $pros, 'then the figures stay');
$browser->value('document.getElementById("pause").click()');
ok($browser->until("$pro === '@{[$pros + 2]}'"), 'and go on when it is pressed again');
is(rows('t-top', 0), $names, 'the order is kept');
is($browser->value('document.activeElement.id'), 'pause', 'and the focus');
is(join("\n", grep { $_ ne $url } $browser->asked), '', 'the page asks for itself alone');
is(join("\n", $browser->complaints), '', 'and the console is still empty');

# a phone, and the dark
for my $case ([ 'dark', 1280 ], [ 'light', 390 ], [ 'dark', 320 ]) {
    my ($scheme, $width) = @{$case};
    $browser->look($scheme, $width);
    $browser->open_page($url);
    is($browser->value('document.documentElement.scrollWidth <= innerWidth'), JSON::PP::true, "$scheme, $width wide: nothing sticks out");
    picture("$scheme-$width");
    if ($ENV{AXE}) {
        my $axe = RLP::Httpd::slurp($ENV{AXE});
        $browser->value("$axe; true");
        my $found = $browser->value('axe.run().then(result => result.violations.map(one => one.id + ": " + one.nodes.map(node => node.html + " " + node.failureSummary).join("; ")).join("\n"))');
        is($found, '', "$scheme, $width wide: axe-core finds nothing");
        note('axe-core ' . $browser->value('axe.version'));
    }
}
my $background = 'getComputedStyle(document.body).backgroundColor';
isnt($browser->value($background), do { $browser->look('light', 320); $browser->value($background) }, 'light and dark are not the same');

# without scripts all is there but sorting and refreshing
my $plain = $server->get('/status')->{body};
like($plain, qr/<p id="live" class="live" hidden>/, 'what needs scripts is not there without');
like($plain, qr{<th scope="row">pro</th><td>pro</td>}, 'and all figures are');
$server->stop;

done_testing;
