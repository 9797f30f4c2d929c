/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "rlp.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static rlp_time_t clock_of(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    /* below 10^9: so many bits are divided faster */
    return (rlp_time_t)now.tv_sec * RLP_SECOND + (uint32_t)now.tv_nsec / 1000;
}

rlp_time_t rlp_clock_wall(void)
{
    return clock_of(CLOCK_REALTIME);
}

rlp_time_t rlp_clock_monotonic(void)
{
    return clock_of(CLOCK_MONOTONIC);
}

void rlp_clock_read(rlp_clock_t *clock)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    memset(clock, 0, sizeof(*clock));
    clock->monotonic = clock_of(CLOCK_MONOTONIC);
    clock->wall = clock_of(CLOCK_REALTIME);
    if (file != NULL) {
        if (fgets(clock->boot_id, sizeof(clock->boot_id), file) == NULL) {
            clock->boot_id[0] = '\0';
        }
        clock->boot_id[strcspn(clock->boot_id, "\n")] = '\0';
        fclose(file);
    }
}
