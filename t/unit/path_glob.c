/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Patterns of paths: the cases, hostile ones, and random ones against a table of all rests. The
 * matcher is compiled to count its steps.
 */

#include "glob.h"
#include "unit.h"

#include <apr_strings.h>

#include <string.h>

#define PATTERNS 20000
#define PATHS 20 /* for each */

/*
 * Calls of the matcher's functions, each of which reads one segment at most. Calls, since compilers
 * and sanitizers agree about them, inlined or not; of basic blocks each makes a number of its own.
 */
static uint64_t steps;

/* By the names that the compiler calls in each of them. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*) */
void __cyg_profile_func_enter(void *function, void *caller);
void __cyg_profile_func_exit(void *function, void *caller);

void __cyg_profile_func_enter(void *function, void *caller)
{
    (void)function;
    (void)caller;
    steps++;
}

void __cyg_profile_func_exit(void *function, void *caller)
{
    (void)function;
    (void)caller;
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */

static const struct row {
    const char *id;
    const char *glob;
    const char *match[8];
    const char *differ[8];
} rows[] = {
    { "R-13 R-14",
      "/items/*",
      { "/items/1", "/items/abc" },
      { "/items", "/items/", "/items/1/edit" } },
    { "R-15", "/v1/*/123", { "/v1/items/123", "/v1/posts/123" }, { "/v1/posts/999", "/v1/123" } },
    { "R-16 R-17",
      "/api/**",
      { "/api", "/api/users", "/api/v1/orders/123" },
      { "/apix/v1", "/ap", "/", "/x/api" } },
    { "R-18 R-20",
      "/api/**/health",
      { "/api/health", "/api/v1/health", "/api/v1/internal/health", "/api/health/health" },
      { "/api", "/api/v1", "/api/health/x", "/api/xhealth", "/api/healthx" } },
    { "R-22 R-23",
      "/items",
      { "/items", "/items/", "//items", "/items//" },
      { "/", "/item", "/items/x" } },
    { "R-22", "/items/", { "/items", "/items/" }, { "/items/x" } },
    { "R-25", "/items", { "/items" }, { "/Items", "/ITEMS" } },
    { "R-04", "/**", { "/", "", "/any/deep/path", "*" }, { NULL } },
    { "the root", "/", { "/", "//", "" }, { "/x", "*" } },
    { "one segment", "/*", { "/x", "/x/" }, { "/", "/x/y" } },
    { "what precedes **", "/**/b", { "/b", "/a/b", "/b/b" }, { "/", "/b/a", "/ab" } },
    { "** twice", "/a/**/b/**/c", { "/a/b/c", "/a/x/b/y/c", "/a/b/b/c/c" }, { "/a/c", "/a/c/b" } },
    { "** beside **", "/a/**/**/b", { "/a/b", "/a/x/b" }, { "/a", "/b" } },
    { "** and one segment", "/a/**/*", { "/a/b", "/a/b/c" }, { "/a", "/b/c" } },
};

static path_glob_t *glob_of(const char *text)
{
    path_glob_t *glob = NULL;
    const char *error = glob_compile(&glob, text, unit_pool());

    if (error != NULL) {
        fail_msg("%s: %s", text, error);
    }
    return glob;
}

static void test_row(void **state)
{
    const struct row *row = unit_row(state);
    const path_glob_t *glob = glob_of(row->glob);

    assert_string_equal(glob_text(glob), row->glob);
    for (int i = 0; i < 8 && row->match[i] != NULL; i++) {
        if (!glob_matches(glob, row->match[i])) {
            fail_msg("%s does not match %s", row->glob, row->match[i]);
        }
    }
    for (int i = 0; i < 8 && row->differ[i] != NULL; i++) {
        if (glob_matches(glob, row->differ[i])) {
            fail_msg("%s matches %s", row->glob, row->differ[i]);
        }
    }
}

static void test_wrong(void **state)
{
    static const char *const wrong[] = { "",       "items", "*",      "**",    "/***",
                                         "/a*",    "/*.js", "/a/**b", "//",    "/a//b",
                                         "/a/./b", "/../a", "/a/..",  "/****", "/***/" };
    path_glob_t *glob = NULL;
    const char *longest = "";

    (void)state;
    for (size_t i = 0; i < UNIT_N(wrong); i++) {
        if (glob_compile(&glob, wrong[i], unit_pool()) == NULL) {
            fail_msg("%s is accepted", wrong[i]);
        }
    }
    for (int i = 0; i < GLOB_SEGMENTS_MAX; i++) {
        longest = apr_pstrcat(unit_pool(), longest, "/a", NULL);
    }
    assert_null(glob_compile(&glob, longest, unit_pool()));
    assert_true(glob_matches(glob, longest));
    longest = apr_pstrcat(unit_pool(), longest, "/a", NULL);
    assert_non_null(glob_compile(&glob, longest, unit_pool()));
}

static const char *repeated(const char *text, int n, const char *end)
{
    const size_t len = strlen(text);
    char *all = apr_palloc(unit_pool(), len * (size_t)n + strlen(end) + 1);

    for (size_t i = 0; i < len * (size_t)n; i++) {
        all[i] = text[i % len];
    }
    strcpy(all + len * (size_t)n, end);
    return all;
}

static uint64_t steps_of(const path_glob_t *glob, const char *path)
{
    const uint64_t before = steps;

    assert_false(glob_matches(glob, path));
    return steps - before;
}

/* Steps, not a time, which would be that of the machine and of what else it does. */
static void test_hostile(void **state)
{
    (void)state;
    /* 81 segments: each is skipped, compared, and met by a "**" or two */
    assert_in_range(steps_of(glob_of(repeated("/**/a", 6, "/b")), repeated("/a", 81, "")), 2 * 81,
                    6 * 81);
    /* the longest line that httpd reads, and the pattern that compares most often: 31 segments at
       each place, each skipped and compared, and the "**" */
    assert_in_range(steps_of(glob_of(repeated("/**", 1, repeated("/a", 30, "/b"))),
                             repeated("/a", 4090, "")),
                    2 * 31 * 4000, 64 * 4090);
}

/* Twice as much more path, at most twice as many more steps; and not many for a segment. */
static void test_linear(void **state)
{
    static const struct {
        const char *text; /* six times */
        const char *end;
    } hostile[] = {
        { "/**/a", "/b" },   { "/**/a", "/a/b" },  { "/**", "/b" },         { "/**/*", "/b" },
        { "/**/a/*", "/b" }, { "/**/aaaa", "/b" }, { "/**/a/a/a/a", "/b" },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(hostile); i++) {
        const path_glob_t *glob = glob_of(repeated(hostile[i].text, 6, hostile[i].end));
        uint64_t before = steps_of(glob, repeated("/a", 81, "/c"));
        uint64_t growth = 0;

        for (uint64_t n = 162; n <= 81 << 7; n *= 2) {
            const uint64_t now = steps_of(glob, repeated("/a", (int)n, "/c"));

            assert_in_range(now, n, 12 * n);
            assert_true(growth == 0 || now - before <= 2 * growth);
            growth = now - before;
            before = now;
        }
    }
}

/* --- against a table */

#define SEGMENTS_MAX 7

typedef struct {
    int n;
    const char *segments[SEGMENTS_MAX];
} parts_t;

/* Does the rest of the pattern match the rest of the path, for all rests from the shortest on? */
static bool tabled(const parts_t *glob, const parts_t *path)
{
    bool matches[SEGMENTS_MAX + 1][SEGMENTS_MAX + 2] = { { false } };

    matches[glob->n][path->n] = true;
    for (int i = glob->n - 1; i >= 0; i--) {
        const char *segment = glob->segments[i];
        const bool any = strcmp(segment, "**") == 0;

        for (int k = path->n; k >= 0; k--) {
            const bool one = k < path->n &&
                             (strcmp(segment, "*") == 0 || strcmp(segment, path->segments[k]) == 0);

            matches[i][k] =
                any ? matches[i + 1][k] || matches[i][k + 1] : one && matches[i + 1][k + 1];
        }
    }
    return matches[0][0];
}

/* Joins random words; the path of none is "/". */
static const char *random_parts(parts_t *parts, const char *const words[], uint64_t n,
                                uint64_t *random, apr_pool_t *pool)
{
    const char *text = "";

    parts->n = (int)unit_below(random, SEGMENTS_MAX + 1);
    for (int i = 0; i < parts->n; i++) {
        parts->segments[i] = words[unit_below(random, n)];
        text = apr_pstrcat(pool, text, "/", parts->segments[i], NULL);
    }
    return parts->n ? text : "/";
}

static void test_random(void **state)
{
    static const char *const glob_words[] = { "**", "**", "*", "a", "b", "ab" };
    static const char *const path_words[] = { "a", "b", "ab" };
    uint64_t random = unit_seed();
    apr_pool_t *pool = NULL;
    int matches = 0;

    (void)state;
    assert_int_equal(apr_pool_create(&pool, unit_pool()), APR_SUCCESS);
    for (int i = 0; i < PATTERNS; i++) {
        parts_t glob_parts;
        parts_t path_parts;
        path_glob_t *glob = NULL;
        const char *text = random_parts(&glob_parts, glob_words, UNIT_N(glob_words), &random, pool);

        assert_null(glob_compile(&glob, text, pool));
        for (int k = 0; k < PATHS; k++) {
            const char *path =
                random_parts(&path_parts, path_words, UNIT_N(path_words), &random, pool);
            const bool expected = tabled(&glob_parts, &path_parts);
            const uint64_t before = steps;

            matches += expected;
            if (glob_matches(glob, path) != expected) {
                fail_msg("%s %s %s", text, expected ? "does not match" : "matches", path);
            }
            assert_in_range(steps - before, 1,
                            3 * ((uint64_t)glob_parts.n + 2) * ((uint64_t)path_parts.n + 1));
        }
        apr_pool_clear(pool);
    }
    assert_in_range(matches, PATTERNS, PATTERNS * PATHS / 2);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        unit_add_case(rows[i].id, rows[i].glob, test_row, &rows[i]);
    }
    unit_add("wrong patterns", test_wrong, NULL);
    unit_add("R-28: six ** against 81 segments, and the most there can be", test_hostile, NULL);
    unit_add("R-28: steps grow as the path does, however many ** there are", test_linear, NULL);
    unit_add("random patterns, against a table of all rests", test_random, NULL);
    return unit_run();
}
