/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "retained.h"

#include <httpd.h>

#include <http_config.h>

#include <sys/mman.h>

static void *retained_make(size_t size, apr_status_t (*begin)(void *memory))
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        return NULL;
    }
    if (begin != NULL && begin(memory) != APR_SUCCESS) {
        (void)munmap(memory, size);
        return NULL;
    }
    return memory;
}

void *retained_memory(const char *name, size_t size, apr_status_t (*begin)(void *memory))
{
    void **retained = ap_retained_data_get(name);

    if (retained == NULL) {
        retained = ap_retained_data_create(name, sizeof(*retained)); /* NULL at first */
    }
    if (*retained == NULL) {
        *retained = retained_make(size, begin);
    }
    return *retained;
}
