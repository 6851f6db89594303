/* The kernels in AVX2 and FMA with the 8-bit dot products of AVX-VNNI. */
#if defined(__x86_64__)
#include "model/kernels/v16_avx2.h"

#define KERNELS kernels_avxvnni
#define KERNELS_NAME "avxvnni"
#define KERNELS_QUANT quant_avxvnni
/* 16 registers: two per accumulator, and room for the weights. */
#define TILE_ROWS 5
#define TILE_PANELS(rows) ((rows) == 1 ? 4 : (rows) == 2 ? 2 : 1)
#define ATTENTION_QUERIES 2

#include "model/kernels/kernels_body.h"
#endif
