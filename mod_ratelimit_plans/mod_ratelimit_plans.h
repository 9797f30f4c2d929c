/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef MOD_RATELIMIT_PLANS_H
#define MOD_RATELIMIT_PLANS_H

/*
 * What other httpd modules may plug into mod_ratelimit_plans: providers in httpd's registry
 * (ap_register_provider), looked up by group, name and version.
 */

#include "rlp_algorithm.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RLP_PROVIDER_VERSION "1"

/* Group of clocks. The module asks the provider named RLP_CLOCK_NAME; its own reads the system's
   clocks. A test module registers another under the same name in a later hook order. */
#define RLP_CLOCK_GROUP "ratelimit-clock"
#define RLP_CLOCK_NAME "default"

/* A clock. Called by any thread of any child, and by the parent when it opens a store. */
typedef struct {
    rlp_time_t (*monotonic)(void); /* microseconds, never back, on across restarts of the server */
    rlp_time_t (*wall)(void);      /* microseconds since the epoch */
} rlp_clock_provider_t;

#ifdef __cplusplus
}
#endif

#endif
