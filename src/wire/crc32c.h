#pragma once
// CRC-32C (Castagnoli), as record batches and our own files use it.

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t len);
// Goes on from the crc of what came before: crc32c_extend(crc32c(a), b) is the crc of a then b.
uint32_t crc32c_extend(uint32_t crc, const void *data, size_t len);
