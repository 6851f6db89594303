/* Products with quantised weights in AVX-512. */
#if defined(__x86_64__)
#include "model/kernels/v16_avx512.h"

#define QUANT_TABLE quant_avx512
#define QUANT_TILE_1 6
#define QUANT_TILE_2 4

#include "model/kernels/quant_body.h"
#endif
