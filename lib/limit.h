/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LIMIT_H
#define LIMIT_H

#include "rlp.h"

/* Parses the words of the source into a plan that is all zero. NULL, or what was expected. */
const char *limit_parse_words(rlp_plan_t *plan, const rlp_plan_source_t *source, apr_pool_t *pool);

/* One limit in words. */
const char *limit_describe(const rlp_limit_t *limit, apr_pool_t *pool);

/* Do both count the same thing, ordinals aside? */
bool limit_same_kind(const rlp_limit_t *a, const rlp_limit_t *b);

#endif
