/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef OUTLINE_H
#define OUTLINE_H

/*
 * JSON for people: names and values in lines, lists of alike objects as tables.
 */

#include "json.h"

/* Prints an object to standard output. What is no sign of ASCII is shown as "?": nothing of it can
   drive a terminal. */
void outline_print(const json_t *object);

#endif
