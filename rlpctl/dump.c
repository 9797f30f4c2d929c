/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "dump.h"

#include "outline.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define DUMP_USAGE                                                                      \
    "usage: rlpctl dump --file=PATH [--with-key]\n"                                     \
    "       rlpctl dump --store=URL [OPTION]...\n"                                      \
    "       rlpctl load --file=PATH [OPTION]... [DUMP]\n"                               \
    "       rlpctl load --store=URL [OPTION]... [DUMP]\n"                               \
    "\n"                                                                                \
    "dump prints what is counted in the file of a store, or in a Redis: JSON, a line\n" \
    "for each counter. load puts it into another one, from DUMP or standard input.\n"   \
    "What is counted there already stays.\n"                                            \
    "\n"                                                                                \
    "  --file=PATH        of a server that is stopped or runs; load makes a new one\n"  \
    "  --size=SIZE        of a new one, such as 64M (16M)\n"                            \
    "  --with-key         with its key, a secret, which a new one needs\n"              \
    "  --store=URL        as url= of RateLimitStore, without a password\n"              \
    "  --password=SOURCE  file:PATH or env:NAME\n"                                      \
    "  --tls-ca=FILE, --tls-cert=FILE, --tls-key=FILE, --tls-name=NAME\n"               \
    "                     as those of RateLimitStore, for rediss://\n"                  \
    "  --prefix=TEXT      as prefix= of RateLimitStore\n"                               \
    "  --replace          load: what is counted there already goes\n"                   \
    "  --check            load: only read the dump\n"                                   \
    "  --json             load: say in JSON what became of it\n"

#define DUMP_KEPT 1 /* exit status: not all of the dump is there now */

bool dump_is_command(const char *word)
{
    return strcmp(word, "dump") == 0 || strcmp(word, "load") == 0;
}

/* --- words */

/* Such as 64M: a whole number of pages. 0: it is none. */
static size_t dump_size(const char *text)
{
    static const char units[] = "KMG";
    const size_t digits = strspn(text, "0123456789");
    const char *unit =
        digits > 0 && digits < 10 && text[digits] != '\0' ? strchr(units, text[digits]) : NULL;

    if (unit == NULL || text[digits + 1] != '\0') {
        return 0;
    }
    const size_t size = (size_t)strtoull(text, NULL, 10) << (10 + 10 * (unit - units));

    return size >= RLP_SEGMENT_MIN && size % 4096 == 0 ? size : 0;
}

static const char *dump_take_size(void *baton, const char *value)
{
    dump_job_t *job = baton;

    job->size = dump_size(value);
    return job->size > 0 ? NULL : "expected a size of 1M or more, in steps of 4K, such as 64M";
}

/* One option; NULL, or what was expected. */
static const char *dump_option(dump_job_t *job, const char *word)
{
    const option_t dumps[] = { { .name = "--with-key", .flag = &job->with_key }, { .name = NULL } };
    const option_t loads[] = { { .name = "--size=", .take = dump_take_size },
                               { .name = "--replace", .flag = &job->replaces },
                               { .name = "--check", .flag = &job->checks },
                               { .name = "--json", .flag = &job->json },
                               { .name = NULL } };

    const char *error = option_take(job->loads ? loads : dumps, word, 1, job);

    return error == option_unknown ? option_place(&job->place, word, 1) : error;
}

/* What does not go together. */
static const char *dump_odd(const dump_job_t *job)
{
    const char *error = option_place_odd(&job->place);

    if (error != NULL) {
        return error;
    }
    if (job->place.file == NULL && (job->with_key || job->size > 0)) {
        return "expected --file=PATH with --with-key or --size=";
    }
    return option_prefix_odd(job->place.prefix);
}

/* One word, in the same way. */
static const char *dump_word(dump_job_t *job, const char *word)
{
    if (word[0] == '-' && word[1] != '\0') {
        return dump_option(job, word);
    }
    if (!job->loads || job->name != NULL) {
        return option_unknown;
    }
    job->name = word;
    return NULL;
}

