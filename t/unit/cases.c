/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The table cases.txt against the library.
 */

#include "case_table.h"

static void ask(rlp_op_kind_t kind, rlp_charge_t charges[], int n, const rlp_question_t *question,
                rlp_answer_t *answer)
{
    static rlp_store_t *store;

    if (store == NULL) {
        assert_int_equal(rlp_memory_create(&store, unit_pool()), APR_SUCCESS);
    }
    assert_int_equal((kind == RLP_PEEK ? rlp_peek : rlp_check)(store, charges, n, question, answer),
                     APR_SUCCESS);
}

int main(void)
{
    return case_table_add("", ask, NULL) ? unit_run() : 1;
}
