/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The table of what stands behind algorithm=NAME.
 */

#include "algorithms.h"

#include <stddef.h>

const rlp_algorithm_t *const rlp_algorithms[] = { &rlp_token_bucket,
                                                  &rlp_stepped_bucket,
                                                  &rlp_leaky_bucket,
                                                  &rlp_fixed_window,
                                                  &rlp_sliding_window,
                                                  &rlp_sliding_log,
                                                  NULL };
