/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Lines of access logs: the first line is a format, the second a key, the rest a line. What is
 * taken out of a line lies in it, a line that is written again from its pieces says the same, and
 * an identity fits into its room.
 */

#include "fuzz.h"
#include "log_key.h"

#include <apr_strings.h>

#include <stdbool.h>
#include <string.h>

const char fuzz_name[] = "log_line";

/* Cuts off the first line. */
static char *line_cut(char **rest)
{
    char *line = *rest;
    char *end = strchr(line, '\n');

    if (end == NULL) {
        *rest = line + strlen(line);
    } else {
        *end = '\0';
        *rest = end + 1;
    }
    return line;
}

static void line_try_value(log_text_t value, const char *line, size_t len, apr_pool_t *pool)
{
    char *plain = apr_palloc(pool, value.len + 1);

    fuzz_expect(value.text >= line && value.text + value.len <= line + len,
                "a value lies in its line");
    fuzz_expect(log_unescape(plain, value) <= value.len, "escapes are not shorter than what they "
                                                         "stand for");
}

static void line_try(log_format_t *format, const log_key_t *key, int wanted, const char *line,
                     size_t len, apr_pool_t *pool)
{
    log_line_t said;
    log_line_t again;
    char identity[LOG_KEY_SIZE];

    if (!log_format_match(format, line, len, &said)) {
        return;
    }
    fuzz_expect(said.at >= 0, "a moment is not before the epoch");
    fuzz_expect(log_format_match(format, line, len, &again) && again.at == said.at,
                "a line says the same again");
    if (wanted >= 0) {
        line_try_value(said.values[wanted], line, len, pool);
    }
    const size_t got = log_key_of(key, &said, identity);

    fuzz_expect(got <= LOG_KEY_SIZE, "an identity fits");
    /* a digest is 26 bytes more than the least that it stands for, and that has four with what
       parts it */
    fuzz_expect(strlen(log_key_show(key, identity, got, pool)) <= (size_t)8 * LOG_KEY_SIZE,
                "and is not much longer when it is shown");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    char *rest = apr_pstrmemdup(pool, (const char *)data, size);
    const char *const end = rest + size;
    const char *format_text = line_cut(&rest);
    const char *key_text = line_cut(&rest);
    log_format_t *format = NULL;
    log_key_t *key = NULL;

    if (log_format_compile(&format, format_text, pool) != NULL ||
        log_key_compile(&key, key_text, format, pool) != NULL) {
        return 0;
    }
    const int wanted = log_format_want(format, "%u");
    const size_t len = (size_t)(end - rest);
    char *line = apr_palloc(pool, len); /* of exactly that size */

    memcpy(line, rest, len);
    line_try(format, key, wanted, line, len, pool);
    return 0;
}
