#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.

# embed.sh FILE...: the files, without their comments and indentation, as the characters of a C array.

set -eu

sed -e 's/^ *//' -e '/^--/d' -e '/^$/d' -- "$@" | awk '{
    line = ""
    for (i = 1; i <= length($0); i++) {
        c = substr($0, i, 1)
        line = line "'\''" (c ~ /['\''\\]/ ? "\\" : "") c "'\'',"
    }
    print line "'\''\\n'\'',"
}'
