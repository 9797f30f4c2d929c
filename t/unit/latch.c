/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Latches: who has one, who may take one from whom, and who waits how long. Its source is part of
 * this program, so that naps are counted instead of slept where nobody else runs. RLP_PROCESSES=no
 * leaves out what forks, for the thread sanitizer.
 */

#include "unit.h"

#include <fcntl.h>
#include <time.h>

static int counted_nap(const struct timespec *span, struct timespec *left);
static int blind_open(const char *path, int flags);

#define nanosleep counted_nap
#define open blind_open
#include "../../lib/latch.c" /* NOLINT(bugprone-suspicious-include) */
#undef open
#undef nanosleep

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* What a nap does: it is slept, or counted; at the last one the latch is freed. */
static struct {
    bool slept;
    int n;
    int last;
    latch_t *latch;
} naps;

static int counted_nap(const struct timespec *span, struct timespec *left)
{
    if (naps.slept) {
        return nanosleep(span, left);
    }
    if (++naps.n == naps.last) {
        latch_free(naps.latch);
    }
    return 0;
}

static bool blind; /* /proc cannot be read */

/* Who takes which latch when /proc is read next. */
static struct {
    latch_t *latch;
    latch_t owner;
} rival;

static int blind_open(const char *path, int flags)
{
    if (rival.latch != NULL) {
        *rival.latch = rival.owner;
        rival.latch = NULL;
    }
    return blind ? -1 : open(path, flags);
}

/* Counts naps from here on; at the last of them, unless it is 0, somebody frees the latch. */
static void count_naps(latch_t *latch, int last)
{
    naps.slept = false;
    naps.n = 0;
    naps.last = last;
    naps.latch = latch;
}

