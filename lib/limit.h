/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LIMIT_H
#define LIMIT_H

#include "rlp.h"

/* Parses the words of the source into a plan that is all zero. NULL, or what was expected. */
const char *limit_parse_words(rlp_plan_t *plan, const rlp_plan_source_t *source, apr_pool_t *pool);

/* One limit in words. */
const char *limit_describe(const rlp_limit_t *limit, apr_pool_t *pool);

/* How many requests of so many units (above 0) the burst has room for: 1 at least, as one that
   costs more than all of it has used all of it. */
uint32_t limit_requests(const rlp_limit_t *limit, uint64_t units);

/* Derives what its counters weigh when the store is full. */
void limit_weigh(rlp_limit_t *limit);

/* Do both count the same thing, ordinals aside? */
bool limit_same_kind(const rlp_limit_t *a, const rlp_limit_t *b);

#endif
