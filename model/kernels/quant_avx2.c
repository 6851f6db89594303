/* Products with quantised weights in AVX2. */
#if defined(__x86_64__)
#include "model/kernels/v16_avx2.h"

#define QUANT_TABLE quant_avx2
#define QUANT_TILE_1 4
#define QUANT_TILE_2 0

#include "model/kernels/quant_body.h"
#endif
