/* See muon.h. */
#include "train/muon.h"

#include <math.h>
#include <string.h>

#include "model/gemm.h"
#include "model/kernels/grad.h"

#define ITERATIONS 5
/* a s + b s^3 + c s^5 brings singular values of 0..1 to 0.7..1.2 in five goes (Jordan et al.). */
#define A 3.4445f
#define B -4.7750f
#define C 2.0315f

void muon_work_take(struct muon_work *work, struct arena *arena, const struct params *params)
{
    size_t most = 0, side = 0;
    for (int i = 0; i < params->n; i++) {
        const struct param *p = &params->list[i];
        size_t shorter = p->shape[0] < p->shape[1] ? p->shape[0] : p->shape[1];
        most = p->count > most ? p->count : most;
        side = shorter > side ? shorter : side;
    }
    work->x = arena_take(arena, most, sizeof(float));
    work->next = arena_take(arena, most, sizeof(float));
    work->gram = arena_take(arena, side * side, sizeof(float));
    work->cubic = arena_take(arena, side * side, sizeof(float));
}

/* x (m, n) = the transpose of y (n, m), or y itself; this lane's share of its rows. */
static void take(struct lane *lane, bool transposed, const float *y, int m, int n, float *x)
{
    int begin, end;
    lane_share(lane, m, 1, &begin, &end);
    for (size_t i = (size_t)begin; i < (size_t)end; i++)
        for (size_t j = 0; j < (size_t)n; j++)
            x[i * (size_t)n + j] = transposed ? y[j * (size_t)m + i] : y[i * (size_t)n + j];
}

/* x = a x + (b G + c G G) x with G = x x^T, (m, n): its singular values s become a s + b s^3 + c
 * s^5. */
static void iterate(struct lane *lane, const struct muon_work *w, float *x, int m, int n,
                    float *next)
{
    struct linear rows = {.inputs = n, .outputs = m, .dense = x};
    struct linear gram = {.inputs = m, .outputs = m, .dense = w->gram};
    size_t side = (size_t)m, width = (size_t)n;
    int begin, end;
    linear_forward(lane, &rows, x, width, m, NULL, w->gram, side);
    lane_barrier(lane);
    linear_forward(lane, &gram, w->gram, side, m, NULL, w->cubic, side);
    lane_barrier(lane);
    lane_share(lane, m, 1, &begin, &end);
    for (size_t i = (size_t)begin * side; i < (size_t)end * side; i++)
        w->cubic[i] = B * w->gram[i] + C * w->cubic[i];
    for (size_t i = (size_t)begin * width; i < (size_t)end * width; i++)
        next[i] = A * x[i];
    lane_barrier(lane);
    linear_backward_input(lane, &rows, w->cubic, side, m, true, next, width);
    lane_barrier(lane);
}

void muon_step(struct lane *lane, const struct muon *s, const struct muon_work *w, int rows,
               int cols, float *value, float *grad, float *momentum)
{
    bool transposed = rows > cols;
    int m = transposed ? cols : rows, n = transposed ? rows : cols, begin, end;
    size_t count = (size_t)rows * (size_t)cols, width = (size_t)cols;
    float *x = w->x, *next = w->next;
    lane_share(lane, rows, 1, &begin, &end);
    for (size_t i = (size_t)begin * width; i < (size_t)end * width; i++) {
        float g = grad[i] * s->clip;
        momentum[i] = s->momentum * momentum[i] + g;
        grad[i] = g + s->momentum * momentum[i]; /* Nesterov's */
    }
    lane_barrier(lane);
    take(lane, transposed, grad, m, n, x);
    lane_barrier(lane);
    float size = (float)sqrt(grad_kernels.squares(x, count)) + 1e-12f;
    lane_barrier(lane);
    lane_share(lane, m, 1, &begin, &end);
    for (size_t i = (size_t)begin * (size_t)n; i < (size_t)end * (size_t)n; i++)
        x[i] /= size;
    lane_barrier(lane);
    for (int i = 0; i < ITERATIONS; i++) {
        iterate(lane, w, x, m, n, next);
        float *swap = x;
        x = next;
        next = swap;
    }
    float step = s->rate * 0.2f * sqrtf((float)n);
    lane_share(lane, rows, 1, &begin, &end);
    for (size_t i = (size_t)begin; i < (size_t)end; i++)
        for (size_t j = 0; j < width; j++) {
            float d = transposed ? x[j * (size_t)n + i] : x[i * (size_t)n + j];
            value[i * width + j] -= s->decay * value[i * width + j] + step * d;
        }
    memset(grad + (size_t)begin * width, 0, (size_t)(end - begin) * width * sizeof(float));
    lane_barrier(lane);
}
