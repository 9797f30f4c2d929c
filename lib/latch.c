/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is done about a latch that another has. Processes are known by number and beginning, so that
 * a number given anew does not pass for the owner that is dead. A dead process that its parent has
 * not yet waited for still has its number: /proc, where there is one, tells the two apart. Owners
 * and waiters must see each other's numbers: they are of one PID namespace.
 */

#include "latch.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LATCH_PAUSES_MIN 32 /* between the looks at a latch that is taken, in this order */
#define LATCH_PAUSES_MAX 1024
#define LATCH_TRUST 8           /* naps before an owner is looked at, and their length, ns */
#define LATCH_NAP_SHORT 50000L  /* ... which is that of a change of processes */
#define LATCH_NAP_LONG 1000000L /* then one look a millisecond */
#define LATCH_NAPS 2000

latch_t latch_self;

/* What /proc says of a process. */
typedef struct {
    char state;
    long threads;
    uint32_t begun;
} process_t;

/* The word n places behind the first of a line; NULL: it has none. */
static const char *latch_word(const char *line, int n)
{
    for (; n > 0 && line != NULL; n--) {
        line = strchr(line, ' ');
        line = line ? line + 1 : NULL;
    }
    return line;
}

/* False: nothing is known. See proc(5): its name, in brackets, may hold any signs. */
static bool latch_look(process_t *process, pid_t pid)
{
    char path[32];
    char line[1024] = "";

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    const int file = open(path, O_RDONLY | O_CLOEXEC);

    if (file < 0) {
        return false;
    }
    const ssize_t len = read(file, line, sizeof(line) - 1);

    (void)close(file);
    const char *name = len > 0 ? strrchr(line, ')') : NULL;
    const char *state = name ? latch_word(name, 1) : NULL;
    const char *threads = state ? latch_word(state, 17) : NULL;
    const char *begun = threads ? latch_word(threads, 2) : NULL;

    if (begun == NULL) {
        return false;
    }
    process->state = *state;
    process->threads = strtol(threads, NULL, 10);
    process->begun = (uint32_t)strtoull(begun, NULL, 10);
    return true;
}

static void latch_forked(void)
{
    latch_self = LATCH_FORKED;
}

/* This process's name, kept until it forks, unless that cannot be watched. Where /proc could not be
   read, as without a descriptor left, who waits next looks there again. */
static latch_t latch_name(void)
{
    const latch_t self = __atomic_load_n(&latch_self, __ATOMIC_RELAXED);
    process_t process = { .begun = 0 };

    if (self > LATCH_FORKED && (uint32_t)self != 0) {
        return self;
    }
    (void)latch_look(&process, getpid());
    const latch_t name = (latch_t)getpid() << 32 | process.begun;

    if (self >= LATCH_FORKED || pthread_atfork(NULL, NULL, latch_forked) == 0) {
        __atomic_store_n(&latch_self, name, __ATOMIC_RELAXED);
    }
    return name;
}

/* Is nobody there who will free it? Where its other threads go on, a process lives whose first one
   has ended. */
static bool latch_orphaned(latch_t owner)
{
    const pid_t pid = (pid_t)(owner >> 32);
    const uint32_t begun = (uint32_t)owner;
    process_t process;

    if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH)) {
        return true;
    }
    if (!latch_look(&process, pid)) {
        return false;
    }
    return (begun != 0 && process.begun != begun) ||
           (strchr("ZXx", process.state) != NULL && process.threads <= 1);
}

/* Takes it from its owner, or finds out who that is. */
static bool latch_swap(latch_t *latch, latch_t *owner, latch_t self)
{
    return __atomic_compare_exchange_n(latch, owner, self, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static void latch_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Looks again before it sleeps, but not so often that the looking takes the line from its owner. */
static bool latch_spin(latch_t *latch, latch_t self)
{
    for (int pauses = LATCH_PAUSES_MIN; pauses <= LATCH_PAUSES_MAX; pauses *= 2) {
        latch_t nobody = 0;

        if (latch_swap(latch, &nobody, self)) {
            return true;
        }
        for (int i = 0; i < pauses; i++) {
            latch_pause();
        }
    }
    return false;
}

int latch_watch(latch_t *latch)
{
    return latch_spin(latch, latch_name()) ? 0 : EBUSY;
}

int latch_claim(latch_t *latch)
{
    const latch_t self = latch_name();
    latch_t owner = 0;

    if (latch_swap(latch, &owner, self)) {
        return 0;
    }
    return latch_orphaned(owner) && latch_swap(latch, &owner, self) ? EOWNERDEAD : EBUSY;
}

int latch_wait(latch_t *latch)
{
    if (latch_watch(latch) == 0) {
        return 0;
    }
    for (int naps = 0; naps < LATCH_NAPS; naps++) {
        const bool trusts = naps < LATCH_TRUST;
        const struct timespec nap = { .tv_nsec = trusts ? LATCH_NAP_SHORT : LATCH_NAP_LONG };
        const int rv = trusts ? latch_grab(latch) ? 0 : EBUSY : latch_claim(latch);

        if (rv != EBUSY) {
            return rv;
        }
        (void)nanosleep(&nap, NULL);
    }
    return ETIMEDOUT;
}

bool rlp_latch_take(rlp_latch_t *latch)
{
    return latch_take(latch) != ETIMEDOUT;
}

bool rlp_latch_claim(rlp_latch_t *latch)
{
    return latch_claim(latch) != EBUSY;
}

void rlp_latch_free(rlp_latch_t *latch)
{
    latch_free(latch);
}
