/* Products with quantised weights in plain C. */
#include "model/kernels/v16_generic.h"

#define QUANT_TABLE quant_generic
#define QUANT_TILE_1 4
#define QUANT_TILE_2 0

#include "model/kernels/quant_body.h"
