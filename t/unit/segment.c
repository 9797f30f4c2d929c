/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The file of a shared-memory store: how it is made, trusted, locked, and what outlives a restart.
 */

#include "unit.h"

#include "store/slab.h"

#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_strings.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MB ((size_t)1024 * 1024)
#define WALL (INT64_C(1700000000) * RLP_SECOND)
#define UPTIME (1000 * RLP_SECOND)

/* One attempt to open the file. */
typedef struct {
    apr_status_t rv;
    const char *warning;
    const char *error;
    rlp_segment_t segment;
} opened_t;

static const rlp_clock_t first_boot = { .monotonic = UPTIME, .wall = WALL, .boot_id = "one" };

/* A name in a new directory, which the system forgets with the rest of its temporary files. */
static const char *new_path(void)
{
    const char *dir;

    assert_int_equal(apr_temp_dir_get(&dir, unit_pool()), APR_SUCCESS);
    char *made = apr_pstrcat(unit_pool(), dir, "/rlp-unit.XXXXXX", NULL);

    assert_non_null(mkdtemp(made));
    return apr_pstrcat(unit_pool(), made, "/store", NULL);
}

static void forget(const char *path)
{
    char *dir = apr_pstrdup(unit_pool(), path);

    (void)unlink(path);
    (void)unlink(apr_pstrcat(unit_pool(), path, ".new", NULL));
    (void)unlink(apr_pstrcat(unit_pool(), path, ".other", NULL));
    *strrchr(dir, '/') = '\0';
    (void)rmdir(path);
    assert_int_equal(rmdir(dir), 0);
}

static opened_t open_at(const char *path, size_t size, const rlp_clock_t *clock)
{
    opened_t o = { .error = NULL };
    const char *message = NULL;

    o.rv = rlp_segment_open(&o.segment, path, size, clock, &message, unit_pool());
    *(o.rv == APR_SUCCESS ? &o.warning : &o.error) = message;
    assert_int_equal(o.rv == APR_SUCCESS, o.error == NULL);
    assert_int_equal(o.rv == APR_SUCCESS, o.segment.memory != NULL);
    return o;
}

/* Opens it and expects no complaint. */
static rlp_segment_t open_well(const char *path, size_t size, const rlp_clock_t *clock)
{
    const opened_t o = open_at(path, size, clock);

    if (o.error != NULL || o.warning != NULL) {
        fail_msg("%s", o.error ? o.error : o.warning);
    }
    assert_int_equal(o.segment.size, size);
    return o.segment;
}

/* Asks n times for one unit of 10 a minute; what the last is told. */
static rlp_decision_t spend(const rlp_segment_t *segment, int n, rlp_time_t now)
{
    const rlp_limit_t *limit = &unit_plan("rate=10/min")->limits[0];
    const rlp_question_t question = { .now = now };
    rlp_charge_t charge;
    rlp_answer_t answer;
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, segment, unit_pool()), APR_SUCCESS);
    rlp_charge_init(&charge, "user:1", 6, rlp_signature("segment", NULL, limit), limit);
    for (int i = 0; i < n; i++) {
        assert_int_equal(rlp_check(store, &charge, 1, &question, &answer), APR_SUCCESS);
    }
    return charge.decision;
}

/* Large states: the largest lives almost as long as a unit of the limit takes to come back, the
   other has no end. */
#define LOG_SIZE 65640
#define QUOTA_SIZE 16000

static const rlp_key_t log_key = { .identity = "user:1", .identity_len = 6, .size = LOG_SIZE };
static const rlp_key_t quota_key = { .identity = "user:1", .identity_len = 6, .size = QUOTA_SIZE };

typedef struct {
    rlp_time_t life; /* 0: puts nothing */
    bool held;
    bool found; /* every word is its own number, and one */
} big_t;

