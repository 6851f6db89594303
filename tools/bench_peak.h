/* What the machine could do at best, to hold passes to: memory read by all lanes of a team at once,
 * and the arithmetic instruction that the chosen kernels multiply with. For bench_shape.c. */
#ifndef TOOLS_BENCH_PEAK_H
#define TOOLS_BENCH_PEAK_H

#include <stddef.h>

#include "model/kernels/kernels.h"
#include "model/team.h"

struct area {
    const void *data; /* aligned to 64 bytes */
    size_t size;      /* bytes */
};

/* Bytes per second at which the team reads the areas once, each lane its share of every area. */
double peak_bandwidth(struct team *team, const struct area *areas, int n);

/* The instruction with which `kernels` (after kernels_init) multiply weights of that type:
 * "vfmadd" for f32 and bf16; for q8 and q4 "tdpbsud" on amx and "vpdpbusd" on vnni. NULL when it
 * is none of these. */
const char *peak_instruction(enum weight_type type);

/* Additions and multiplications per second of that instruction, on all lanes, out of registers;
 * 0 without instruction. */
double peak_arithmetic(struct team *team, enum weight_type type);

#endif
