/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/slot.h"

#include <string.h>

uint16_t redis_crc16(const char *data, size_t len)
{
    unsigned crc = 0;

    for (size_t i = 0; i < len; i++) {
        crc ^= (unsigned)(unsigned char)data[i] << 8;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1;
        }
        crc &= 0xffff;
    }
    return (uint16_t)crc;
}

int redis_slot(const char *key, size_t len)
{
    const char *open = memchr(key, '{', len);
    const char *tag = open == NULL ? NULL : open + 1;
    const char *close = tag == NULL ? NULL : memchr(tag, '}', len - (size_t)(tag - key));

    if (close != NULL && close > tag) {
        return redis_crc16(tag, (size_t)(close - tag)) % REDIS_SLOTS;
    }
    return redis_crc16(key, len) % REDIS_SLOTS;
}
