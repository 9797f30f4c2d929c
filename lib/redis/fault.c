/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/fault.h"

#include <string.h>

/* First words of error replies. */
static const struct {
    const char *word;
    redis_fault_t fault;
} fault_words[] = {
    { "NOSCRIPT", REDIS_FAULT_NOSCRIPT }, { "MOVED", REDIS_FAULT_MOVED },
    { "ASK", REDIS_FAULT_ASK },           { "TRYAGAIN", REDIS_FAULT_APART },
    { "CLUSTERDOWN", REDIS_FAULT_AWAY },  { "MASTERDOWN", REDIS_FAULT_AWAY },
    { "LOADING", REDIS_FAULT_AWAY },      { "BUSY", REDIS_FAULT_AWAY },
    { "MISCONF", REDIS_FAULT_AWAY },      { "NOREPLICAS", REDIS_FAULT_AWAY },
    { "READONLY", REDIS_FAULT_READONLY }, { "OOM", REDIS_FAULT_MEMORY },
    { "NOAUTH", REDIS_FAULT_DENIED },     { "WRONGPASS", REDIS_FAULT_DENIED },
    { "NOPERM", REDIS_FAULT_DENIED },     { "NOPROTO", REDIS_FAULT_DENIED },
    { "DENIED", REDIS_FAULT_DENIED }, /* protected mode */
};

/* Errors that their first word does not tell. */
static const struct {
    const char *start;
    redis_fault_t fault;
} fault_starts[] = {
    { "CLUSTERDOWN Hash slot not served", REDIS_FAULT_UNSERVED },
    { "ERR max number of clients", REDIS_FAULT_CROWDED },
    { "ERR invalid password", REDIS_FAULT_DENIED },                     /* before 6 */
    { "ERR AUTH", REDIS_FAULT_DENIED },                                 /* a password for none */
    { "ERR Client sent AUTH", REDIS_FAULT_DENIED },                     /* the same before 6 */
    { "ERR wrong number of arguments for 'auth'", REDIS_FAULT_DENIED }, /* a user before 6 */
    { "ERR The user executing the script can't", REDIS_FAULT_DENIED },  /* NOPERM inside, 7.0 */
    { "ERR ACL failure in script", REDIS_FAULT_DENIED },                /* the same since 7.2 */
    { "ERR DB index is out of range", REDIS_FAULT_DENIED },
    { "ERR invalid DB index", REDIS_FAULT_DENIED },
    /* a script is too long for those who have not given the password */
    { "ERR Protocol error: unauthenticated", REDIS_FAULT_DENIED },
};

static const redis_remedy_t fault_remedies[] = {
    [REDIS_FAULT_NONE] = { "none", .status = APR_SUCCESS },
    [REDIS_FAULT_NOSCRIPT] = { "script unknown", .status = APR_EGENERAL },
    [REDIS_FAULT_MOVED] = { "slot moved", .status = APR_EGENERAL, .moves = true },
    [REDIS_FAULT_ASK] = { "slot moving", .status = APR_EGENERAL },
    [REDIS_FAULT_APART] = { "slot moving", .status = APR_EAGAIN },
    [REDIS_FAULT_UNSERVED] = { "slot not served", .status = APR_EAGAIN, .moves = true },
    [REDIS_FAULT_AWAY] = { "server not ready", .counts = true, .status = APR_EAGAIN,
                           .moves = true },
    [REDIS_FAULT_READONLY] = { "server is a replica", .closes = true, .counts = true, .moves = true,
                               .status = APR_EAGAIN },
    [REDIS_FAULT_MEMORY] = { "server out of memory (maxmemory-policy should be volatile-ttl)",
                             .status = APR_ENOMEM },
    [REDIS_FAULT_DENIED] = { "access denied", .closes = true, .counts = true, .opens = true,
                             .status = APR_EACCES },
    [REDIS_FAULT_CROWDED] = { "server has too many clients", .closes = true, .counts = true,
                              .status = APR_EAGAIN },
    [REDIS_FAULT_ERROR] = { "error reply", .status = APR_EGENERAL },
    [REDIS_FAULT_NAME] = { "host not known", .counts = true, .moves = true, .status = APR_EAGAIN },
    [REDIS_FAULT_CONNECT] = { "cannot connect", .closes = true, .counts = true, .moves = true,
                              .status = APR_ECONNREFUSED },
    [REDIS_FAULT_CLOSED] = { "connection closed", .closes = true, .counts = true, .moves = true,
                             .status = APR_EOF },
    [REDIS_FAULT_PROTOCOL] = { "reply not understood", .closes = true, .counts = true,
                               .status = APR_EGENERAL },
    [REDIS_FAULT_TIMEOUT] = { "timeout", .closes = true, .counts = true, .moves = true,
                              .status = APR_TIMEUP },
    [REDIS_FAULT_BREAKER] = { "not asked: the circuit is open", .status = APR_EAGAIN },
    [REDIS_FAULT_LOCAL] = { "out of memory", .status = APR_ENOMEM },
};

/* What the server told the script, which it passes on as an error of the script's before 7. */
static size_t fault_of_script(const char *text, size_t len)
{
    static const char start[] = "ERR Error running script";
    static const char mark[] = ": -";

    for (size_t i = sizeof(start) - 1;
         len >= sizeof(start) && memcmp(text, start, sizeof(start) - 1) == 0 &&
         i + sizeof(mark) <= len;
         i++) {
        if (memcmp(text + i, mark, sizeof(mark) - 1) == 0) {
            return i + sizeof(mark) - 1;
        }
    }
    return 0;
}

redis_fault_t redis_fault_of(const char *text, size_t len)
{
    const size_t skip = fault_of_script(text, len);

    text += skip;
    len -= skip;
    for (size_t i = 0; i < sizeof(fault_starts) / sizeof(fault_starts[0]); i++) {
        const size_t start = strlen(fault_starts[i].start);

        if (start <= len && memcmp(text, fault_starts[i].start, start) == 0) {
            return fault_starts[i].fault;
        }
    }
    const char *space = memchr(text, ' ', len);
    const size_t word = space == NULL ? len : (size_t)(space - text);

    for (size_t i = 0; i < sizeof(fault_words) / sizeof(fault_words[0]); i++) {
        if (strlen(fault_words[i].word) == word && memcmp(text, fault_words[i].word, word) == 0) {
            return fault_words[i].fault;
        }
    }
    return REDIS_FAULT_ERROR;
}

const redis_remedy_t *redis_remedy(redis_fault_t fault)
{
    return &fault_remedies[fault];
}
