/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_SLOT_H
#define REDIS_SLOT_H

/*
 * Where a key lies in Redis Cluster.
 */

#include <stddef.h>
#include <stdint.h>

#define REDIS_SLOTS 16384

/* The checksum of Redis Cluster: CRC-16/XMODEM. */
uint16_t redis_crc16(const char *data, size_t len);

/* The slot of a key: of what stands between its first { and the next }, if that is not empty. */
int redis_slot(const char *key, size_t len);

#endif