static void big_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    uint64_t *words = entries[0]->state;
    big_t *big = baton;

    (void)n;
    big->found = true;
    for (uint32_t i = 0; i < entries[0]->key.size / sizeof(*words); i++) {
        big->found &= words[i] == i + 1;
        words[i] = i + 1;
    }
    entries[0]->dirty = big->life > 0;
    entries[0]->held = big->held;
    entries[0]->expires = big->life == RLP_TIME_NEVER ? big->life : now + big->life;
    entries[0]->loss = RLP_LOSS_FULL;
}

static bool visit_big(const rlp_segment_t *segment, const rlp_key_t *key, big_t big, rlp_time_t now)
{
    static uint64_t state[LOG_SIZE / 8];
    rlp_entry_t entry = { .key = *key, .state = state };
    rlp_entry_t *pointer = &entry;
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, segment, unit_pool()), APR_SUCCESS);
    assert_int_equal(rlp_shm_state_max(store), LOG_SIZE);
    assert_int_equal(store->type->update(store, &pointer, 1, now, big_update, &big), APR_SUCCESS);
    return big.found;
}

static bool find_big(const rlp_segment_t *segment, const rlp_key_t *key, rlp_time_t now)
{
    return visit_big(segment, key, (big_t){ .life = 0 }, now);
}

/* A store with all of it spent, and closed. */
static void make_spent(const char *path)
{
    rlp_segment_t segment = open_well(path, MB, &first_boot);

    assert_int_equal(spend(&segment, 10, UPTIME).verdict, RLP_ALLOW);
    assert_int_equal(spend(&segment, 1, UPTIME).verdict, RLP_DENY);
    visit_big(&segment, &log_key, (big_t){ .life = 6 * RLP_SECOND - 2000 }, UPTIME);
    visit_big(&segment, &quota_key, (big_t){ .life = RLP_TIME_NEVER }, UPTIME);
    assert_true(find_big(&segment, &log_key, UPTIME));
    rlp_segment_close(&segment);
}

/* --- made */

static void test_mode(void **state)
{
    static const mode_t masks[] = { 0, 022, 077, 0277, 0777 };

    (void)state;
    for (size_t i = 0; i < UNIT_N(masks); i++) {
        const char *path = new_path();
        const mode_t before = umask(masks[i]);
        rlp_segment_t segment = open_well(path, MB, &first_boot);
        struct stat info;

        umask(before);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
        assert_int_equal(info.st_size, MB + RLP_ANNEX_SIZE);
        assert_true((size_t)info.st_blocks * 512 >= MB); /* no holes that a full disk could leave */
        rlp_segment_close(&segment);
        forget(path);
    }
}

static void test_in_use(void **state)
{
    const char *path = new_path();
    rlp_segment_t segment = open_well(path, MB, &first_boot);
    const opened_t second = open_at(path, MB, &first_boot);

    (void)state;
    assert_non_null(strstr(second.error, apr_pstrcat(unit_pool(), "the store file ", path,
                                                     " is in use by another server", NULL)));
    assert_int_equal(spend(&segment, 1, UPTIME).remaining, 9);
    rlp_segment_close(&segment);
    segment = open_well(path, MB, &first_boot);
    rlp_segment_close(&segment);
    forget(path);
}

/* --- errors name the path */

static void make_link(const char *path)
{
    assert_int_equal(symlink("/etc/passwd", path), 0);
}

static void make_dangling(const char *path)
{
    assert_int_equal(symlink(apr_pstrcat(unit_pool(), path, ".other", NULL), path), 0);
}

static void make_directory(const char *path)
{
    assert_int_equal(mkdir(path, 0700), 0);
}

static void make_fifo(const char *path)
{
    assert_int_equal(mkfifo(path, 0600), 0);
}

static void make_nothing(const char *path)
{
    (void)path;
}

typedef struct {
    const char *name;
    void (*make)(const char *path);
    const char *below; /* appended to the path */
    size_t size;
    const char *error; /* with the path after it */
} trouble_t;

