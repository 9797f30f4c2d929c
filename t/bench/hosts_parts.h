/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef HOSTS_PARTS_H
#define HOSTS_PARTS_H

/*
 * What a simulation is made of: random numbers that a seed decides, and events in the order of
 * their times.
 */

#include "rlp.h"

/* --- random numbers */

/* The next one of a sequence; as a fraction, above 0 and at most 1. */
uint64_t parts_random(uint64_t *state);
double parts_fraction(uint64_t *state);

/* A span whose mean is given, as they lie between events that come at random. */
rlp_time_t parts_gap(uint64_t *state, double mean);

/* Has all random numbers that the library asks for come from a seed. */
void parts_seed(uint64_t seed);

/* Numbers from 0 on, of which number i comes as often as 1 / (i + 1)^exponent says. */
typedef struct {
    double exponent;
    double first; /* of the integral, as are the next two */
    double last;
    double sure;
    uint32_t n;
} zipf_t;

zipf_t parts_zipf(uint32_t n, double exponent);
uint32_t parts_zipf_next(const zipf_t *zipf, uint64_t *state);

/* --- events */

typedef struct {
    rlp_time_t at;
    uint64_t number; /* those of one instant come in the order in which they were added */
    int kind;
    uint32_t host;
    uint32_t index;
    rlp_time_t begun; /* the caller's */
} event_t;

/* A heap; all zero is an empty one. */
typedef struct {
    event_t *heap;
    size_t n;
    size_t room;
    uint64_t added;
} queue_t;

/* Its number is set here. The program ends where there is no memory. */
void queue_add(queue_t *queue, event_t event);

/* Takes the first; there is one. */
event_t queue_next(queue_t *queue);

void queue_free(queue_t *queue);

/* Memory that is all zero, or the program ends. */
void *parts_memory(size_t n, size_t size);

#endif
