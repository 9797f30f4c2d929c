/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "hosts_parts.h"

#include <apr_general.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void *parts_memory(size_t n, size_t size)
{
    void *memory = calloc(n, size);

    if (memory == NULL) {
        fprintf(stderr, "no memory for %zu times %zu bytes\n", n, size);
        exit(1);
    }
    return memory;
}

/* --- random numbers */

uint64_t parts_random(uint64_t *state)
{
    *state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t mixed = *state;

    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ mixed >> 31;
}

double parts_fraction(uint64_t *state)
{
    return (double)((parts_random(state) >> 11) + 1) * 0x1p-53;
}

rlp_time_t parts_gap(uint64_t *state, double mean)
{
    return (rlp_time_t)(-log(parts_fraction(state)) * mean);
}

static uint64_t parts_state;

void parts_seed(uint64_t seed)
{
    parts_state = seed;
}

/* In the place of APR's, which the library asks for keys and for the numbers of leases: without
   this no run would be as the one before. */
apr_status_t apr_generate_random_bytes(unsigned char *bytes, apr_size_t length)
{
    for (apr_size_t i = 0; i < length; i++) {
        bytes[i] = (unsigned char)parts_random(&parts_state);
    }
    return APR_SUCCESS;
}

/* Rejection-inversion (Hoermann and Derflinger, 1996): exact, in constant time for any n. */
static double zipf_integral(double exponent, double x)
{
    return exponent == 1 ? log(x) : (pow(x, 1 - exponent) - 1) / (1 - exponent);
}

static double zipf_inverse(double exponent, double area)
{
    return exponent == 1 ? exp(area) : pow(1 + area * (1 - exponent), 1 / (1 - exponent));
}

zipf_t parts_zipf(uint32_t n, double exponent)
{
    return (zipf_t){
        .exponent = exponent,
        .first = zipf_integral(exponent, 1.5) - 1,
        .last = zipf_integral(exponent, n + 0.5),
        .sure = 2 - zipf_inverse(exponent, zipf_integral(exponent, 2.5) - pow(2, -exponent)),
        .n = n,
    };
}

uint32_t parts_zipf_next(const zipf_t *zipf, uint64_t *state)
{
    for (;;) {
        const double area = zipf->last + parts_fraction(state) * (zipf->first - zipf->last);
        const double x = zipf_inverse(zipf->exponent, area);
        double k = floor(x + 0.5);

        k = k < 1 ? 1 : k > zipf->n ? zipf->n : k;
        if (k - x <= zipf->sure ||
            area >= zipf_integral(zipf->exponent, k + 0.5) - pow(k, -zipf->exponent)) {
            return (uint32_t)k - 1;
        }
    }
}

/* --- events */

static bool queue_before(const event_t *a, const event_t *b)
{
    return a->at != b->at ? a->at < b->at : a->number < b->number;
}

void queue_add(queue_t *queue, event_t event)
{
    if (queue->n == queue->room) {
        const size_t room = queue->room ? 2 * queue->room : 1024;
        event_t *heap = realloc(queue->heap, room * sizeof(*heap));

        if (heap == NULL) {
            fputs("no memory for events\n", stderr);
            exit(1);
        }
        queue->heap = heap;
        queue->room = room;
    }
    size_t at = queue->n++;

    event.number = queue->added++;
    while (at > 0 && queue_before(&event, &queue->heap[(at - 1) / 2])) {
        queue->heap[at] = queue->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->heap[at] = event;
}

event_t queue_next(queue_t *queue)
{
    const event_t next = queue->heap[0];
    const event_t last = queue->heap[--queue->n];
    size_t at = 0;

    for (size_t child = 1; child < queue->n; child = 2 * at + 1) {
        child += child + 1 < queue->n && queue_before(&queue->heap[child + 1], &queue->heap[child]);
        if (!queue_before(&queue->heap[child], &last)) {
            break;
        }
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    queue->heap[at] = last;
    return next;
}

void queue_free(queue_t *queue)
{
    free(queue->heap);
    *queue = (queue_t){ 0 };
}
