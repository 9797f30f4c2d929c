/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_SCRIPT_NUMBER_H
#define REDIS_SCRIPT_NUMBER_H

/*
 * Numbers on their way to the script and back: IEEE doubles of 8 bytes, the least first.
 */

#include "rlp.h"

#include <string.h>

/* Doubles hold all whole numbers up to this; in an answer it stands for RLP_TIME_NEVER. */
#define SCRIPT_EXACT (INT64_C(1) << 53)

_Static_assert(sizeof(double) == 8, "numbers travel as IEEE doubles");

/* Writes 8 bytes as they are. */
static inline void script_write_bytes(unsigned char at[8], uint64_t bytes)
{
    for (int i = 0; i < 8; i++) {
        at[i] = (unsigned char)(bytes >> 8 * i);
    }
}

/* Writes one number. Those beyond what is exact are cut off: costs and spans so large are all the
   same. */
static inline void script_write(unsigned char at[8], int64_t number)
{
    const int64_t low = number > -SCRIPT_EXACT ? number : -SCRIPT_EXACT;
    const double value = (double)(low < SCRIPT_EXACT ? low : SCRIPT_EXACT);
    uint64_t bytes;

    memcpy(&bytes, &value, sizeof(bytes));
    script_write_bytes(at, bytes);
}

/* The number at an index of an answer; -1 if it is none that the script gives. */
static inline int64_t script_number(const char *bytes, int index)
{
    uint64_t word = 0;
    double value;

    for (int i = 7; i >= 0; i--) {
        word = word << 8 | (unsigned char)bytes[8 * index + i];
    }
    memcpy(&value, &word, sizeof(value));
    if (!(value >= 0 && value <= (double)SCRIPT_EXACT) || value != (double)(int64_t)value) {
        return -1;
    }
    return (int64_t)value;
}

/* A number of an answer as a span: RLP_TIME_NEVER for what does not come. */
static inline rlp_time_t script_span(int64_t number)
{
    return number == SCRIPT_EXACT ? RLP_TIME_NEVER : number;
}

#endif
