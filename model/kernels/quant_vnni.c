/* Products with quantised weights in AVX-512 with its 8-bit dot products (VNNI). */
#if defined(__x86_64__)
#include "model/kernels/v16_avx512.h"

#define QUANT_TABLE quant_vnni
#define QUANT_PANELS 4
#define QUANT_ROWS_AT_ONCE 6
#define QUANT_ROWS_FEW 9

#include "model/kernels/quant_body.h"
#endif
