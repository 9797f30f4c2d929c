/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The breaker's state is one word, changed by compare and swap: whoever wins has made the
 * transition.
 */

#include "redis/breaker.h"

#include <stddef.h>

#define BREAKER_TIME_BITS 46 /* milliseconds: 2 000 years */
#define BREAKER_STEP (UINT64_C(1) << BREAKER_TIME_BITS)
#define BREAKER_FAILURE (UINT64_C(1) << 52)
#define BREAKER_PHASE (UINT64_C(1) << 62)
#define BREAKER_STEP_MAX 20
#define BREAKER_FAILURES_MAX 1000

/* The word, taken apart. */
typedef struct {
    redis_phase_t phase;
    unsigned failures; /* closed: in a row */
    unsigned step;     /* open and half open: failed probes, at most BREAKER_STEP_MAX */
    int64_t at; /* milliseconds. closed: of the first failure; open: when the next probe is due;
                   half open: until when it is awaited */
} breaker_state_t;

static int64_t breaker_ms(rlp_time_t time)
{
    return time / 1000;
}

static uint64_t breaker_pack(const breaker_state_t *state)
{
    return (uint64_t)state->phase * BREAKER_PHASE + state->failures * BREAKER_FAILURE +
           state->step * BREAKER_STEP + (uint64_t)state->at % BREAKER_STEP;
}

static breaker_state_t breaker_unpack(uint64_t word)
{
    return (breaker_state_t){
        .phase = word / BREAKER_PHASE > REDIS_HALF_OPEN ? REDIS_OPEN
                                                        : (redis_phase_t)(word / BREAKER_PHASE),
        .failures = (unsigned)(word % BREAKER_PHASE / BREAKER_FAILURE),
        .step = (unsigned)(word % BREAKER_FAILURE / BREAKER_STEP),
        .at = (int64_t)(word % BREAKER_STEP),
    };
}

static uint64_t breaker_word(const redis_breaker_t *breaker)
{
    return __atomic_load_n(&breaker->word, __ATOMIC_ACQUIRE);
}

