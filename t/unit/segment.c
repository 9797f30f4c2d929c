/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The file of a shared-memory store: how it is made, trusted and locked. What outlives a restart is
 * in segment_restart.c.
 */

#include "segment_file.h"

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

/* --- made */

static void test_mode(void **state)
{
    static const mode_t masks[] = { 0, 022, 077, 0277, 0777 };

    (void)state;
    for (size_t i = 0; i < UNIT_N(masks); i++) {
        const char *path = segment_path();
        const mode_t before = umask(masks[i]);
        rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);
        struct stat info;

        umask(before);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
        assert_int_equal(info.st_size, MB + RLP_ANNEX_SIZE);
        assert_true((size_t)info.st_blocks * 512 >= MB); /* no holes that a full disk could leave */
        rlp_segment_close(&segment);
        segment_forget(path);
    }
}

/* As cp --sparse, tar and rsync leave them: of zeros nothing is on the disk. */
static bool punch(const char *path, off_t at, off_t len)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const bool done = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len) == 0;

    close(fd);
    return done;
}

static void test_holes(void **state)
{
    const char *path = segment_path();
    rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);
    struct stat info;

    (void)state;
    (void)segment_spend(&segment, 3, UPTIME);
    rlp_segment_close(&segment);
    if (!punch(path, MB, RLP_ANNEX_SIZE)) {
        unit_skip("the file system knows no holes");
        segment_forget(path);
        return;
    }
    assert_int_equal(stat(path, &info), 0);
    assert_true((size_t)info.st_blocks * 512 <= MB);
    segment = segment_open_well(path, MB, &segment_first_boot);
    assert_int_equal(stat(path, &info), 0);
    assert_true((size_t)info.st_blocks * 512 >= MB + RLP_ANNEX_SIZE);
    assert_int_equal(segment_spend(&segment, 1, UPTIME).remaining, 6);
    rlp_segment_close(&segment);
    segment_forget(path);
}

static void test_in_use(void **state)
{
    const char *path = segment_path();
    rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);
    const opened_t second = segment_open_at(path, MB, &segment_first_boot);

    (void)state;
    assert_non_null(strstr(second.error, apr_pstrcat(unit_pool(), "the store file ", path,
                                                     " is in use by another server", NULL)));
    assert_int_equal(segment_spend(&segment, 1, UPTIME).remaining, 9);
    rlp_segment_close(&segment);
    segment = segment_open_well(path, MB, &segment_first_boot);
    rlp_segment_close(&segment);
    segment_forget(path);
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
    const char *path = segment_path();
    const char *asked = apr_pstrcat(unit_pool(), path, row->below, NULL);

    row->make(path);
    const opened_t o = segment_open_at(asked, row->size, &segment_first_boot);

    assert_non_null(o.error);
    assert_ptr_equal(strstr(o.error, apr_pstrcat(unit_pool(), row->error, " ", asked, ": ", NULL)),
                     o.error);
    segment_forget(path);
}

static void test_file_limit(void **state)
{
    const char *path = segment_path();
    const struct rlimit little = { .rlim_cur = MB / 2, .rlim_max = RLIM_INFINITY };
    struct rlimit before;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    const opened_t o = segment_open_at(path, MB, &segment_first_boot);

    setrlimit(RLIMIT_FSIZE, &before);
    assert_non_null(o.error);
    assert_non_null(strstr(o.error, apr_pstrcat(unit_pool(), "cannot allocate 2097152 bytes for ",
                                                "the store file ", path, ": ", NULL)));
    rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);

    rlp_segment_close(&segment);
    segment_forget(path);
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
    const apr_status_t rv =
        rlp_segment_open(&segment, path, MB, &segment_first_boot, &error, unit_pool());

    return APR_STATUS_IS_ENOSPC(rv) && strstr(error, path) != NULL ? 0 : 1;
}

static void test_little_disk(void **state)
{
    char *dir = apr_pstrdup(unit_pool(), segment_path());
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
    const char *path = segment_path();

    segment_make_spent(path);
    row->spoil(path);
    opened_t o = segment_open_at(path, MB, &segment_first_boot);

    assert_int_equal(o.rv, APR_SUCCESS);
    assert_string_equal(o.warning, apr_psprintf(unit_pool(),
                                                "the store file %s is unusable (%s): starting with "
                                                "an empty one",
                                                path, row->reason));
    assert_int_equal(segment_spend(&o.segment, 1, UPTIME).remaining, 9);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(info.st_uid, geteuid());
    rlp_segment_close(&o.segment);
    o.segment = segment_open_well(path, MB, &segment_first_boot);
    assert_int_equal(segment_spend(&o.segment, 1, UPTIME).remaining, 8);
    rlp_segment_close(&o.segment);
    segment_forget(path);
}

/* What lies in the place of the new file is not followed either. */
static void test_beside(void **state)
{
    const char *path = segment_path();
    const char *victim = apr_pstrcat(unit_pool(), path, ".other", NULL);
    const char *beside = apr_pstrcat(unit_pool(), path, ".new", NULL);
    struct stat info;

    (void)state;
    segment_make_spent(path);
    spoil_magic(path);
    close(open(victim, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(symlink(victim, beside), 0);
    opened_t o = segment_open_at(path, MB, &segment_first_boot);

    assert_int_equal(o.rv, APR_SUCCESS);
    assert_int_equal(stat(victim, &info), 0);
    assert_int_equal(info.st_size, 0);
    assert_int_equal(lstat(beside, &info), -1);
    rlp_segment_close(&o.segment);
    segment_forget(path);
}

int main(void)
{
    static const unit_single_t singles[] = {
        { "0600 under any umask, without holes", test_mode },
        { "a file that was copied has none either", test_holes },
        { "a second server is refused", test_in_use },
        { "a file limit is an error that names the path", test_file_limit },
        { "a full disk is an error that names the path", test_little_disk },
        { "a link in the place of the new file", test_beside },
    };

    unit_add_singles(singles, UNIT_N(singles));
    for (size_t i = 0; i < UNIT_N(troubles); i++) {
        unit_add_case("error names the path", troubles[i].name, test_trouble, &troubles[i]);
    }
    for (size_t i = 0; i < UNIT_N(spoiled); i++) {
        unit_add_case("one warning, empty store", spoiled[i].reason, test_spoiled, &spoiled[i]);
    }
    return unit_run();
}
