"""Draws docs/architectures.svg from study_page.py's summary: quality against decoding speed, top-1
accuracy per head, and speed-up per number of drafts. Owns how it looks, no figures. Small marks
are seeds, large ones means, bars the sample standard deviation over seeds."""
import math

WIDTH, HEIGHT = 1120, 1040
INK, FAINT, GRID = "#222222", "#666666", "#e4e4e4"
# Colour and shape of the variants in their order: one of the two is enough to tell them apart.
LOOKS = [("#444444", "square"), ("#1f77b4", "circle"), ("#17a2b8", "diamond"),
         ("#7b4fb5", "triangle"), ("#2e8b3d", "circle"), ("#d62728", "diamond"),
         ("#e67e00", "triangle"), ("#8c564b", "square")]


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def text(x, y, words, size=13, anchor="start", colour=INK, extra=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{colour}" {extra}>{escape(words)}</text>')


def line(x1, y1, x2, y2, colour, width=1.0, extra=""):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}" {extra}/>')


def mark(x, y, look, radius=6.0, opacity=1.0, hollow=False):
    colour, shape = look
    style = (f'fill="white" stroke="{colour}" stroke-width="1.6"' if hollow else
             f'fill="{colour}" fill-opacity="{opacity}" stroke="white" stroke-width="0.8"')
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {style}/>'
    n, turn, larger = {"square": (4, 45, 1.25), "diamond": (4, 0, 1.25),
                       "triangle": (3, -90, 1.45)}[shape]
    r = radius * larger
    points = " ".join(f"{x + r * math.cos(math.radians(turn + 360 / n * i)):.1f},"
                      f"{y + r * math.sin(math.radians(turn + 360 / n * i)):.1f}"
                      for i in range(n))
    return f'<polygon points="{points}" {style}/>'


def nice_step(span, most):
    """The smallest of 1, 2, 5 times a power of ten that divides a span at most so often."""
    power = 10 ** math.floor(math.log10(span / most))
    return next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= most)


class Panel:
    """A frame with two axes; x and y turn quantities into positions."""

    def __init__(self, left, top, width, height, title):
        self.left, self.top, self.width, self.height = left, top, width, height
        self.right, self.bottom = left + width, top + height
        self.out = [text(left, top - 14, title, 15, extra='font-weight="600"')]

    def range_x(self, low, high):
        self.low_x, self.high_x = low, high

    def range_y(self, low, high):
        self.low_y, self.high_y = low, high

    def x(self, value):
        return self.left + (value - self.low_x) / (self.high_x - self.low_x) * self.width

    def y(self, value):
        return self.bottom - (value - self.low_y) / (self.high_y - self.low_y) * self.height

    def label_x(self, words):
        self.out.append(text(self.left + self.width / 2, self.bottom + 40, words, 13, "middle"))

    def label_y(self, words):
        x, y = self.left - 46, self.top + self.height / 2
        self.out.append(text(x, y, words, 13, "middle",
                             extra=f'transform="rotate(-90 {x:.1f} {y:.1f})"'))

    def tick_x(self, value, words, grid=True):
        if grid:
            self.out.append(line(self.x(value), self.top, self.x(value), self.bottom, GRID))
        self.out.append(text(self.x(value), self.bottom + 18, words, 12, "middle", FAINT))

    def ticks_y(self, most=8, factor=1):
        step = nice_step((self.high_y - self.low_y) * factor, most) / factor
        digits = max(0, -math.floor(math.log10(step * factor) + 1e-9))
        for i in range(math.ceil(self.low_y / step - 1e-9),
                       math.floor(self.high_y / step + 1e-9) + 1):
            y = self.y(i * step)
            self.out += [line(self.left, y, self.right, y, GRID),
                         text(self.left - 8, y + 4, f"{i * step * factor:.{digits}f}", 12, "end",
                              FAINT)]

    def ticks_x(self, most=8):
        step = nice_step(self.high_x - self.low_x, most)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        for i in range(math.ceil(self.low_x / step - 1e-9),
                       math.floor(self.high_x / step + 1e-9) + 1):
            self.tick_x(i * step, f"{i * step:.{digits}f}")

    def frame(self):
        self.out += [line(self.left, self.bottom, self.right, self.bottom, FAINT),
                     line(self.left, self.top, self.left, self.bottom, FAINT)]

    def level(self, y):
        """The line that the others are compared with."""
        self.out.append(line(self.left, self.y(y), self.right, self.y(y), FAINT, 1.2,
                             'stroke-dasharray="5 4"'))

    def bar_y(self, x, figure, colour, width=1.6):
        """The spread, as a vertical bar at a position x."""
        if figure.spread:
            self.out.append(line(x, self.y(figure.mean - figure.spread), x,
                                 self.y(figure.mean + figure.spread), colour, width))


