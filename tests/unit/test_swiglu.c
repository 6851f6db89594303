/* The feed-forward network in one step, whose inner rows never stand anywhere as floats when they
 * are to be quantised: the same bits as its parts one after another, for all types of both
 * matrices, any shape, number of rows and of lanes, on every kernel path. */
#include "model/linear.h"
#include "tests/unit/matrices.h"
#include "tests/unit/unit.h"

#define DIM_MOST 512
#define HIDDEN_MOST 768
#define ROWS_MOST 140 /* more than two lots of QUANT_ROWS */

struct network {
    int dim, hidden, rows;
    struct drawn file[3]; /* gate, up (hidden, dim); down (dim, hidden) */
    struct linear gated, gate, up, down;
    struct region memory;
    float x[ROWS_MOST * DIM_MOST], y[ROWS_MOST * DIM_MOST];
    char act[ROWS_MOST * HIDDEN_MOST * 4 + 65536];
};

/* Any type, as it is in the file or converted, with inputs that are a multiple of `inputs`. */
static enum weight_type type_draw(struct draws *d, int inputs)
{
    enum weight_type type;
    do
        type = (enum weight_type)draw_below(d, WEIGHT_TYPES);
    while (inputs % inputs_of_type(type));
    return type;
}

static int width_draw(struct draws *d, int most)
{
    static const int units[] = {16, GROUP, BLOCK};
    int unit = units[draw_below(d, 3)], n = most / unit;
    return unit * (1 + draw_below(d, n < 20 ? n : 20));
}

static void network_draw(struct network *n, struct draws *d)
{
    static const int types[] = {WEIGHT_F32, WEIGHT_BF16, WEIGHT_Q8, WEIGHT_Q4};
    struct err err;
    n->dim = width_draw(d, DIM_MOST);
    n->hidden = width_draw(d, HIDDEN_MOST);
    n->rows = 1 + draw_below(d, draw_below(d, 3) ? 20 : ROWS_MOST);
    int as = draw_below(d, 4) ? WEIGHT_STORED : types[draw_below(d, 4)];
    struct matrix m[3];
    for (int i = 0; i < 3; i++) {
        int rows = i < 2 ? n->hidden : n->dim, inputs = i < 2 ? n->dim : n->hidden;
        enum weight_type type = type_draw(d, inputs);
        if (i == 1 && draw_below(d, 2))
            type = m[0].type;
        drawn_make(&n->file[i], d, type, (size_t)rows, (size_t)inputs, 0, false);
        m[i] = n->file[i].m;
    }
    assert_ok(linear_pack_gated(&n->gated, as, m, &n->memory, NULL, &err), err);
    assert_ok(linear_pack(&n->gate, as, &m[0], 1, &n->memory, NULL, &err), err);
    assert_ok(linear_pack(&n->up, as, &m[1], 1, &n->memory, NULL, &err), err);
    assert_ok(linear_pack(&n->down, as, &m[2], 1, &n->memory, NULL, &err), err);
    draw_normals(d, 1, n->x, ROWS_MOST * DIM_MOST);
}

static void network_free(struct network *n)
{
    region_release(&n->memory);
    for (int i = 0; i < 3; i++)
        drawn_free(&n->file[i]);
}

static void network_lane(struct lane *lane, void *arg)
{
    struct network *n = arg;
    size_t dim = (size_t)n->dim;
    linear_swiglu(lane, &n->gated, n->x, dim, n->rows, &n->down, n->act);
    lane_barrier(lane);
    linear_forward_act(lane, &n->down, n->act, n->rows, n->x, n->y, dim);
}

static void parts_lane(struct lane *lane, void *arg)
{
    static float gate[ROWS_MOST * HIDDEN_MOST], up[ROWS_MOST * HIDDEN_MOST];
    struct network *n = arg;
    size_t dim = (size_t)n->dim, hidden = (size_t)n->hidden;
    linear_forward(lane, &n->gate, n->x, dim, n->rows, NULL, gate, hidden);
    linear_forward(lane, &n->up, n->x, dim, n->rows, NULL, up, hidden);
    for (size_t r = 0; r < (size_t)n->rows; r++)
        kernels.swiglu(gate + r * hidden, up + r * hidden, n->hidden, gate + r * hidden);
    linear_forward(lane, &n->down, gate, hidden, n->rows, n->x, n->y, dim);
}

static void run(struct network *n, int lanes, void (*fn)(struct lane *, void *))
{
    struct err err;
    struct team team;
    assert_ok(team_init(&team, lanes, &err), err);
    assert_ok(team_reserve(&team, linear_scratch_bytes(HIDDEN_MOST), &err), err);
    memset(n->y, 0xff, sizeof n->y);
    memset(n->act, 0xff, sizeof n->act);
    team_run(&team, fn, n);
    team_release(&team);
}

static void one_step_gives_the_bits_of_its_parts(void **state)
{
    static const char *const paths[] = {KERNELS_NAMES};
    static struct network n;
    static float parts[ROWS_MOST * DIM_MOST];
    struct err err;
    (void)state;
    for (int i = 0; i < 5; i++)
        if (!kernels_init(paths[i], &err))
            print_message("%s%s", i ? ", " : "on the paths ", paths[i]);
    print_message("\n");
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct draws d = {seed, 0};
        network_draw(&n, &d);
        assert_true(linear_act_bytes(n.rows, n.hidden) <= sizeof n.act);
        if (kernels_init(paths[seed % 5], &err))
            assert_ok(kernels_init("auto", &err), err);
        run(&n, 1, parts_lane);
        memcpy(parts, n.y, sizeof parts);
        for (size_t i = 0; i < (size_t)n.rows * (size_t)n.dim; i++)
            assert_true(isfinite(parts[i]));
        run(&n, 1 + draw_below(&d, 4), network_lane);
        assert_true(same_bits(parts, n.y, ROWS_MOST * DIM_MOST));
        for (size_t i = linear_act_bytes(n.rows, n.hidden); i < sizeof n.act; i++)
            assert_int_equal(n.act[i], (char)0xff); /* nothing is written behind */
        network_free(&n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_step_gives_the_bits_of_its_parts)};
    return cmocka_run_group_tests_name("swiglu", tests, NULL, NULL);
}
