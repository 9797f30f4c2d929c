/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LOG_COST_H
#define LOG_COST_H

/*
 * What a request costs, as a field of its line says it.
 */

#include "log_format.h"

typedef struct {
    int wanted; /* where the value is */
    bool bytes; /* a dash is none */
} log_cost_t;

/* Asks the format for a directive such as %O or %{X-Cost}o. NULL, or what was expected. */
const char *log_cost_compile(log_cost_t *cost, const char *directive, log_format_t *format,
                             apr_pool_t *pool);

/* The units of a line. What is no number is one unit, as it is to the module; then false. */
bool log_cost_of(const log_cost_t *cost, const log_line_t *said, rlp_units_t *units);

#endif
