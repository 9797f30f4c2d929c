/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "outline.h"

#include <stdio.h>
#include <string.h>

#define OUTLINE_COLUMNS 16

static const char *outline_text(const json_t *value)
{
    switch (value->kind) {
    case JSON_STRING:
    case JSON_NUMBER:
        return value->text;
    case JSON_TRUE:
        return "yes";
    case JSON_FALSE:
        return "no";
    case JSON_NULL:
    case JSON_OBJECT:
    case JSON_ARRAY:
        break;
    }
    return "-";
}

/* Prints the text and blanks up to the width. */
static void outline_put(const char *text, int width)
{
    int n = 0;

    for (; *text != '\0'; text++, n++) {
        putchar(*text < ' ' || *text > '~' ? '?' : *text);
    }
    for (; n < width; n++) {
        putchar(' ');
    }
}

static bool outline_is_list(const json_t *value)
{
    return value->kind == JSON_OBJECT || value->kind == JSON_ARRAY;
}

static bool outline_has_list(const json_t *object)
{
    bool has = object->kind != JSON_OBJECT || object->items->nelts > OUTLINE_COLUMNS;

    for (int i = 0; !has && i < object->items->nelts; i++) {
        has = outline_is_list(&APR_ARRAY_IDX(object->items, i, const json_t));
    }
    return has;
}

/* Objects of the same names, each with a word. */
static bool outline_is_table(const json_t *array)
{
    const json_t *first = &APR_ARRAY_IDX(array->items, 0, const json_t);
    bool table = array->items->nelts > 0;

    for (int i = 0; table && i < array->items->nelts; i++) {
        const json_t *row = &APR_ARRAY_IDX(array->items, i, const json_t);

        table = !outline_has_list(row) && row->items->nelts == first->items->nelts;
    }
    return table;
}

static int outline_width(const json_t *array, int column)
{
    const json_t *first = &APR_ARRAY_IDX(array->items, 0, const json_t);
    size_t width = strlen(APR_ARRAY_IDX(first->items, column, const json_t).name);

    for (int i = 0; i < array->items->nelts; i++) {
        const json_t *row = &APR_ARRAY_IDX(array->items, i, const json_t);
        const size_t len = strlen(outline_text(&APR_ARRAY_IDX(row->items, column, const json_t)));

        width = len > width ? len : width;
    }
    return (int)width;
}

/* One line of a table; row -1: its head. */
static void outline_row(const json_t *array, int row, const int widths[], int indent)
{
    const json_t *object = &APR_ARRAY_IDX(array->items, row < 0 ? 0 : row, const json_t);
    const int n = object->items->nelts;

    outline_put("", indent);
    for (int i = 0; i < n; i++) {
        const json_t *item = &APR_ARRAY_IDX(object->items, i, const json_t);

        outline_put(row < 0 ? item->name : outline_text(item), i + 1 < n ? widths[i] + 2 : 0);
    }
    putchar('\n');
}

static void outline_table(const json_t *array, int indent)
{
    const json_t *first = &APR_ARRAY_IDX(array->items, 0, const json_t);
    int widths[OUTLINE_COLUMNS] = { 0 };

    for (int i = 0; i < first->items->nelts; i++) {
        widths[i] = outline_width(array, i);
    }
    for (int i = -1; i < array->items->nelts; i++) {
        outline_row(array, i, widths, indent);
    }
}

static void outline_object(const json_t *object, int indent);

/* NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX bounds it */
static void outline_array(const json_t *array, int indent)
{
    if (outline_is_table(array)) {
        outline_table(array, indent);
        return;
    }
    for (int i = 0; i < array->items->nelts; i++) {
        const json_t *item = &APR_ARRAY_IDX(array->items, i, const json_t);

        if (i > 0) {
            putchar('\n');
        }
        if (item->kind == JSON_OBJECT) {
            outline_object(item, indent);
        } else {
            outline_put("", indent);
            outline_put(outline_text(item), 0);
            putchar('\n');
        }
    }
}

/* NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX bounds it */
static void outline_member(const json_t *member, int indent, int width)
{
    outline_put("", indent);
    if (!outline_is_list(member)) {
        outline_put(member->name, width + 2);
        outline_put(outline_text(member), 0);
        putchar('\n');
        return;
    }
    outline_put(member->name, 0);
    puts(member->items->nelts == 0 ? "  -" : "");
    if (member->kind == JSON_OBJECT) {
        outline_object(member, indent + 2);
    } else if (member->items->nelts > 0) {
        outline_array(member, indent + 2);
    }
}

/* NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX bounds it */
static void outline_object(const json_t *object, int indent)
{
    size_t width = 0;

    for (int i = 0; i < object->items->nelts; i++) {
        const json_t *member = &APR_ARRAY_IDX(object->items, i, const json_t);
        const size_t len = strlen(member->name);

        width = !outline_is_list(member) && len > width ? len : width;
    }
    for (int i = 0; i < object->items->nelts; i++) {
        outline_member(&APR_ARRAY_IDX(object->items, i, const json_t), indent, (int)width);
    }
}

void outline_print(const json_t *object)
{
    outline_object(object, 0);
}
