/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef POST_H
#define POST_H

/*
 * One question to a running server, over TCP or a UNIX socket. No TLS.
 */

#include <apr_pools.h>

/* Where and as whom. */
typedef struct {
    const char *url;      /* http://HOST[:PORT]/PATH */
    const char *socket;   /* in the place of HOST and PORT; NULL */
    const char *host;     /* of the field Host; NULL: that of the URL */
    const char *login;    /* NULL: nobody */
    const char *password; /* of login */
} post_server_t;

typedef struct {
    int status;
    const char *body;
    apr_size_t len;
} post_answer_t;

/* Posts JSON and reads all of the answer. NULL, or what was expected or went wrong; *unreachable
   says that it is the server's or the network's. */
const char *post_json(post_answer_t *answer, const post_server_t *server, const char *body,
                      int *unreachable, apr_pool_t *pool);

#endif
