/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef RETAINED_H
#define RETAINED_H

/* Memory without a file, shared by all children and kept by restarts. */

#include <apr_errno.h>

#include <stddef.h>

#pragma GCC visibility push(hidden)

/* In the parent: the memory of this name, the same each time. It is all zero, and then as begin,
   which may be NULL, has made it; if that fails, or there is no memory, it is NULL. Since this
   module is unloaded in between and another build of it may be loaded next, it holds plain data,
   and its name changes with their layout. */
void *retained_memory(const char *name, size_t size, apr_status_t (*begin)(void *memory));

#pragma GCC visibility pop

#endif
