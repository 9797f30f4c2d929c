#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
# perl -c over the files given, with PERL; a warning is a failure too.
failed=0
for file; do
    report=$("${PERL:-perl}" -It/lib -c "$file" 2>&1)
    if test "$report" != "$file syntax OK"; then
        printf '%s\n' "$report" >&2
        failed=1
    fi
done
exit $failed