static const trouble_t troubles[] = {
    { "a symbolic link", make_link, "", MB, "will not follow the symbolic link" },
    { "a dangling link", make_dangling, "", MB, "will not follow the symbolic link" },
    { "a directory", make_directory, "", MB, "cannot open the store file" },
    { "a pipe", make_fifo, "", MB, "not a regular file:" },
    { "a missing directory", make_nothing, "/x/store", MB, "cannot open the store file" },
    { "too small", make_nothing, "", MB - 4096,
      "not a whole number of pages from 1 MB up, for the store file" },
    { "half a page", make_nothing, "", MB + 2048,
      "not a whole number of pages from 1 MB up, for the store file" },
};

static void test_trouble(void **state)
{
    const trouble_t *row = unit_row(state);
    const char *path = new_path();
    const char *asked = apr_pstrcat(unit_pool(), path, row->below, NULL);

    row->make(path);
    const opened_t o = open_at(asked, row->size, &first_boot);

    assert_non_null(o.error);
    assert_ptr_equal(strstr(o.error, apr_pstrcat(unit_pool(), row->error, " ", asked, ": ", NULL)),
                     o.error);
    forget(path);
}

static void test_file_limit(void **state)
{
    const char *path = new_path();
    const struct rlimit little = { .rlim_cur = MB / 2, .rlim_max = RLIM_INFINITY };
    struct rlimit before;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    const opened_t o = open_at(path, MB, &first_boot);

    setrlimit(RLIMIT_FSIZE, &before);
    assert_non_null(o.error);
    assert_non_null(strstr(o.error, apr_pstrcat(unit_pool(), "cannot allocate 2097152 bytes for ",
                                                "the store file ", path, ": ", NULL)));
    rlp_segment_t segment = open_well(path, MB, &first_boot);

    rlp_segment_close(&segment);
    forget(path);
}

/* In a child: opens a store in a file system that is too small for it. 0: the error names the path;
   2: the system does not let us make one. */
static int open_on_little_disk(const char *dir)
{
    const char *path = apr_pstrcat(unit_pool(), dir, "/store", NULL);
    const char *error = "";
    rlp_segment_t segment;

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", dir, "tmpfs", 0, "size=512k") != 0) {
        return 2;
    }
    const apr_status_t rv = rlp_segment_open(&segment, path, MB, &first_boot, &error, unit_pool());

    return APR_STATUS_IS_ENOSPC(rv) && strstr(error, path) != NULL ? 0 : 1;
}

