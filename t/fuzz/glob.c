/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Patterns of paths: the first line is one, the rest is a path. Compared with a table of all rests.
 */

#include "glob.h"
#include "fuzz.h"

#include <apr_strings.h>

#include <stdbool.h>
#include <string.h>

#define SEGMENTS_MAX 512

const char fuzz_name[] = "glob";

typedef struct {
    int n;
    const char *segments[SEGMENTS_MAX];
} parts_t;

/* Cuts a text at its slashes; empty segments are none. False: there are too many. */
static bool glob_cut(parts_t *parts, char *text)
{
    char *rest = NULL;

    parts->n = 0;
    for (char *word = apr_strtok(text, "/", &rest); word; word = apr_strtok(NULL, "/", &rest)) {
        if (parts->n == SEGMENTS_MAX) {
            return false;
        }
        parts->segments[parts->n++] = word;
    }
    return true;
}

/* Does the segment of a pattern, which is not "**", match that of a path? */
static bool glob_same(const char *one, const char *segment)
{
    return strcmp(one, "*") == 0 || strcmp(one, segment) == 0;
}

/* Does the pattern match the path? Row by row, from the end of the pattern on: does its rest match
   each rest of the path? */
static bool glob_tabled(const parts_t *glob, const parts_t *path)
{
    bool rows[2][SEGMENTS_MAX + 1] = { { false } };
    bool *below = rows[0];
    bool *row = rows[1];

    below[path->n] = true;
    for (int i = glob->n - 1; i >= 0; i--) {
        const char *segment = glob->segments[i];
        const bool any = strcmp(segment, "**") == 0;
        bool *const swap = below;

        row[path->n] = any && below[path->n];
        for (int k = path->n - 1; k >= 0; k--) {
            row[k] = any ? below[k] || row[k + 1]
                         : glob_same(segment, path->segments[k]) && below[k + 1];
        }
        below = row;
        row = swap;
    }
    return below[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    char *pattern = apr_pstrmemdup(pool, (const char *)data, size);
    char *path = strchr(pattern, '\n');
    path_glob_t *glob = NULL;
    parts_t glob_parts;
    parts_t path_parts;

    if (path == NULL) {
        return 0;
    }
    *path++ = '\0';
    if (glob_compile(&glob, pattern, pool) != NULL) {
        return 0;
    }
    fuzz_expect(strcmp(glob_text(glob), pattern) == 0, "a pattern is shown as it was written");
    const bool matches = glob_matches(glob, path);

    if (glob_cut(&glob_parts, pattern) && glob_cut(&path_parts, path)) {
        fuzz_expect(matches == glob_tabled(&glob_parts, &path_parts), "matches as the table says");
    }
    return 0;
}
