/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef ALGORITHMS_H
#define ALGORITHMS_H

#include "rlp_algorithm.h"

extern const rlp_algorithm_t rlp_token_bucket;
extern const rlp_algorithm_t rlp_fixed_window;
extern const rlp_algorithm_t rlp_stepped_bucket;
extern const rlp_algorithm_t rlp_leaky_bucket;
extern const rlp_algorithm_t rlp_sliding_window;
extern const rlp_algorithm_t rlp_sliding_log;
/* said with quota= and concurrent=, not with algorithm= */
extern const rlp_algorithm_t rlp_quota;
extern const rlp_algorithm_t rlp_concurrency;

#endif
