/* The kernels in AVX2 and FMA. */
#if defined(__x86_64__)
#include "model/kernels/v16_avx2.h"

#define KERNELS kernels_avx2
#define KERNELS_NAME "avx2"
#define KERNELS_QUANT quant_avx2
/* 16 registers: two per accumulator, and room for the weights. */
#define TILE_ROWS 5
#define TILE_PANELS(rows) ((rows) == 1 ? 4 : (rows) == 2 ? 2 : 1)
#define ATTENTION_QUERIES 2

#include "model/kernels/kernels_body.h"
#endif
