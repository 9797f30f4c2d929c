/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Patterns of paths. Only the last "**" is ever gone back to: what an earlier one could do with
 * more segments, the last can do, too.
 */

#include "glob.h"

#include <apr_strings.h>

#include <string.h>

/* --- compiling */

/* NULL, or why a segment of so many bytes can match nothing, or not what was meant. */
static const char *glob_mistake(const char *segment, size_t len)
{
    if (len == 0 || (len <= 2 && strncmp(segment, "..", len) == 0)) {
        return "segments that a path can have: httpd removes \"//\", \"/./\" and \"/../\" from it";
    }
    if (memchr(segment, '*', len) != NULL && (len > 2 || strncmp(segment, "**", len) != 0)) {
        return "\"*\" or \"**\" as a whole segment, such as /items/*";
    }
    return NULL;
}

static struct glob_segment glob_segment(const char *text, size_t len)
{
    struct glob_segment segment = { .kind = GLOB_TEXT, .text = text, .len = len };

    if (*text == '*') {
        segment.kind = len == 1 ? GLOB_ONE : GLOB_ANY;
    }
    return segment;
}

const char *glob_compile(path_glob_t **made, const char *text, apr_pool_t *pool)
{
    path_glob_t *glob = apr_pcalloc(pool, sizeof(*glob));
    const char *at = text;

    *made = glob;
    glob->text = apr_pstrdup(pool, text);
    if (*text != '/') {
        return "a path from the first / on, such as /items/* or /api/**";
    }
    while (*at == '/' && at[1] != '\0') {
        const size_t len = strcspn(++at, "/");
        const char *mistake = glob_mistake(at, len);

        if (mistake != NULL) {
            return mistake;
        }
        if (glob->n == GLOB_SEGMENTS_MAX) {
            return apr_psprintf(pool, "at most %d segments", GLOB_SEGMENTS_MAX);
        }
        glob->segments[glob->n++] = glob_segment(glob->text + (at - text), len);
        at += len;
    }
    if (glob->n > 0 && glob->segments[0].kind == GLOB_TEXT) {
        glob->lead = *glob->segments[0].text;
    }
    return NULL;
}

const char *glob_text(const path_glob_t *glob)
{
    return glob->text;
}

/* --- comparing */

/* From anywhere between two segments to the first byte of the next. */
static const char *glob_skip(const char *path)
{
    while (*path == '/') {
        path++;
    }
    return path;
}

static const char *glob_end(const char *path)
{
    while (*path != '/' && *path != '\0') {
        path++;
    }
    return path;
}

/* Behind the segment that the path begins with, if that is the one of the pattern; else NULL. */
static const char *glob_step(const struct glob_segment *segment, const char *path)
{
    if (segment->kind == GLOB_ONE) {
        return glob_end(path);
    }
    if (*path != *segment->text || strncmp(path, segment->text, segment->len) != 0) {
        return NULL;
    }
    path += segment->len;
    return *path == '/' || *path == '\0' ? path : NULL;
}

bool glob_matches(const path_glob_t *glob, const char *path)
{
    const char *retry = NULL; /* where the last "**" would end if it took one segment more */
    int behind = 0;           /* the segment of the pattern that follows it */
    int i = 0;

    path = glob_skip(path);
    while (*path != '\0') {
        if (i < glob->n && glob->segments[i].kind == GLOB_ANY) {
            behind = ++i;
            retry = path;
            continue;
        }
        const char *next = i < glob->n ? glob_step(&glob->segments[i], path) : NULL;

        if (next != NULL) {
            i++;
        } else if (retry != NULL) {
            next = glob_end(retry);
            retry = glob_skip(next);
            i = behind;
        } else {
            return false;
        }
        path = glob_skip(next);
    }
    while (i < glob->n && glob->segments[i].kind == GLOB_ANY) {
        i++;
    }
    return i == glob->n;
}
