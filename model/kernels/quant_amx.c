/* Products with quantised weights on the processor's 8-bit matrix unit (AMX): whole numbers like
 * those of the other paths, and the same floats from them in the same order.
 *
 * A tile register holds 16 rows of 64 bytes. tdpbsud adds to C (rows, 16 channels) the product of
 * A (rows, 32 signed codes of one group) and B (8 vectors of the packed group: 4 inputs of each of
 * 16 channels). The unit takes 16 rows in the time of one, so what remains of a row's costs is the
 * scaling of each group. */
#include "model/kernels/quant_amx.h"

#if defined(__x86_64__)
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "model/kernels/v16_avx512.h"

#define TILE_ROWS 16
#define GROUPS                                                                                     \
    16        /* taken through each step together: steps wait for memory, not for each other       \
               */
#define FEW 2 /* rows that are quicker without the unit, whose work they would not fill */

bool amx_int8_available(void)
{
    const long request_permission = 0x1023, tile_data = 18;
    unsigned eax = 7, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    bool has = (edx >> 24 & 1) && (edx >> 25 & 1) && __builtin_cpu_supports("avx512vnni");
    return has && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

/* Tiles 0..3 are C, 4 and 5 A, 6 and 7 B. */
static void configure(int rows)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.colsb[i] = i == 4 || i == 5 ? GROUP : 64;
        config.rows[i] = (uint8_t)(i < 6 ? rows : 8);
    }
    /* gcc 12 believes that only 8 bytes are read, and drops stores to the others. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

struct product {
    const int8_t *codes; /* of the first row */
    const float *scale;
    const int32_t *offset;
    size_t groups;
    int32_t c[GROUPS][TILE_ROWS][PANEL] __attribute__((aligned(64)));
    uint8_t unpacked[GROUPS][GROUP * PANEL] __attribute__((aligned(64)));
    float sum[TILE_ROWS][PANEL] __attribute__((aligned(64)));
};

/* n groups of q4 as q8. */
static const uint8_t *unpack(struct product *p, const uint8_t *codes, int n)
{
    for (int j = 0; j < 4 * n; j++) {
        v64u low, high;
        uint8_t *to = p->unpacked[j / 4] + 64 * (j % 4);
        v64u_load_nibbles(codes + 64 * j, &low, &high);
        _mm512_store_si512(to, low);
        _mm512_store_si512(to + 256, high);
    }
    return p->unpacked[0];
}

/* Tile numbers are constants to the instructions. */
#define MULTIPLY(i, t, a, b)                                                                       \
    _tile_loadd(a, codes + (i)*GROUP, stride);                                                     \
    _tile_loadd(b, w + (size_t)(i)*GROUP * PANEL, 64);                                             \
    _tile_zero(t);                                                                                 \
    _tile_dpbsud(t, a, b);                                                                         \
    _tile_stored(t, c + (i), PANEL * 4);

/* Whole-number products of n groups, whose weights stand at w as in q8. */
static void multiply(struct product *p, const int8_t *codes, const uint8_t *w, int n)
{
    long stride = (long)(p->groups * GROUP);
    int32_t(*c)[TILE_ROWS][PANEL] = p->c;
    for (; n >= 4; n -= 4, codes += 4 * GROUP, w += 4 * GROUP * PANEL, c += 4) {
        MULTIPLY(0, 0, 4, 6)
        MULTIPLY(1, 1, 5, 7)
        MULTIPLY(2, 2, 4, 6)
        MULTIPLY(3, 3, 5, 7)
    }
    for (; n > 0; n--, codes += GROUP, w += GROUP * PANEL, c++) {
        MULTIPLY(0, 0, 4, 6)
    }
}