static void test_little_disk(void **state)
{
    char *dir = apr_pstrdup(unit_pool(), new_path());
    int status = -1;

    (void)state;
    *strrchr(dir, '/') = '\0';
    const pid_t child = fork();

    if (child == 0) {
        _exit(open_on_little_disk(dir));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(rmdir(dir), 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
        unit_skip("only root may mount a file system");
        return;
    }
    assert_int_equal(status, 0);
}

/* --- distrust */

static void patch(const char *path, off_t at, const void *bytes, size_t n)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static void spoil_magic(const char *path)
{
    patch(path, 0, "RLPSLUB", 8);
}

static void spoil_layout(const char *path)
{
    patch(path, 8, "\377\0\0\0", 4);
}

static void spoil_size(const char *path)
{
    patch(path, 16, "\0\0\0\0\1\0\0\0", 8);
}

static void spoil_shorter(const char *path)
{
    assert_int_equal(truncate(path, MB + RLP_ANNEX_SIZE - 4096), 0);
}

static void spoil_stub(const char *path)
{
    assert_int_equal(truncate(path, 100), 0);
}

static void spoil_longer(const char *path)
{
    assert_int_equal(truncate(path, 2 * MB + RLP_ANNEX_SIZE), 0);
}

static void spoil_zero(const char *path)
{
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(truncate(path, MB + RLP_ANNEX_SIZE), 0);
}

static void spoil_text(const char *path)
{
    assert_int_equal(truncate(path, 0), 0);
    patch(path, 0, "a text that somebody keeps here\n", 32);
}

static void spoil_mode(const char *path)
{
    assert_int_equal(chmod(path, 0666), 0);
}

static void spoil_group(const char *path)
{
    assert_int_equal(chmod(path, 0640), 0);
}

static void spoil_name(const char *path)
{
    assert_int_equal(link(path, apr_pstrcat(unit_pool(), path, ".other", NULL)), 0);
}

static void spoil_owner(const char *path)
{
    assert_int_equal(chown(path, 12345, (gid_t)-1), 0); /* only root gets here */
}

typedef struct {
    const char *reason;
    void (*spoil)(const char *path);
} spoiled_t;

static const spoiled_t spoiled[] = {
    { "it is not a store of this module", spoil_magic },
    { "it was written by another version", spoil_layout },
    { "it is truncated or has grown", spoil_size },
    { "it is not a store of this module", spoil_shorter },
    { "it is not a store of this module", spoil_stub },
    { "it is truncated or has grown", spoil_longer },
    { "it is not a store of this module", spoil_zero },
    { "it is not a store of this module", spoil_text },
    { "other users have access to it", spoil_mode },
    { "other users have access to it", spoil_group },
    { "it has a second name", spoil_name },
    { "it belongs to another user", spoil_owner },
};

/* One warning, and an empty store in a file that is ours alone. */
static void test_spoiled(void **state)
{
    const spoiled_t *row = unit_row(state);
    struct stat info;

    if (row->spoil == spoil_owner && geteuid() != 0) {
        unit_skip("only root may give a file away");
        return;
    }
    const char *path = new_path();

    make_spent(path);
    row->spoil(path);
    opened_t o = open_at(path, MB, &first_boot);

    assert_int_equal(o.rv, APR_SUCCESS);
    assert_string_equal(o.warning, apr_psprintf(unit_pool(),
                                                "the store file %s is unusable (%s): starting with "
                                                "an empty one",
                                                path, row->reason));
    assert_int_equal(spend(&o.segment, 1, UPTIME).remaining, 9);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(info.st_uid, geteuid());
    rlp_segment_close(&o.segment);
    o.segment = open_well(path, MB, &first_boot);
    assert_int_equal(spend(&o.segment, 1, UPTIME).remaining, 8);
    rlp_segment_close(&o.segment);
    forget(path);
}

/* What lies in the place of the new file is not followed either. */
static void test_beside(void **state)
{
    const char *path = new_path();
    const char *victim = apr_pstrcat(unit_pool(), path, ".other", NULL);
    const char *beside = apr_pstrcat(unit_pool(), path, ".new", NULL);
    struct stat info;

    (void)state;
    make_spent(path);
    spoil_magic(path);
    close(open(victim, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(symlink(victim, beside), 0);
    opened_t o = open_at(path, MB, &first_boot);

    assert_int_equal(o.rv, APR_SUCCESS);
    assert_int_equal(stat(victim, &info), 0);
    assert_int_equal(info.st_size, 0);
    assert_int_equal(lstat(beside, &info), -1);
    rlp_segment_close(&o.segment);
    forget(path);
}

/* --- what outlives a restart */

typedef struct {
    const char *name;
    rlp_clock_t clock;
    rlp_time_t later; /* asked so long after the start */
    rlp_verdict_t verdict;
} restart_t;

static const restart_t restarts[] = {
    { "same boot, at once", { UPTIME, WALL, "one" }, 0, RLP_DENY },
    { "same boot, 6 s later", { UPTIME + 6 * RLP_SECOND, WALL, "one" }, 0, RLP_ALLOW },
    { "same boot, wall clock set forward",
      { UPTIME, WALL + 3600 * RLP_SECOND, "one" },
      5 * RLP_SECOND,
      RLP_DENY },
    { "same boot, wall clock set back",
      { UPTIME + 6 * RLP_SECOND, WALL - 3600 * RLP_SECOND, "one" },
      0,
      RLP_ALLOW },
    { "other boot, 5 s later", { 1, WALL + 5 * RLP_SECOND, "two" }, 0, RLP_DENY },
    { "other boot, 6 s later", { 1, WALL + 6 * RLP_SECOND, "two" }, 0, RLP_ALLOW },
    { "other boot, wall clock set back", { 1, WALL - RLP_SECOND, "two" }, 0, RLP_DENY },
    { "other boot, wall clock set back, 6 s",
      { 1, WALL - 3600 * RLP_SECOND, "two" },
      6 * RLP_SECOND,
      RLP_ALLOW },
    { "boot unknown, 5 s later",
      { UPTIME + 6 * RLP_SECOND, WALL + 5 * RLP_SECOND, "" },
      0,
      RLP_DENY },
    { "boot unknown, 6 s later", { 1, WALL + 6 * RLP_SECOND, "" }, 0, RLP_ALLOW },
};

static void test_restart(void **state)
{
    const restart_t *row = unit_row(state);
    const char *path = new_path();

    make_spent(path);
    rlp_segment_t segment = open_well(path, MB, &row->clock);
    const rlp_time_t now = row->clock.monotonic + row->later;

    assert_int_equal(spend(&segment, 1, now).verdict, row->verdict);
    assert_int_equal(find_big(&segment, &log_key, now), row->verdict == RLP_DENY);
    assert_true(find_big(&segment, &quota_key, now));
    rlp_segment_close(&segment);
    forget(path);
}

/* A time base that nothing could have written: time begins anew, nobody is locked out. */
static void test_wild_time(void **state)
{
    static const rlp_time_t wild[] = { INT64_MIN, INT64_MIN / 2, INT64_MAX / 2, INT64_MAX };

    (void)state;
    for (size_t i = 0; i < UNIT_N(wild); i++) {
        const char *path = new_path();
        slab_t slab;

        make_spent(path);
        rlp_segment_t segment = open_well(path, MB, &first_boot);

        assert_null(slab_attach(&slab, segment.memory, segment.size));
        slab_base(&slab)->offset = wild[i];
        rlp_segment_close(&segment);
        segment = open_well(path, MB, &first_boot);
        const rlp_decision_t d = spend(&segment, 1, UPTIME);

        assert_true(d.verdict == RLP_ALLOW || d.retry <= 61 * RLP_SECOND);
        rlp_segment_close(&segment);
        forget(path);
    }
}

/* A fresh store's windows are aligned to the wall clock. */
static void test_epoch(void **state)
{
    const char *path = new_path();
    rlp_segment_t segment = open_well(path, MB, &first_boot);
    rlp_store_t *store;

    (void)state;
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    assert_int_equal(rlp_store_time(store, UPTIME + 5), WALL + 5);
    rlp_segment_close(&segment);
    forget(path);
}

static void digest(const rlp_segment_t *segment, const char *secret, char text[33])
{
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, segment, unit_pool()), APR_SUCCESS);
    rlp_store_digest(store, secret, strlen(secret), text);
    assert_int_equal(strlen(text), 32);
    assert_int_equal(strspn(text, "0123456789abcdef"), 32);
}

/* Counters and digests move over into a file of another size. */
static void test_size(void **state)
{
    static const size_t sizes[] = { 3, 1, 16, 2, 1 };
    static const char kept[] = "kept beside the counters";
    const char *path = new_path();
    char before[33];
    char after[33];

    (void)state;
    make_spent(path);
    rlp_segment_t segment = open_well(path, MB, &first_boot);

    digest(&segment, "secret", before);
    char *annex = rlp_segment_annex(&segment);

    assert_true(annex[0] == 0 && memcmp(annex, annex + 1, RLP_ANNEX_SIZE - 1) == 0);
    memcpy(annex + RLP_ANNEX_SIZE - sizeof(kept), kept, sizeof(kept));
    rlp_segment_close(&segment);
    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        segment = open_well(path, sizes[i] * MB, &first_boot);
        annex = rlp_segment_annex(&segment);
        assert_string_equal(annex + RLP_ANNEX_SIZE - sizeof(kept), kept);
        assert_int_equal(spend(&segment, 1, UPTIME + 5 * RLP_SECOND).verdict, RLP_DENY);
        assert_true(find_big(&segment, &log_key, UPTIME + 5 * RLP_SECOND));
        assert_true(find_big(&segment, &quota_key, UPTIME + 5 * RLP_SECOND));
        digest(&segment, "secret", after);
        assert_string_equal(after, before);
        rlp_segment_close(&segment);
    }
    forget(path);
}

