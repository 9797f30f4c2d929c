#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.

# embed.sh FILE...: the files, without their comments and indentation, as the characters of a C array. What is declared
# as "local NAME = 7", "local NAME = 'text'" or "local ONE, TWO = 1, 2" is replaced by what it stands for.

set -eu

sed -e 's/^ *//' -e '/^--/d' -e '/^$/d' -- "$@" | awk '
function declare(text, n, i, names, values) {
    sub(/^local /, "", text)
    sub(/ *--.*$/, "", text)
    n = split(substr(text, 1, index(text, " = ") - 1), names, ", ")
    split(substr(text, index(text, " = ") + 3), values, ", ")
    for (i = 1; i <= n; i++) {
        constant[names[i]] = values[i]
    }
}
function replaced(text, out, name) {
    out = ""
    while (match(text, /[A-Za-z_.][A-Za-z0-9_.]*/)) {
        name = substr(text, RSTART, RLENGTH)
        out = out substr(text, 1, RSTART - 1) (name in constant ? constant[name] : name)
        text = substr(text, RSTART + RLENGTH)
    }
    return out text
}
/^local [A-Z_]+(, [A-Z_]+)* = ([0-9]+|'\''[^'\'']*'\'')(, [0-9]+)*( *--.*)?$/ {
    declare($0)
    next
}
{
    $0 = replaced($0)
    line = ""
    for (i = 1; i <= length($0); i++) {
        c = substr($0, i, 1)
        line = line "'\''" (c ~ /['\''\\]/ ? "\\" : "") c "'\'',"
    }
    print line "'\''\\n'\'',"
}'