static bool breaker_swap(redis_breaker_t *breaker, uint64_t word, const breaker_state_t *next)
{
    return __atomic_compare_exchange_n(&breaker->word, &word, breaker_pack(next), false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Never sooner. Spread by the bits of the clock, which differ from host to host (the finalizer of
   splitmix64). */
static int64_t breaker_jitter(int64_t span, int percent, rlp_time_t now)
{
    uint64_t mixed = (uint64_t)now * UINT64_C(0x9E3779B97F4A7C15);
    const int64_t most = span * percent / 100;

    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
    mixed ^= mixed >> 31;
    return span + (int64_t)(mixed % (uint64_t)(most + 1));
}

static breaker_state_t breaker_opened(const redis_breaker_settings_t *settings, unsigned step,
                                      rlp_time_t now)
{
    int64_t span = breaker_ms(settings->recovery);

    step = step > BREAKER_STEP_MAX ? BREAKER_STEP_MAX : step;
    for (unsigned i = 0; i < step && span < breaker_ms(settings->longest); i++) {
        span *= 2;
    }
    if (step > 0 && span > breaker_ms(settings->longest)) {
        span = breaker_ms(settings->longest);
    }
    return (breaker_state_t){
        .phase = REDIS_OPEN,
        .step = step,
        .at = breaker_ms(now) + breaker_jitter(span, settings->jitter, now),
    };
}

/* Is it time for a probe? A moment too far away belongs to a clock before the last boot. */
static bool breaker_due(const breaker_state_t *state, const redis_breaker_settings_t *settings,
                        int64_t ms)
{
    const rlp_time_t span =
        settings->longest > settings->recovery ? settings->longest : settings->recovery;

    return state->at <= ms || state->at - ms > 2 * breaker_ms(span + settings->probe);
}

redis_change_t redis_breaker_ask(redis_breaker_t *breaker, const redis_breaker_settings_t *settings,
                                 rlp_time_t now, redis_ticket_t *ticket)
{
    const uint64_t word = breaker_word(breaker);
    const breaker_state_t state = breaker_unpack(word);
    const breaker_state_t probe = { .phase = REDIS_HALF_OPEN,
                                    .step = state.step,
                                    .at = breaker_ms(now + settings->probe) };

    *ticket = (redis_ticket_t){ .admitted = state.phase == REDIS_CLOSED, .word = word };
    if (state.phase == REDIS_CLOSED || !breaker_due(&state, settings, breaker_ms(now)) ||
        !breaker_swap(breaker, word, &probe)) {
        return (redis_change_t){ state.phase, state.phase };
    }
    *ticket = (redis_ticket_t){ .admitted = true, .probe = true, .word = breaker_pack(&probe) };
    return (redis_change_t){ state.phase, REDIS_HALF_OPEN };
}

redis_change_t redis_breaker_succeed(redis_breaker_t *breaker, const redis_ticket_t *ticket)
{
    const uint64_t word = breaker_word(breaker);
    const breaker_state_t state = breaker_unpack(word);
    const breaker_state_t closed = { .phase = REDIS_CLOSED };
    const redis_change_t none = { state.phase, state.phase };

    if (word == breaker_pack(&closed)) {
        return none;
    }
    /* late news from before it opened, or of a probe that was given up, changes nothing */
    if (ticket->probe ? word != ticket->word : state.phase != REDIS_CLOSED) {
        return none;
    }
    if (!breaker_swap(breaker, word, &closed)) {
        return none;
    }
    return (redis_change_t){ state.phase, REDIS_CLOSED };
}

/* One more failure while closed. */
static breaker_state_t breaker_counted(const breaker_state_t *state,
                                       const redis_breaker_settings_t *settings, rlp_time_t now)
{
    breaker_state_t next = *state;

    if (state->failures == 0 ||
        (settings->window > 0 && breaker_ms(now) - state->at > breaker_ms(settings->window))) {
        next = (breaker_state_t){ .phase = REDIS_CLOSED, .at = breaker_ms(now) };
    }
    next.failures += next.failures < BREAKER_FAILURES_MAX;
    return next;
}

/* The state after a failure. */
static breaker_state_t breaker_failed(const breaker_state_t *state,
                                      const redis_breaker_settings_t *settings, rlp_time_t now,
                                      bool at_once)
{
    if (state->phase == REDIS_HALF_OPEN) {
        return breaker_opened(settings, state->step + 1, now);
    }
    const breaker_state_t counted = breaker_counted(state, settings, now);
    const bool opens = at_once || counted.failures >= (unsigned)settings->threshold;

    return opens ? breaker_opened(settings, 0, now) : counted;
}

redis_change_t redis_breaker_fail(redis_breaker_t *breaker,
                                  const redis_breaker_settings_t *settings,
                                  const redis_ticket_t *ticket, rlp_time_t now, bool at_once)
{
    for (;;) {
        const uint64_t word = breaker_word(breaker);
        const breaker_state_t state = breaker_unpack(word);

        if (ticket->probe ? word != ticket->word : state.phase != REDIS_CLOSED) {
            return (redis_change_t){ state.phase, state.phase };
        }
        const breaker_state_t next = breaker_failed(&state, settings, now, at_once);

        if (breaker_swap(breaker, word, &next)) {
            return (redis_change_t){ state.phase, next.phase };
        }
    }
}

redis_breaker_look_t redis_breaker_look(const redis_breaker_t *breaker, rlp_time_t now)
{
    const breaker_state_t state = breaker_unpack(breaker_word(breaker));
    const rlp_time_t wait = state.at * 1000 - now;

    return (redis_breaker_look_t){
        .phase = state.phase,
        .failures = state.phase == REDIS_CLOSED ? (int)state.failures : 0,
        .wait = state.phase == REDIS_CLOSED || wait < 0 ? 0 : wait,
    };
}

/* The one with this id; NULL: none. */
static redis_breaker_t *breaker_claim(redis_breaker_t *breaker, uint64_t id)
{
    uint64_t found = 0;

    if (__atomic_compare_exchange_n(&breaker->id, &found, id, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        return breaker;
    }
    return found == id ? breaker : NULL;
}

redis_breaker_t *redis_breaker_of(redis_breaker_t breakers[], int n, uint64_t id)
{
    const uint64_t some = id == 0 ? 1 : id;

    for (int i = 0; i < n; i++) {
        redis_breaker_t *breaker =
            breaker_claim(&breakers[(some + (uint64_t)i) % (uint64_t)n], some);

        if (breaker != NULL) {
            return breaker;
        }
    }
    return &breakers[some % (uint64_t)n];
}