def padded(values, share=0.08):
    low, high = min(values), max(values)
    margin = (high - low or 1) * share
    return low - margin, high + margin


# ---- labels that do not lie on each other ----


def overlap(a, b):
    """Area that two boxes (left, top, right, bottom) share."""
    return (max(0, min(a[2], b[2]) - max(a[0], b[0])) *
            max(0, min(a[3], b[3]) - max(a[1], b[1])))


def place_labels(panel, points):
    """Labels of points (x, y, words, colour, further boxes to keep clear), each at the nearest
    free place around its point, with a thin line to it where that is not beside it."""
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y, *_ in points]
    taken += [box for point in points for box in point[4]]
    for x, y, words, colour, _ in points:
        wide, high, best = 8.2 * len(words), 14, None
        for distance in (13, 24, 38, 54):
            for angle in (0, 180, 90, 270, 45, 135, 225, 315, 22, 158, 202, 338):
                dx = distance * math.cos(math.radians(angle))
                dy = distance * math.sin(math.radians(angle))
                left = x + dx + (-wide / 2 if abs(dx) < 3 else -wide if dx < 0 else 0)
                box = (left, y + dy - high / 2, left + wide, y + dy + high / 2)
                outside = wide * high - overlap(
                    box, (panel.left + 2, panel.top, panel.right + 10, panel.bottom - 2))
                cost = sum(overlap(box, other) for other in taken) + 4 * outside + distance
                if best is None or cost < best[0]:
                    anchor = "middle" if abs(dx) < 3 else "end" if dx < 0 else "start"
                    best = cost, box, distance, x + dx, y + dy, anchor
        _, box, distance, end_x, end_y, anchor = best
        taken.append(box)
        if distance > 13:
            panel.out.append(line(x, y, end_x, end_y, colour, 0.8))
        panel.out.append(text(end_x, box[3] - 3, words, 13, anchor, colour,
                              extra='font-weight="600" paint-order="stroke" stroke="white" '
                                    'stroke-width="3"'))


# ---- the panels ----


def at_best(v):
    """Decoding code as fast as the variant can with a fixed number of drafts."""
    return v.decoding["code", v.best["code"]]


def quality_and_speed(variants):
    p = Panel(80, 156, 440, 370, "A  Quality and decoding speed, code")
    bits = [v.bits["mixed"][0] for v in variants]
    speed = [at_best(v).to_baseline for v in variants]
    p.range_x(*padded([b for f in bits for b in [*f.values, f.mean + f.spread,
                                                 f.mean - f.spread]], 0.1))
    plain = [v.decoding["code", 0].to_baseline.mean for v in variants]
    p.range_y(*padded([1, *plain, *(s for f in speed for s in [*f.values, f.mean + f.spread,
                                                               f.mean - f.spread])], 0.1))
    p.ticks_x(7)
    p.ticks_y()
    p.frame()
    p.level(1)
    p.label_x("held-out bits per byte of the next-byte head (fewer are better)")
    p.label_y("tokens/s, baseline's plain decoding = 1")
    points = []
    for v, b, s, before, look in zip(variants, bits, speed, plain, LOOKS):
        x, y = p.x(b.mean), p.y(s.mean)
        clear = []
        if v.best["code"]:
            p.out += [line(x, p.y(before), x, y, look[0], 1, 'stroke-dasharray="2 3"'),
                      mark(x, p.y(before), look, 4.5, hollow=True)]
            clear = [(x - 6, p.y(before) - 6, x + 6, p.y(before) + 6),
                     (x - 1, min(y, p.y(before)), x + 1, max(y, p.y(before)))]
        p.bar_y(x, s, look[0])
        p.out.append(line(p.x(b.mean - b.spread), y, p.x(b.mean + b.spread), y, look[0], 1.6))
        seeds = [(p.x(bx), p.y(sy)) for bx, sy in zip(b.values, s.values)]
        p.out += [mark(sx, sy, look, 2.8, 0.65) for sx, sy in seeds]
        p.out.append(mark(x, y, look, 7))
        bars = [(p.x(b.mean - b.spread), y - 2, p.x(b.mean + b.spread), y + 2),
                (x - 2, p.y(s.mean + s.spread), x + 2, p.y(s.mean - s.spread))]
        drafts = f", k = {v.best['code']}" if v.best["code"] else ", plain"
        points.append((x, y, v.name + drafts, look[0],
                       bars + clear +
                       [(sx - 3, sy - 3, sx + 3, sy + 3) for sx, sy in seeds]))
    place_labels(p, points)
    return p.out


