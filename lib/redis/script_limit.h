/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_SCRIPT_LIMIT_H
#define REDIS_SCRIPT_LIMIT_H

/*
 * What the script is told of a limit; for script.c alone.
 */

#include "redis/script.h"

/* The number of the limit's algorithm in the script, from 1; 0 if it has none. */
int script_algorithm(const rlp_limit_t *limit);

/* Can the script count it, for a request that waits up to max_wait? */
bool script_fits(const rlp_limit_t *limit, rlp_time_t max_wait);

/* Adds the numbers of a charge's limit, in the order in which that algorithm reads them. */
void script_put_limit(script_packet_t *packet, int algorithm, const rlp_charge_t *charge,
                      const script_call_t *call);

/* Adds 8 bytes as they are, and one number. */
static inline void script_put_bytes(script_packet_t *packet, uint64_t bytes)
{
    script_write_bytes(&packet->args[packet->args_len], bytes);
    packet->args_len += 8;
}

static inline void script_put(script_packet_t *packet, int64_t number)
{
    script_write(&packet->args[packet->args_len], number);
    packet->args_len += 8;
}

#endif