/* What a server that has ended held is void for the next: there as it was, but anybody's place. */
static void test_held(void **state)
{
    const char *path = new_path();
    rlp_segment_t segment = open_well(path, MB, &first_boot);
    rlp_store_t *store;

    (void)state;
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    const rlp_hold_t before = rlp_owner_open(store, getpid());

    visit_big(&segment, &quota_key, (big_t){ .life = 1, .held = true }, UPTIME);
    assert_true(find_big(&segment, &quota_key, UPTIME + 10)); /* held: it does not expire */
    assert_true(rlp_hold_lives(store->owners, before));
    rlp_segment_close(&segment);
    segment = open_well(path, MB, &first_boot);
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    assert_false(rlp_hold_lives(store->owners, before));
    assert_true(find_big(&segment, &quota_key, UPTIME + 10));
    const rlp_hold_t after = rlp_owner_open(store, getpid());

    assert_int_equal(after >> 48, before >> 48); /* the number lives again, its holds do not */
    assert_false(rlp_hold_lives(store->owners, before));
    assert_true(rlp_hold_lives(store->owners, after));
    rlp_segment_close(&segment);
    segment = open_well(path, 2 * MB, &first_boot);
    assert_false(find_big(&segment, &quota_key, UPTIME + 10)); /* another size leaves it behind */
    rlp_segment_close(&segment);
    forget(path);
}