def accuracy(variants):
    heads = max(len(v.top1) for v in variants)
    p = Panel(640, 156, 440, 370, "B  Top-1 accuracy of each head")
    p.range_x(0.5, heads + 0.5)
    p.range_y(*padded([value for v in variants for f in v.top1 for value in f.values]))
    p.ticks_y(factor=100)
    for head in range(1, heads + 1):
        words = "1: next byte" if head == 1 else f"{head} bytes ahead"
        p.tick_x(head, words, grid=False)
        if head > 1:
            x = p.x(head - 0.5)
            p.out.append(line(x, p.top, x, p.bottom, GRID))
    p.frame()
    p.label_x("head")
    p.label_y("top-1 accuracy on held-out text, %")
    for i, (v, look) in enumerate(zip(variants, LOOKS)):
        for head, figure in enumerate(v.top1, 1):
            x = p.x(head + (i - (len(variants) - 1) / 2) * 0.1)
            p.bar_y(x, figure, look[0])
            p.out += [mark(x, p.y(value), look, 2, 0.5) for value in figure.values]
            p.out.append(mark(x, p.y(figure.mean), look, 5))
    return p.out


def speedups(variants, kind, left, title, low, high):
    p = Panel(left, 636, 440, 330, title)
    drafts = max(len(v.top1) for v in variants) - 1
    p.range_x(-0.3, drafts + 0.3)
    p.range_y(low, high)
    p.ticks_y()
    for k in range(drafts + 1):
        p.tick_x(k, "0 (plain)" if k == 0 else str(k))
    p.frame()
    p.level(1)
    p.label_x("drafts per step, k")
    p.label_y("speed-up over own plain decoding")
    drafting = [(v, look) for v, look in zip(variants, LOOKS) if len(v.top1) > 1]
    for i, (v, look) in enumerate(drafting):
        shift = (i - (len(drafting) - 1) / 2) * 6
        figures = [v.decoding[kind, k].speedup for k in range(len(v.top1))]
        # Plain decoding is 1 by definition: all lines begin in one point.
        places = [(p.x(k) + (shift if k else 0), p.y(f.mean)) for k, f in enumerate(figures)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        p.out.append(f'<polyline points="{path}" fill="none" stroke="{look[0]}" '
                     'stroke-width="1.6" stroke-opacity="0.75"/>')
        for (x, y), figure in list(zip(places, figures))[1:]:
            p.bar_y(x, figure, look[0])
            p.out += [mark(x, p.y(value), look, 2, 0.5) for value in figure.values]
            p.out.append(mark(x, y, look, 5))
    return p.out


def legend(variants):
    out = []
    for i, (v, look) in enumerate(zip(variants, LOOKS)):
        x, y = 80 + 255 * (i % 4), 62 + 22 * (i // 4)
        out += [mark(x + 6, y - 4, look),
                text(x + 18, y, f"{v.name} ({v.trunk_layers} + {v.head_layers} layers)", 13)]
    return out + [text(80, 110, "Layers: trunk + heads. Large marks: means over seeds; small: "
                       "seeds; bars: sample standard deviation. Hollow in A: plain decoding.", 12,
                       colour=FAINT)]


def draw(variants):
    spans = [value for v in variants for kind in ("code", "prose")
             for k in range(len(v.top1)) for value in v.decoding[kind, k].speedup.values]
    low, high = padded([1, *spans])
    body = [text(80, 34, "Head architectures: quality and decoding speed", 18,
                 extra='font-weight="600"'),
            *legend(variants), *quality_and_speed(variants), *accuracy(variants),
            *speedups(variants, "code", 80, "C  Speed-up, code", low, high),
            *speedups(variants, "prose", 640, "C  Speed-up, prose", low, high)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="DejaVu Sans, Helvetica, sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', *body, "</svg>"]) + "\n"
