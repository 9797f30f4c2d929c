#!/bin/sh
# Licensed under the Apache License, Version 2.0; see LICENSE.
# usage: scripts.sh sh|perl. Lists the project's scripts of that kind, by the first line or by the name;
# what Apache::Test writes into the tree of an in-place build is left out.
set -eu

case $1 in
    sh) line='^#! *[^ ]*/(env +)?(ba|da)?sh( |$)' names='[.]sh$' ;;
    perl) line='^#! *[^ ]*/(env +)?perl( |$)' names='[.](t|pm|pl|PL)$' ;;
    *) exit 64 ;;
esac
find quickstart .ci conf docs lib t -type f ! -path 't/logs/*' ! -name 'modperl_*' ! -name apache_test_config.pm \
    -exec awk -v line="$line" -v names="$names" \
    'FNR == 1 && ($0 ~ line || FILENAME ~ names) { print FILENAME }' {} + | sort
