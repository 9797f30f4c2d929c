/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REPLAY_WINDOW_H
#define REPLAY_WINDOW_H

/*
 * Requests put in the order of their times: servers log a request when it ends.
 */

#include "replay.h"

#define REPLAY_WINDOW 128 /* seconds that a line may come late */

typedef struct replay_window_t replay_window_t;

/* Makes an empty one. */
replay_window_t *replay_window_create(apr_pool_t *pool);

/* Takes a request, and hands over those that nothing can come before any more. False: there is no
   memory for it. */
bool replay_window_add(replay_window_t *window, replay_t *replay, replay_request_t request);

/* Hands over all that are left. */
void replay_window_flush(replay_window_t *window, replay_t *replay);

#endif
