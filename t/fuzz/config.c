/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The text of a configuration: what is wrong in it is refused with the directive's name and what
 * was expected; what is not is checked as a whole, merged, and said in words. The same text says
 * the same twice.
 */

#include "fuzz.h"
#include "httpd.h"

#include <apr_strings.h>

#include <string.h>

const char fuzz_name[] = "config";

static server_conf_t *config_host(const server_rec *server)
{
    return *(server_conf_t **)(void *)server->module_config;
}

static dir_conf_t *config_defaults(const server_rec *server)
{
    return *(dir_conf_t **)(void *)server->lookup_defaults;
}

/* Every host over the main one, every section over every host. */
static void config_merge_all(const httpd_conf_t *conf, apr_pool_t *pool)
{
    for (const server_rec *server = conf->main; server != NULL; server = server->next) {
        const server_conf_t *merged =
            config_merge_server(pool, config_host(conf->main), config_host(server));
        dir_conf_t *dir =
            config_merge_dir(pool, config_defaults(conf->main), config_defaults(server));

        fuzz_expect(merged->maps->nelts >= config_host(server)->maps->nelts,
                    "a host keeps its maps");
        for (int i = 0; i < conf->places->nelts; i++) {
            dir_conf_t *add = APR_ARRAY_IDX(conf->places, i, dir_conf_t *);

            dir = config_merge_dir(pool, dir, add);
            for (int k = 0; k < dir->rules->nelts; k++) {
                fuzz_expect(config_rule_index(dir->rules,
                                              APR_ARRAY_IDX(dir->rules, k, rule_t *)->name) == k,
                            "a rule's name is there once");
            }
        }
    }
}

/* The rules in words. */
static const char *config_words(bool sound, apr_pool_t *pool)
{
    const char *text = apr_pstrcat(pool, sound ? "sound " : "wrong ", dump_store_words(pool), NULL);

    for (int i = 0; sound && i < rlp_world->rules->nelts; i++) {
        const char *words =
            dump_rule_words(APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *), pool);

        fuzz_expect(*words != '\0', "a rule has words");
        text = apr_pstrcat(pool, text, "\n", words, NULL);
    }
    return text;
}

/* What becomes of a text. */
static const char *config_try(const char *text, apr_pool_t *pool)
{
    httpd_conf_t conf;

    httpd_read(&conf, text, pool);
    if (conf.error != NULL) {
        fuzz_expect(strncmp(conf.error, conf.directive, strlen(conf.directive)) == 0,
                    "a refusal begins with the directive");
        return conf.error;
    }
    const bool sound = rule_check_all(conf.main, pool);

    if (sound) {
        config_merge_all(&conf, pool);
    }
    return config_words(sound, pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    const char *text = apr_pstrmemdup(pool, (const char *)data, size);
    const char *first = config_try(text, pool);

    fuzz_expect(strcmp(first, config_try(text, pool)) == 0, "a text says the same twice");
    return 0;
}
