/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a request costs: a number with at most three decimals, as rlp_units_parse() reads it.
 */

#include "log_cost.h"

#include <apr_strings.h>

#include <string.h>

#define COST_DIGITS 15 /* before the point */
#define COST_DECIMALS 3

const char *log_cost_compile(log_cost_t *cost, const char *directive, log_format_t *format,
                             apr_pool_t *pool)
{
    cost->wanted = log_format_want(format, directive);
    cost->bytes = strcmp(directive, "%b") == 0;
    return cost->wanted >= 0
               ? NULL
               : apr_psprintf(pool, "the log format has nothing for \"%s\" of --cost", directive);
}

/* Up to so many digits, appended to the number; how many there are. */
static size_t cost_digits(log_text_t text, size_t most, rlp_units_t *number)
{
    size_t n = 0;

    while (n < text.len && n < most && text.text[n] >= '0' && text.text[n] <= '9') {
        *number = *number * 10 + (text.text[n++] - '0');
    }
    return n;
}

static bool cost_parse(log_text_t text, rlp_units_t *units)
{
    const size_t whole = cost_digits(text, COST_DIGITS, units);
    const bool point = whole < text.len && text.text[whole] == '.';
    const log_text_t rest = { text.text + whole + point, text.len - whole - point };
    const size_t decimals = point ? cost_digits(rest, COST_DECIMALS, units) : 0;

    for (size_t i = decimals; i < COST_DECIMALS; i++) {
        *units *= 10;
    }
    return whole + decimals > 0 && decimals == rest.len && point == (decimals > 0);
}

bool log_cost_of(const log_cost_t *cost, const log_line_t *said, rlp_units_t *units)
{
    const log_text_t text = said->values[cost->wanted];

    *units = 0;
    if (cost->bytes && text.len == 1 && *text.text == '-') {
        return true;
    }
    if (cost_parse(text, units)) {
        return true;
    }
    *units = RLP_UNIT;
    return false;
}
