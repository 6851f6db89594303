/* Products with quantised weights in AVX-512. */
#if defined(__x86_64__)
#include "model/kernels/v16_avx512.h"

#define QUANT_TABLE quant_avx512
#define QUANT_PANELS 2
#define QUANT_ROWS_AT_ONCE 4

#include "model/kernels/quant_body.h"
#endif
