/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Lines of files and of standard input. zlib reads what is not compressed as it is.
 */

#include "log_read.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define READ_ROOM 1048576 /* the longest line, too */
#define READ_AT_ONCE 262144

static apr_status_t read_close(void *data)
{
    log_read_t *reader = data;

    if (reader->file != NULL) {
        (void)gzclose_r(reader->file);
        reader->file = NULL;
    }
    return APR_SUCCESS;
}

const char *log_read_open(log_read_t *reader, const char *name, apr_pool_t *pool)
{
    struct stat info;
    const bool input = strcmp(name, "-") == 0;
    const int fd = input ? dup(STDIN_FILENO) : open(name, O_RDONLY | O_CLOEXEC);

    *reader = (log_read_t){ .name = input ? "standard input" : name };
    if (fd < 0 || fstat(fd, &info) != 0 || S_ISDIR(info.st_mode)) {
        const int error = fd < 0 ? errno : EISDIR;

        if (fd >= 0) {
            (void)close(fd);
        }
        return apr_psprintf(pool, "cannot open %s: %s", reader->name, strerror(error));
    }
    reader->file = gzdopen(fd, "rb");
    if (reader->file == NULL) {
        (void)close(fd);
        return "out of memory";
    }
    (void)gzbuffer(reader->file, READ_AT_ONCE / 2);
    reader->size = S_ISREG(info.st_mode) ? info.st_size : 0;
    reader->room = apr_palloc(pool, READ_ROOM);
    apr_pool_cleanup_register(pool, reader, read_close, apr_pool_cleanup_null);
    return NULL;
}

/* Makes room at the end and fills some of it. */
static void read_more(log_read_t *reader)
{
    const size_t kept = reader->filled - reader->begin;

    memmove(reader->room, reader->room + reader->begin, kept);
    reader->begin = 0;
    reader->filled = kept;
    const size_t room = READ_ROOM - kept;
    const int got = gzread(reader->file, reader->room + kept,
                           (unsigned)(room < READ_AT_ONCE ? room : READ_AT_ONCE));

    if (got <= 0) {
        int error = Z_OK;

        (void)gzerror(reader->file, &error);
        reader->failed = error != Z_OK && error != Z_STREAM_END;
        reader->ended = true;
        return;
    }
    reader->filled += (size_t)got;
}

/* The rest, or what fills the room, without an end of its own. */
static const char *read_piece(log_read_t *reader, size_t *len)
{
    const char *line = reader->room + reader->begin;

    *len = reader->filled - reader->begin;
    reader->begin = reader->filled;
    reader->lines++;
    return line;
}

const char *log_read_line(log_read_t *reader, size_t *len)
{
    size_t looked = 0;

    for (;;) {
        const char *line = reader->room + reader->begin;
        const size_t have = reader->filled - reader->begin;
        const char *end = memchr(line + looked, '\n', have - looked);

        if (end != NULL) {
            *len = (size_t)(end - line);
            *len -= *len > 0 && end[-1] == '\r';
            reader->begin += (size_t)(end - line) + 1;
            reader->lines++;
            return line;
        }
        if (have == READ_ROOM || (reader->ended && have > 0)) {
            return read_piece(reader, len);
        }
        if (reader->ended) {
            return NULL;
        }
        looked = have;
        read_more(reader);
    }
}

int64_t log_read_done(const log_read_t *reader)
{
    return gzoffset(reader->file);
}
