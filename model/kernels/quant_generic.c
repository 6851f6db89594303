/* Products with quantised weights in plain C. */
#include "model/kernels/v16_generic.h"

#define QUANT_TABLE quant_generic
#define QUANT_PANELS 1
#define QUANT_ROWS_AT_ONCE 4

#include "model/kernels/quant_body.h"