/* A latch that children share. */
static latch_t *shared_latch(void)
{
    latch_t *latch =
        mmap(NULL, sizeof(*latch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(latch != MAP_FAILED);
    return latch;
}

static latch_t name_of(pid_t pid)
{
    process_t process;

    assert_true(latch_look(&process, pid));
    return (latch_t)pid << 32 | process.begun;
}

/* Waits, with a deadline, until a process is in a state with more threads than one, or not. */
static void await(pid_t pid, char state, bool threads)
{
    const struct timespec span = { .tv_nsec = 1000000 };
    process_t process = { .state = '\0' };

    for (int i = 0; i < 20000; i++) {
        if (latch_look(&process, pid) && process.state == state &&
            (process.threads > 1) == threads) {
            return;
        }
        (void)nanosleep(&span, NULL);
    }
    fail_msg("the child never came into state %c: %c with %ld threads", state, process.state,
             process.threads);
}

/* The same until somebody has it. */
static void await_taken(const latch_t *latch)
{
    const struct timespec span = { .tv_nsec = 1000000 };

    for (int i = 0; i < 20000 && __atomic_load_n(latch, __ATOMIC_RELAXED) == 0; i++) {
        (void)nanosleep(&span, NULL);
    }
    assert_true(__atomic_load_n(latch, __ATOMIC_RELAXED) != 0);
}

static void end_child(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void test_taken(void **state)
{
    latch_t latch = 0;

    (void)state;
    count_naps(&latch, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(latch_take(&latch), 0);
        assert_true(latch == name_of(getpid()));
        latch_free(&latch);
        assert_true(latch == 0);
    }
    assert_int_equal(naps.n, 0);
}

/* Who waits gets it when it is freed, before the owner is looked at and after. */
static void test_freed(void **state)
{
    static const int last[] = { 1, LATCH_TRUST, LATCH_TRUST + 1, LATCH_NAPS - 1 };

    (void)state;
    for (size_t i = 0; i < UNIT_N(last); i++) {
        latch_t latch = name_of(getppid());

        count_naps(&latch, last[i]);
        assert_int_equal(latch_take(&latch), 0);
        assert_true(latch == name_of(getpid()));
        assert_int_equal(naps.n, last[i]);
    }
}

/* Who lives keeps it: another process, one of which the beginning is not known, and another thread
   of this one. */
static void test_lives(void **state)
{
    const latch_t owners[] = { name_of(getppid()), (latch_t)getppid() << 32, name_of(getpid()) };

    (void)state;
    for (size_t i = 0; i < UNIT_N(owners); i++) {
        latch_t latch = owners[i];

        count_naps(&latch, 0);
        assert_int_equal(latch_take(&latch), ETIMEDOUT);
        assert_true(latch == owners[i]);
        assert_int_equal(naps.n, LATCH_NAPS);
    }
}

/* Takes it for good. */
static void *hold(void *latch)
{
    (void)latch_take(latch);
    for (;;) {
        (void)pause();
    }
    return NULL;
}

/* Without /proc numbers are all there is. */
static void test_blind(void **state)
{
    latch_t latch = name_of(getppid()) + 1;

    (void)state;
    count_naps(&latch, 0);
    blind = true;
    const int lives = latch_take(&latch);

    latch = (latch_t)INT32_MAX << 32 | 5;
    const int nobody = latch_take(&latch);

    blind = false;
    assert_int_equal(lives, ETIMEDOUT);
    assert_int_equal(nobody, EOWNERDEAD);
}

/* The name under which a latch is taken that is freed at the first nap. */
static latch_t name_after_nap(void)
{
    latch_t latch = (latch_t)getppid() << 32;

    count_naps(&latch, 1);
    return latch_take(&latch) == 0 && naps.n == 1 ? latch : 0;
}

/* Who could not find out when it began looks again when it has to wait, and only then. */
static void test_sees_again(void **state)
{
    const latch_t number = (latch_t)getpid() << 32;
    latch_t first = 0;
    latch_t second = 0;
    latch_t third = 0;

    (void)state;
    latch_self = LATCH_FORKED;
    blind = true;
    const int begun = latch_take(&first);
    const latch_t blindly = name_after_nap();

    blind = false;
    const int at_once = latch_take(&second);
    const latch_t seen = name_after_nap();

    assert_int_equal(begun, 0);
    assert_true(first == number);
    assert_true(blindly == number);
    assert_int_equal(at_once, 0);
    assert_true(second == number);
    assert_true(seen == name_of(getpid()));
    assert_int_equal(latch_take(&third), 0);
    assert_true(third == name_of(getpid()));
}

/* Who finds out that the owner is dead may not be the first to. */
static void test_rival(void **state)
{
    const latch_t parent = name_of(getppid());
    latch_t latch = parent + 1;

    (void)state;
    count_naps(&latch, 0);
    rival.owner = parent;
    rival.latch = &latch;
    assert_int_equal(latch_take(&latch), ETIMEDOUT);
    assert_null(rival.latch);
    assert_true(latch == parent);
}

/* The name of a program may look like what comes behind it. */
static void test_program(void **state)
{
    latch_t *latch = shared_latch();
    const pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(60);
        (void)prctl(PR_SET_NAME, ") Z 1 1 1 (", 0, 0, 0);
        (void)hold(latch);
    }
    await_taken(latch);
    count_naps(latch, 0);
    const int rv = latch_take(latch);

    (void)kill(pid, SIGKILL);
    end_child(pid);
    assert_int_equal(rv, ETIMEDOUT);
    (void)munmap(latch, sizeof(*latch));
}

/* Numbers of no process, and those that another process has by now. */
static void test_nobody(void **state)
{
    const latch_t owners[] = { LATCH_FORKED,
                               UINT32_MAX,
                               UINT64_MAX,
                               UINT64_C(1) << 63 | 5,
                               (latch_t)INT32_MAX << 32 | 5,
                               name_of(getpid()) + 1,
                               name_of(getpid()) - 1,
                               name_of(getppid()) + 1 };

    (void)state;
    for (size_t i = 0; i < UNIT_N(owners); i++) {
        latch_t latch = owners[i];

        count_naps(&latch, 0);
        assert_int_equal(latch_take(&latch), EOWNERDEAD);
        assert_true(latch == name_of(getpid()));
        assert_int_equal(naps.n, LATCH_TRUST);
    }
}

/* A child that was killed with it is dead before its parent has waited for it, and after. */
static void test_killed(void **state)
{
    latch_t *latch = shared_latch();

    (void)state;
    for (int waited = 0; waited < 2; waited++) {
        *latch = 0;
        const pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            (void)latch_take(latch);
            (void)raise(SIGKILL);
        }
        await(pid, 'Z', false);
        assert_true(*latch >> 32 == (latch_t)pid);
        if (waited) {
            end_child(pid);
        }
        count_naps(latch, 0);
        assert_int_equal(latch_take(latch), EOWNERDEAD);
        assert_true(*latch == name_of(getpid()));
        if (!waited) {
            end_child(pid);
        }
    }
    (void)munmap(latch, sizeof(*latch));
}

/* Takes the latch in the child of a child, which knows its own name; 0, or what is wrong. */
static int take_below(latch_t *latch)
{
    int status = 0;

    if (latch_take(latch) != 0 || *latch != name_of(getpid())) {
        return 1;
    }
    latch_free(latch);
    const pid_t pid = fork();

    if (pid == 0) {
        _exit(latch_take(latch) != 0 || *latch != name_of(getpid()));
    }
    return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 2;
}

static void test_fork(void **state)
{
    latch_t *latch = shared_latch();
    int status = -1;

    (void)state;
    assert_int_equal(latch_take(latch), 0);
    latch_free(latch);
    const pid_t pid = fork();

    if (pid == 0) {
        _exit(take_below(latch));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(latch_take(latch), EOWNERDEAD); /* the child's child has not freed it */
    latch_free(latch);
    assert_int_equal(latch_take(latch), 0);
    assert_true(*latch == name_of(getpid()));
    (void)munmap(latch, sizeof(*latch));
}

/* A process whose first thread has ended looks dead, but lives with its other threads. */
static void test_first_thread(void **state)
{
    latch_t *latch = shared_latch();
    const pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        pthread_t thread;

        (void)alarm(60); /* where the test fails, too */
        (void)pthread_create(&thread, NULL, hold, latch);
        pthread_exit(NULL);
    }
    await(pid, 'Z', true);
    await_taken(latch);
    count_naps(latch, 0);
    assert_int_equal(latch_take(latch), ETIMEDOUT);
    assert_int_equal(kill(pid, SIGKILL), 0);
    await(pid, 'Z', false);
    assert_int_equal(latch_take(latch), EOWNERDEAD);
    end_child(pid);
    (void)munmap(latch, sizeof(*latch));
}

/* What other programs have of it. */
static void test_public(void **state)
{
    rlp_latch_t latch = name_of(getppid());

    (void)state;
    count_naps(&latch, 0);
    assert_false(rlp_latch_claim(&latch));
    assert_int_equal(naps.n, 0);
    assert_false(rlp_latch_take(&latch));
    assert_int_equal(naps.n, LATCH_NAPS);
    latch++; /* whose number was given anew */
    assert_true(rlp_latch_claim(&latch));
    assert_false(rlp_latch_claim(&latch));
    rlp_latch_free(&latch);
    assert_true(latch == 0);
    assert_true(rlp_latch_claim(&latch));
    latch = name_of(getppid()) + 1;
    assert_true(rlp_latch_take(&latch));
    assert_true(latch == name_of(getpid()));
}

/* --- several threads at once */

#define THREADS 8
#define CROWDS 50
#define ROUNDS 1000

typedef struct {
    pthread_barrier_t begun;
    latch_t latch;
    int counted; /* under the latch */
    int orphaned;
} crowd_t;

static void *crowd_count(void *baton)
{
    crowd_t *crowd = baton;

    (void)pthread_barrier_wait(&crowd->begun);
    for (int i = 0; i < ROUNDS; i++) {
        const int rv = latch_take(&crowd->latch);

        if (rv == ETIMEDOUT) {
            return baton; /* the count will show it */
        }
        crowd->counted++;
        crowd->orphaned += rv == EOWNERDEAD;
        latch_free(&crowd->latch);
    }
    return baton;
}

/* One of those who wait takes it from the dead, and none is ever in it with another. */
static void run_crowd(void)
{
    crowd_t crowd = { .latch = (latch_t)INT32_MAX << 32 | 5 };
    pthread_t threads[THREADS];

    assert_int_equal(pthread_barrier_init(&crowd.begun, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_count, &crowd), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    (void)pthread_barrier_destroy(&crowd.begun);
    assert_int_equal(crowd.counted, THREADS * ROUNDS);
    assert_int_equal(crowd.orphaned, 1);
    assert_true(crowd.latch == 0);
}

static void test_crowd(void **state)
{
    (void)state;
    naps.slept = true;
    for (int i = 0; i < CROWDS; i++) {
        run_crowd();
    }
}

int main(void)
{
    static const unit_single_t singles[] = {
        { "a latch is taken and freed", test_taken },
        { "who waits gets it when it is freed", test_freed },
        { "who lives keeps it", test_lives },
        { "who lives keeps it where /proc cannot be read, too", test_blind },
        { "who could not see /proc looks there again", test_sees_again },
        { "nobody keeps it", test_nobody },
        { "the first takes it from the dead", test_rival },
        { "as a lock of other programs", test_public },
        { "of a crowd, one at a time", test_crowd },
    };
    static const unit_single_t forks[] = {
        { "who is killed does not keep it", test_killed },
        { "a program's name is not taken for its state", test_program },
        { "a child has a name of its own", test_fork },
        { "a process without its first thread lives", test_first_thread },
    };

    unit_add_singles(singles, UNIT_N(singles));
    if (getenv("RLP_PROCESSES") == NULL) {
        unit_add_singles(forks, UNIT_N(forks));
    }
    return unit_run();
}
