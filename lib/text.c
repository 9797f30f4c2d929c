/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Small readers of configuration text: names, units, spans of time, likeness of words.
 */

#include "rlp.h"

#include <apr_strings.h>

#include <string.h>
#include <strings.h>

#define TEXT_DIGITS "0123456789"
#define TEXT_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define TEXT_NAME_MAX 64

#define TEXT_DAY (86400 * RLP_SECOND)
#define TEXT_DURATION_MAX (3653 * TEXT_DAY)

const char *rlp_name_check(const char *name, apr_pool_t *pool)
{
    const size_t len = strlen(name);

    if (len > 0 && len <= TEXT_NAME_MAX && strspn(name, TEXT_LETTERS) > 0 &&
        strspn(name, TEXT_LETTERS TEXT_DIGITS "_.-") == len) {
        return NULL;
    }
    return apr_psprintf(pool,
                        "expected a name of 1 to 64 letters, digits, \"_\", \".\" or \"-\" that "
                        "begins with a letter, got \"%s\"",
                        name);
}

const char *rlp_units_parse(rlp_units_t *units, const char *text, apr_pool_t *pool)
{
    const size_t whole = strspn(text, TEXT_DIGITS);
    const char *fraction = text[whole] == '.' ? text + whole + 1 : text + whole;
    const size_t decimals = strspn(fraction, TEXT_DIGITS);
    const bool point = text[whole] == '.';

    if (whole > 15 || decimals > 3 || whole + decimals == 0 || fraction[decimals] != '\0' ||
        (point && decimals == 0)) {
        return apr_psprintf(pool,
                            "expected a number of at most 15 digits and three decimals, got \"%s\"",
                            text);
    }
    *units = 0;
    for (size_t i = 0; i < whole; i++) {
        *units = *units * 10 + (text[i] - '0');
    }
    for (size_t i = 0; i < 3; i++) {
        *units = *units * 10 + (i < decimals ? fraction[i] - '0' : 0);
    }
    return NULL;
}

static const struct {
    const char *name;
    rlp_time_t span;
    bool plural;
} text_units[] = {
    { "ms", 1000, false },
    { "s", RLP_SECOND, false },
    { "sec", RLP_SECOND, true },
    { "second", RLP_SECOND, true },
    { "m", 60 * RLP_SECOND, false },
    { "min", 60 * RLP_SECOND, true },
    { "minute", 60 * RLP_SECOND, true },
    { "h", 3600 * RLP_SECOND, false },
    { "hour", 3600 * RLP_SECOND, true },
    { "d", TEXT_DAY, false },
    { "day", TEXT_DAY, true },
    { "week", 7 * TEXT_DAY, true },
};

static rlp_time_t text_unit(const char *unit)
{
    for (size_t i = 0; i < sizeof(text_units) / sizeof(text_units[0]); i++) {
        const size_t len = strlen(text_units[i].name);

        if (strncasecmp(unit, text_units[i].name, len) == 0 &&
            (unit[len] == '\0' || (text_units[i].plural && strcasecmp(unit + len, "s") == 0))) {
            return text_units[i].span;
        }
    }
    return 0;
}

const char *rlp_duration_parse(rlp_time_t *duration, const char *text, apr_pool_t *pool)
{
    const size_t digits = strspn(text, TEXT_DIGITS);
    const rlp_time_t unit = text_unit(text + digits);
    const int64_t number = digits > 0 ? apr_atoi64(text) : 1;

    if (unit == 0 || digits > 15 || number == 0) {
        return apr_psprintf(pool,
                            "expected a span of time such as 500ms, 10s, 5min, hour, day or "
                            "2weeks, got \"%s\"",
                            text);
    }
    if (number > TEXT_DURATION_MAX / unit) {
        return apr_psprintf(pool, "expected a span of at most ten years, got \"%s\"", text);
    }
    *duration = number * unit;
    return NULL;
}

/* Levenshtein distance, for words of up to TEXT_NAME_MAX letters; case does not count. */
static size_t text_distance(const char *a, const char *b)
{
    size_t row[TEXT_NAME_MAX + 1];
    const size_t len = strnlen(b, TEXT_NAME_MAX);

    for (size_t j = 0; j <= len; j++) {
        row[j] = j;
    }
    for (size_t i = 0; i < TEXT_NAME_MAX && a[i] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 1; j <= len; j++) {
            const size_t same = diagonal + (strncasecmp(a + i, b + j - 1, 1) != 0);
            const size_t step = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

            diagonal = row[j];
            row[j] = same < step ? same : step;
        }
    }
    return row[len];
}

const char *rlp_nearest(const char *word, const char *const known[])
{
    const char *nearest = NULL;
    const size_t len = strlen(word);
    size_t least = len / 3 + 2;

    for (; *known != NULL; known++) {
        const size_t typed = text_distance(word, *known);
        /* what is cut short is as near as one wrong letter */
        const size_t distance =
            len >= 3 && typed > 1 && strncasecmp(word, *known, len) == 0 ? 1 : typed;

        /* the word itself is wrong for another reason */
        if (distance < least && strcmp(word, *known) != 0) {
            least = distance;
            nearest = *known;
        }
    }
    return nearest;
}
