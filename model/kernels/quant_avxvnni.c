/* Products with quantised weights in AVX2 with the 8-bit dot products of AVX-VNNI. */
#if defined(__x86_64__)
#include "model/kernels/v16_avx2.h"

#define QUANT_TABLE quant_avxvnni
#define QUANT_PANELS 1
#define QUANT_ROWS_AT_ONCE 6

#include "model/kernels/quant_body.h"
#endif
