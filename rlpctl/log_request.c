/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What the request line of a log says.
 */

#include "log_request.h"

#include <apr_lib.h>

#include <string.h>

log_text_t log_request_word(log_text_t line, int word)
{
    const char *end = line.text + line.len;
    const char *at = line.text;

    for (int i = 0; i < word && at < end; i++) {
        const char *blank = memchr(at, ' ', (size_t)(end - at));

        at = blank != NULL ? blank + 1 : end;
    }
    const char *blank = memchr(at, ' ', (size_t)(end - at));

    return (log_text_t){ at, (size_t)((blank != NULL ? blank : end) - at) };
}

/* --- paths */

/* Behind the scheme and the host that clients of proxies send. */
static const char *request_behind_host(const char *text)
{
    const char *slashes = strstr(text, "://");

    if (*text == '/' || slashes == NULL) {
        return text;
    }
    return slashes + 3 + strcspn(slashes + 3, "/?#");
}

static int request_digit(char c)
{
    return c <= '9' ? c - '0' : (apr_tolower(c) - 'a') + 10;
}

/* Decodes %XX where it stands; false where httpd does not, which by default (AllowEncodedSlashes)
   includes slashes. */
static bool request_decode(char *text)
{
    char *to = text;

    for (; *text; text++) {
        if (*text != '%') {
            *to++ = *text;
            continue;
        }
        if (!apr_isxdigit(text[1]) || !apr_isxdigit(text[2])) {
            return false;
        }
        *to = (char)(request_digit(text[1]) * 16 + request_digit(text[2]));
        if (*to == '/' || *to++ == '\0') {
            return false;
        }
        text += 2;
    }
    *to = '\0';
    return true;
}

/* Back to the slash before the last segment of what was written since start. */
static char *request_parent(char *to, const char *start)
{
    while (to > start && *--to != '/') {
    }
    return to;
}

/* Removes empty segments, "." and "..", all but a slash at the end. False if it leads above the
   first. */
static bool request_shorten(char *path)
{
    char *to = path;
    const char *at = path;

    while (*at == '/') {
        const size_t len = strcspn(at + 1, "/");
        const bool up = len == 2 && memcmp(at + 1, "..", 2) == 0;
        const bool here = len == 0 || (len == 1 && at[1] == '.');

        if (up && to == path) {
            return false;
        }
        if (up) {
            to = request_parent(to, path);
        } else if (!here) {
            memmove(to, at, len + 1);
            to += len + 1;
        }
        at += len + 1;
        if (*at == '\0' && (up || here)) {
            *to++ = '/';
        }
    }
    if (at > path) {
        *to = '\0';
    }
    return true;
}

bool log_request_path(char *to, log_text_t asked)
{
    to[log_unescape(to, asked)] = '\0';
    const char *path = request_behind_host(to);
    const size_t len = strcspn(path, "?");

    if (strchr(path, '#') != NULL) {
        return false;
    }
    memmove(to, path, len);
    to[len] = '\0';
    return request_decode(to) && request_shorten(to);
}
