/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Requests put in the order of their times: a ring of seconds, each with its requests as they came,
 * sorted when nothing can come before them any more.
 */

#include "replay_window.h"

#include <stdlib.h>

#define WINDOW_AHEAD                                                             \
    86400 /* seconds: what jumps further is believed when the next line does too \
           */
#define WINDOW_HELD_MAX 4000000 /* requests: beyond that the oldest second is handed over early */

typedef struct {
    size_t n;
    size_t room;
    bool sorted;
    replay_request_t *requests;
} window_second_t;

struct replay_window_t {
    bool begun;
    int64_t oldest; /* second that is not yet handed over */
    int64_t newest; /* less than REPLAY_WINDOW later */
    rlp_time_t latest;
    bool waits; /* one that has jumped ahead: */
    replay_request_t ahead;
    size_t held;
    window_second_t seconds[REPLAY_WINDOW];
};

static apr_status_t window_free(void *data)
{
    replay_window_t *window = data;

    for (int i = 0; i < REPLAY_WINDOW; i++) {
        free(window->seconds[i].requests);
    }
    return APR_SUCCESS;
}

replay_window_t *replay_window_create(apr_pool_t *pool)
{
    replay_window_t *window = apr_pcalloc(pool, sizeof(*window));

    apr_pool_cleanup_register(pool, window, window_free, apr_pool_cleanup_null);
    return window;
}

static window_second_t *window_second(replay_window_t *window, int64_t second)
{
    return &window->seconds[second % REPLAY_WINDOW];
}

static int window_compare(const void *a, const void *b)
{
    const replay_request_t *one = a;
    const replay_request_t *two = b;

    if (one->at != two->at) {
        return one->at < two->at ? -1 : 1;
    }
    return one->line < two->line ? -1 : one->line > two->line;
}

/* Hands over the oldest second. */
static void window_pass(replay_window_t *window, replay_t *replay)
{
    window_second_t *second = window_second(window, window->oldest++);

    if (second->n == 0) {
        return;
    }
    if (!second->sorted) {
        qsort(second->requests, second->n, sizeof(*second->requests), window_compare);
    }
    replay_second(replay, second->requests, second->n);
    window->held -= second->n;
    second->n = 0;
}

/* Moves on until a second has its place. */
static void window_move(replay_window_t *window, replay_t *replay, int64_t newest)
{
    for (int i = 0; i < REPLAY_WINDOW && window->oldest <= newest - REPLAY_WINDOW; i++) {
        window_pass(window, replay);
    }
    if (window->oldest <= newest - REPLAY_WINDOW) {
        window->oldest = newest - REPLAY_WINDOW + 1;
    }
    window->newest = newest;
}

static bool window_push(window_second_t *second, const replay_request_t *request)
{
    if (second->n == second->room) {
        const size_t room = second->room ? second->room * 2 : 64;
        replay_request_t *requests = realloc(second->requests, room * sizeof(*requests));

        if (requests == NULL) {
            return false;
        }
        second->requests = requests;
        second->room = room;
    }
    second->sorted =
        second->n == 0 || (second->sorted && second->requests[second->n - 1].at <= request->at);
    second->requests[second->n++] = *request;
    return true;
}

/* Takes a request whose moment is believed. */
static bool window_take(replay_window_t *window, replay_t *replay, replay_request_t request)
{
    int64_t second = request.at / RLP_SECOND;

    if (second > window->newest) {
        window_move(window, replay, second);
    } else if (second < window->oldest) {
        replay->late++;
        second = window->oldest;
        request.at = second * RLP_SECOND;
    } else if (request.at < window->latest) {
        replay->sorted++;
    }
    window->latest = request.at > window->latest ? request.at : window->latest;
    while (window->held >= WINDOW_HELD_MAX && window->oldest < second) {
        window_pass(window, replay);
    }
    window->held++;
    return window_push(window_second(window, second), &request);
}

static void window_begin(replay_window_t *window, rlp_time_t at)
{
    const int64_t second = at / RLP_SECOND;

    window->begun = true;
    window->newest = second;
    window->oldest = second >= REPLAY_WINDOW ? second - REPLAY_WINDOW + 1 : 0;
}

/* Takes the one that has jumped ahead: where it says, or else, as a clock that was wrong for a
   moment would push everything behind it out of order, beside its neighbours. */
static bool window_settle(replay_window_t *window, replay_t *replay, bool believed)
{
    window->waits = false;
    if (!believed) {
        replay->late++;
        window->ahead.at = window->latest;
    }
    return window_take(window, replay, window->ahead);
}

bool replay_window_add(replay_window_t *window, replay_t *replay, replay_request_t request)
{
    if (!window->begun) {
        window_begin(window, request.at);
    }
    const bool jumps = request.at / RLP_SECOND > window->newest + WINDOW_AHEAD;

    if (jumps && !window->waits) {
        window->waits = true;
        window->ahead = request;
        return true;
    }
    return (!window->waits || window_settle(window, replay, jumps)) &&
           window_take(window, replay, request);
}

void replay_window_flush(replay_window_t *window, replay_t *replay)
{
    if (window->waits) {
        (void)window_settle(window, replay, true);
    }
    while (window->begun && window->oldest <= window->newest) {
        window_pass(window, replay);
    }
}