/* NULL, or what was expected. */
static const char *dump_words(dump_job_t *job, int argc, const char *const argv[])
{
    for (int i = 1; i < argc; i++) {
        const char *error = dump_word(job, argv[i]);

        if (error == option_unknown) {
            error = apr_psprintf(job->pool, "expected a word as rlpctl %s --help has it", argv[0]);
        }
        if (error != NULL) {
            return apr_psprintf(job->pool, "%s, got \"%s\"", error, argv[i]);
        }
    }
    return dump_odd(job);
}

/* --- running */

/* A key is nobody else's to read. */
static bool dump_is_public(int fd)
{
    struct stat info;

    return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
           (info.st_mode & (S_IRWXG | S_IRWXO)) != 0;
}

static int dump_run(const dump_job_t *job)
{
    dump_out_t out = { .file = stdout };
    int status = EX_DATAERR;

    if (job->with_key && dump_is_public(STDOUT_FILENO)) {
        return option_fail("expected an output that nobody else can read, since the key is in it: "
                           "umask 077 first",
                           EX_USAGE);
    }
    apr_pool_create(&out.line, job->pool);
    const char *error =
        job->place.file ? dump_file(job, &out, &status) : dump_redis(job, &out, &status);

    if (error != NULL) {
        return option_fail(error, status);
    }
    dump_put_end(&out);
    return option_end(EXIT_SUCCESS);
}

static int load_tell(const dump_job_t *job, const dump_in_t *in, const dump_sum_t *sum)
{
    const struct {
        const char *name;
        uint64_t number;
    } members[] = { { "counters", in->counters },
                    { "overrides", in->overrides },
                    { "loaded", sum->loaded },
                    { "kept", sum->kept },
                    { "over", sum->over },
                    { "crowded", sum->crowded },
                    { "evicted", sum->evicted },
                    { "overrides_loaded", sum->overrides_loaded },
                    { "overrides_kept", sum->overrides_kept } };
    json_out_t out = json_out(job->pool);
    const json_t *object;

    json_open(&out, NULL, '{');
    json_string(&out, "action", job->checks ? "check" : "load");
    for (size_t i = 0; i < (job->checks ? 2 : sizeof(members) / sizeof(members[0])); i++) {
        json_number(&out, members[i].name, (int64_t)members[i].number);
    }
    json_close(&out, '}');
    if (job->json) {
        printf("%.*s\n", (int)out.len, out.text);
    } else if (json_parse(&object, out.text, out.len, job->pool) == NULL) {
        outline_print(object);
    }
    return option_end(sum->kept + sum->crowded + sum->overrides_kept > 0 ? DUMP_KEPT
                                                                         : EXIT_SUCCESS);
}

static int load_run(const dump_job_t *job)
{
    dump_sum_t sum = { .loaded = 0 };
    int status = EX_DATAERR;
    dump_in_t in;
    const char *error = dump_open(&in, job->name ? job->name : "-", job->pool);

    if (error != NULL) {
        return option_fail(error, EX_NOINPUT);
    }
    error =
        job->place.file ? load_file(job, &in, &sum, &status) : load_redis(job, &in, &sum, &status);
    if (error == NULL) {
        return load_tell(job, &in, &sum);
    }
    (void)option_fail(error, status);
    if (sum.loaded + sum.overrides_loaded > 0) {
        (void)load_tell(job, &in, &sum);
        fputs("rlpctl: so far; load it once more\n", stderr);
    }
    return status;
}

#ifndef RLP_REDIS
const char *dump_redis(const dump_job_t *job, dump_out_t *out, int *status)
{
    (void)job;
    (void)out;
    *status = EX_USAGE;
    return "this program was built without Redis";
}

const char *load_redis(const dump_job_t *job, dump_in_t *in, dump_sum_t *sum, int *status)
{
    (void)in;
    (void)sum;
    return dump_redis(job, NULL, status);
}
#endif

int dump_main(int argc, const char *const argv[], apr_pool_t *pool)
{
    dump_job_t job = { .loads = strcmp(argv[0], "load") == 0, .pool = pool };

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(DUMP_USAGE, stdout);
        return EXIT_SUCCESS;
    }
    const char *error = dump_words(&job, argc, argv);

    if (error != NULL) {
        return option_fail(error, EX_USAGE);
    }
    return job.loads ? load_run(&job) : dump_run(&job);
}
