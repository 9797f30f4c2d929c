/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * How many places concurrent= gives today. Who waits for one when the configuration is read anew
 * does so in a child that knows the old one alone: here it finds the new number.
 *
 * table: a word for each limit, 44 bits of its name | 20 bits of COUNT, found by probing; 0: free
 *
 * It may miss a limit (it is full, or being written): then the old number counts on.
 */

#include "private.h"
#include "retained.h"

#define CAPACITY_CELLS 4096 /* 32 kB */
#define CAPACITY_USED (CAPACITY_CELLS / 4 * 3)
#define CAPACITY_BITS 20
#define CAPACITY_COUNT ((UINT64_C(1) << CAPACITY_BITS) - 1) /* above what concurrent= takes */
#define CAPACITY_RETAINED "mod_ratelimit_plans capacities 1"

/* Places alone: an algorithm of another module that holds has more than a number. */
static bool capacity_speaks_of(const rlp_limit_t *limit)
{
    return limit->algorithm->holds && limit->period == 0 && limit->count <= (int64_t)CAPACITY_COUNT;
}

/* The limit of a rule under a plan: its signature says all but which plan that is. */
static uint64_t capacity_name(const variant_t *variant, int i)
{
    const uint64_t plan = rlp_signature(variant->plan_name, NULL, &variant->plan->limits[i]);

    return (variant->signatures[0][i] ^ plan) & ~CAPACITY_COUNT;
}

/* The cell of that name, or a free one for it; NULL: there is neither. */
static uint64_t *capacity_cell(uint64_t cells[], uint64_t name)
{
    const uint64_t home = name >> CAPACITY_BITS;

    for (unsigned i = 0; i < CAPACITY_CELLS; i++) {
        uint64_t *cell = &cells[(home + i) % CAPACITY_CELLS];
        const uint64_t word = __atomic_load_n(cell, __ATOMIC_RELAXED);

        if (word == 0 || (word & ~CAPACITY_COUNT) == name) {
            return cell;
        }
    }
    return NULL;
}

/* Sections in which a rule of one name has other numbers of places cannot be told apart here: 0. */
static void capacity_add(const variant_t *variant, uint64_t cells[], int *used)
{
    for (int i = 0; i < variant->plan->n; i++) {
        const rlp_limit_t *limit = &variant->plan->limits[i];

        if (!capacity_speaks_of(limit) || *used == CAPACITY_USED) {
            continue;
        }
        const uint64_t name = capacity_name(variant, i);
        uint64_t *cell = capacity_cell(cells, name);
        const bool same = *cell == 0 || *cell == (name | (uint64_t)limit->count);

        *used += *cell == 0;
        *cell = name | (same ? (uint64_t)limit->count : 0);
    }
}

static void capacity_add_rule(const rule_t *rule, uint64_t cells[], int *used)
{
    for (int i = 0; i <= rlp_world->plan_list->nelts; i++) {
        if (rule->variants[i] != NULL) {
            capacity_add(rule->variants[i], cells, used);
        }
    }
}

void capacity_open(apr_pool_t *temp)
{
    uint64_t *cells = apr_pcalloc(temp, sizeof(*cells) * CAPACITY_CELLS);
    int used = 0;

    rlp_world->capacities =
        retained_memory(CAPACITY_RETAINED, sizeof(*cells) * CAPACITY_CELLS, NULL);
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        capacity_add_rule(APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *), cells, &used);
    }
    for (int i = 0; rlp_world->capacities != NULL && i < CAPACITY_CELLS; i++) {
        __atomic_store_n(&rlp_world->capacities[i], cells[i], __ATOMIC_RELAXED);
    }
}

int64_t capacity_today(const variant_t *variant, int i)
{
    const rlp_limit_t *limit = &variant->plan->limits[i];
    uint64_t *const cells = rlp_world->capacities;

    if (cells == NULL || !capacity_speaks_of(limit)) {
        return limit->count;
    }
    const uint64_t *cell = capacity_cell(cells, capacity_name(variant, i));
    const uint64_t count = cell ? __atomic_load_n(cell, __ATOMIC_RELAXED) & CAPACITY_COUNT : 0;

    return count > 0 ? (int64_t)count : limit->count;
}