/* Scales n groups of R rows from r on and adds them to their sums. */
V16_INLINE void scale(struct product *p, const uint8_t *scales, size_t g, int n, int r, const int R)
{
    v16 sum[4];
    for (int i = 0; i < R; i++)
        sum[i] = v16_load(p->sum[r + i]);
    for (int j = 0; j < n; j++) {
        v16 channel = v16_load_f16((const uint16_t *)(scales + (g + (size_t)j) * PANEL * 2));
        for (int i = 0; i < R; i++) {
            size_t at = (size_t)(r + i) * p->groups + g + (size_t)j;
            v16i dot =
                _mm512_add_epi32(_mm512_loadu_si512(p->c[j][r + i]), v16i_set(p->offset[at]));
            sum[i] = v16_fma(v16i_float(dot), v16_mul(channel, v16_set(p->scale[at])), sum[i]);
        }
    }
    for (int i = 0; i < R; i++)
        v16_store(p->sum[r + i], sum[i]);
}

V16_INLINE void panel_rows(struct product *p, int rows, const uint8_t *panel, size_t group_bytes,
                           const bool packed)
{
    const uint8_t *scales = panel + p->groups * group_bytes;
    memset(p->sum, 0, sizeof p->sum);
    for (size_t g = 0; g < p->groups; g += GROUPS) {
        int n = p->groups - g < GROUPS ? (int)(p->groups - g) : GROUPS, r = 0;
        const uint8_t *w = panel + g * group_bytes;
        multiply(p, p->codes + g * GROUP, packed ? unpack(p, w, n) : w, n);
        /* The next groups come from memory while these are scaled. */
        for (size_t ahead = 0; ahead < GROUPS * group_bytes; ahead += 64)
            _mm_prefetch((const char *)w + GROUPS * group_bytes + ahead, _MM_HINT_T0);
        for (; r + 4 <= rows; r += 4)
            scale(p, scales, g, n, r, 4);
        for (; r < rows; r++)
            scale(p, scales, g, n, r, 1);
    }
}

V16_INLINE void linear(enum weight_type type, const struct quant_rows *x, int rows, const void *w,
                       int first, int last, const float *residual, float *y, size_t y_stride)
{
    if (rows <= FEW) {
        kernels_vnni.linear_quant[type](x, rows, w, first, last, residual, y, y_stride);
        return;
    }
    struct product p;
    p.groups = (size_t)x->groups;
    size_t panel_bytes = quant_panel_bytes(type, x->groups * GROUP);
    int whole = rows < TILE_ROWS ? rows : TILE_ROWS;
    configure(whole);
    for (int panel = first; panel < last; panel++)
        for (int r = 0; r < rows; r += TILE_ROWS) {
            /* The last block of many begins early, on rows that were done before. */
            size_t from = (size_t)(r + whole <= rows ? r : rows - whole);
            size_t at = from * y_stride + (size_t)panel * PANEL;
            p.codes = x->codes + from * p.groups * GROUP;
            p.scale = x->scale + from * p.groups;
            p.offset = x->offset + from * p.groups;
            panel_rows(&p, whole, (const uint8_t *)w + (size_t)panel * panel_bytes,
                       type == WEIGHT_Q8 ? GROUP * PANEL : GROUP * PANEL / 2, type == WEIGHT_Q4);
            for (int i = r - (int)from; i < whole; i++) {
                size_t to = at + (size_t)i * y_stride;
                v16 sum = v16_load(p.sum[i]);
                v16_store(y + to, residual ? v16_add(v16_load(residual + to), sum) : sum);
            }
        }
    _tile_release();
}

static void linear_q8(const struct quant_rows *x, int rows, const void *w, int first, int last,
                      const float *residual, float *y, size_t y_stride)
{
    linear(WEIGHT_Q8, x, rows, w, first, last, residual, y, y_stride);
}

static void linear_q4(const struct quant_rows *x, int rows, const void *w, int first, int last,
                      const float *residual, float *y, size_t y_stride)
{
    linear(WEIGHT_Q4, x, rows, w, first, last, residual, y, y_stride);
}

void amx_int8_take(struct kernels *table)
{
    table->name = "amx";
    table->linear_quant[WEIGHT_Q8] = linear_q8;
    table->linear_quant[WEIGHT_Q4] = linear_q4;
}
#endif
