#pragma once
// CRC-32C (Castagnoli), as record batches carry it. In hardware where the processor has it.

#include <stddef.h>
#include <stdint.h>

// Goes on from `crc`, which is 0 at the start: crc32c(crc32c(0, a), b) is that of a and b joined.
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
// The portable form, for tests and other processors.
uint32_t crc32c_soft(uint32_t crc, const void *data, size_t len);
