/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef UNIT_H
#define UNIT_H

/*
 * What the unit tests share: plans from text, random numbers that can be replayed, one main.
 */

/* cmocka.h wants these before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rlp.h"

#define UNIT_N(array) (sizeof(array) / sizeof((array)[0]))

/* Lives as long as the program. */
apr_pool_t *unit_pool(void);

/* The plan of these words, parted by spaces; the test fails if they are refused. From
   unit_pool(). */
const rlp_plan_t *unit_plan(const char *words);

/* Parses the same kind of text over a base; NULL, or the message. */
const char *unit_parse(const rlp_plan_t **plan, const char *words, const rlp_plan_t *base);

/* The next random number of a sequence, and one below a bound above 0. */
uint64_t unit_random(uint64_t *state);
uint64_t unit_below(uint64_t *state, uint64_t bound);

/* 1 to 10^digits, each length as likely. */
int64_t unit_size(uint64_t *state, unsigned digits);

/* How long one of those would wait who wait so long at most: none, some or all of it. */
rlp_time_t unit_wait(uint64_t *state, rlp_time_t longest);

/* Where this program's random sequences begin: RLP_SEED, or new each time; printed either way. */
uint64_t unit_seed(void);

/* How many steps a random test takes: RLP_STEPS, or a million. */
int unit_steps(void);

/* One more test. Name and row must live on. */
void unit_add(const char *name, CMUnitTestFunction run, const void *row);

/* n more tests without rows, which may go; their names must live on. */
typedef struct {
    const char *name;
    CMUnitTestFunction run;
} unit_single_t;

void unit_add_singles(const unit_single_t singles[], size_t n);

/* As unit_add(), with a name "ID: what" made from two parts. */
void unit_add_case(const char *id, const char *what, CMUnitTestFunction run, const void *row);

/* The row of the running test. */
const void *unit_row(void **state);

/* Says why the running test, which then returns, shows nothing here. (cmocka's skip() prints "not
   ok".) */
void unit_skip(const char *why);

/* A test that is skipped; its row says why. */
void unit_skip_row(void **state);

/* Runs what was added; the exit status of main(). */
int unit_run(void);

#endif
