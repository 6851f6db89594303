/* Products with quantised weights in AVX-512 with its 8-bit dot products (VNNI). */
#if defined(__x86_64__)
#include "model/kernels/v16_avx512.h"

#define QUANT_TABLE quant_vnni
#define QUANT_TILE_1 9
#define QUANT_TILE_2 6

#include "model/kernels/quant_body.h"
#endif
