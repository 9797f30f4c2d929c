#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.

# embed.sh FILE...: the parts of the page as C arrays. A part begins behind a line "<!-- part NAME -->"; a file without
# such a line is one, named after the file.

set -eu

# of bytes
LC_ALL=C
export LC_ALL

for file in "$@"; do
    name=$(basename "$file" | sed 's/[.].*//')
    sed -e 's/^ *//' -e '/^$/d' -e '/^<!-- Licensed/d' -e '/^\/[*] Licensed/d' -- "$file" | awk -v name="$name" '
        function begin(part) { print "static const char page_" part "[] = {"; open = 1 }
        function end() { if (open) print "0 };"; open = 0 }
        /^<!-- part [a-z_]+ -->$/ { end(); begin($3); next }
        {
            if (!open) begin(name)
            line = ""
            for (i = 1; i <= length($0); i++) {
                c = substr($0, i, 1)
                line = line "'\''" (c ~ /['\''\\]/ ? "\\" : "") c "'\'',"
            }
            print line "'\''\\n'\'',"
        }
        END { end() }'
done
