/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef JOINT_H
#define JOINT_H

/*
 * Several stores as one, for stores that are made of others.
 */

#include "rlp.h"

/* Says to which part each charge goes. */
typedef void joint_choose_fn(int part[], const rlp_charge_t charges[], int n);

/* As rlp_joint_create(), but asked in the order given, and one that cannot be asked is the failure
   of all. */
rlp_store_t *joint_create(rlp_store_t *const stores[], int n, joint_choose_fn *choose,
                          apr_pool_t *pool);

#endif
