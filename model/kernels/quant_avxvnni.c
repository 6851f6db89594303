/* Products with quantised weights in AVX2 with the 8-bit dot products of AVX-VNNI. */
#if defined(__x86_64__)
#include "model/kernels/v16_avx2.h"

#define QUANT_TABLE quant_avxvnni
#define QUANT_TILE_1 6
#define QUANT_TILE_2 0

#include "model/kernels/quant_body.h"
#endif
