/* Products with quantised weights in AVX2. */
#if defined(__x86_64__)
#include "model/kernels/v16_avx2.h"

#define QUANT_TABLE quant_avx2
#define QUANT_PANELS 1
#define QUANT_ROWS_AT_ONCE 4

#include "model/kernels/quant_body.h"
#endif