static void test_digest(void **state)
{
    const char *path = new_path();
    const char *other = new_path();
    rlp_segment_t segment = open_well(path, MB, &first_boot);
    rlp_segment_t second = open_well(other, MB, &first_boot);
    char one[33];
    char two[33];

    (void)state;
    digest(&segment, "secret", one);
    digest(&segment, "secret", two);
    assert_string_equal(one, two);
    digest(&segment, "secreT", two);
    assert_string_not_equal(one, two);
    digest(&second, "secret", two); /* keyed: another file, another digest */
    assert_string_not_equal(one, two);
    assert_memory_not_equal(one, one + 16, 16);
    rlp_segment_close(&segment);
    rlp_segment_close(&second);
    forget(path);
    forget(other);
}

int main(void)
{
    static const unit_single_t singles[] = {
        { "0600 under any umask, without holes", test_mode },
        { "a second server is refused", test_in_use },
        { "a file limit is an error that names the path", test_file_limit },
        { "a full disk is an error that names the path", test_little_disk },
        { "a link in the place of the new file", test_beside },
        { "Q-08: a damaged time base", test_wild_time },
        { "F-01: windows are aligned to the wall clock", test_epoch },
        { "Q-08: another size keeps the counters", test_size },
        { "what a server held is void for the next", test_held },
        { "digests are stable and keyed", test_digest },
    };

    unit_add_singles(singles, UNIT_N(singles));
    for (size_t i = 0; i < UNIT_N(troubles); i++) {
        unit_add_case("error names the path", troubles[i].name, test_trouble, &troubles[i]);
    }
    for (size_t i = 0; i < UNIT_N(spoiled); i++) {
        unit_add_case("one warning, empty store", spoiled[i].reason, test_spoiled, &spoiled[i]);
    }
    for (size_t i = 0; i < UNIT_N(restarts); i++) {
        unit_add_case("Q-08", restarts[i].name, test_restart, &restarts[i]);
    }
    return unit_run();
}
