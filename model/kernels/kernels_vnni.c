/* The kernels in AVX-512 with its 8-bit dot products (VNNI). */
#if defined(__x86_64__)
#include "model/kernels/v16_avx512.h"

#define KERNELS kernels_vnni
#define KERNELS_NAME "vnni"
#define KERNELS_QUANT quant_vnni
/* 32 registers: enough chains to hide the latency of fma (8), and room for the weights. */
#define TILE_ROWS 8
#define TILE_PANELS(rows) ((rows) <= 2 ? 8 : (rows) <= 4 ? 4 : (rows) <= 6 ? 3 : 2)
#define ATTENTION_QUERIES 4

#include "model/kernels/kernels_body.h"
#endif
