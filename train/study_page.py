"""The tables of docs/architectures.md, from the figures of docs/architectures.json. Owns how
figures are put together: medians over rounds, then mean and sample standard deviation over seeds.
Called by study.py; study_plot.py draws the same summary."""
import dataclasses
import json
import statistics

import study_plot

BEGIN, END = "<!-- table -->", "<!-- /table -->"
TEXTS = ("code", "prose")
AUTO = "auto"


class Failure(Exception):
    """Ends the program with a sentence."""


@dataclasses.dataclass
class Figure:
    """A quantity of a variant: one value per seed."""
    values: list

    @property
    def mean(self):
        return statistics.mean(self.values)

    @property
    def spread(self):
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def text(self, digits, factor=1):
        spread = f" ± {self.spread * factor:.{digits}f}" if len(self.values) > 1 else ""
        return f"{self.mean * factor:.{digits}f}{spread}"


@dataclasses.dataclass
class Decoding:
    """What decoding one kind of text with one number of drafts came to."""
    per_forward: Figure   # tokens
    pass_time: Figure     # of a forward, relative to the model's own plain one
    speedup: Figure       # over the model's own plain decoding
    per_second: Figure    # tokens
    to_baseline: Figure   # per_second over the baseline's in plain decoding


@dataclasses.dataclass
class Variant:
    name: str
    trunk_layers: int
    head_layers: int      # of all heads together
    plain_layers: int     # that a plain pass goes through
    parameters: int
    bits: dict            # text: [Figure per head]
    top1: list            # Figure per head, on the mixed text
    decoding: dict        # (text, drafts): Decoding
    best: dict            # text: the number of drafts with the largest speed-up
    training: list        # bytes per second over the baseline's, per round


def cell(model, text, drafts):
    return next(c for c in model["decoding"] if c["text"] == text and c["drafts"] == drafts)


def decoding(data, models, text, drafts):
    def figure(name):
        return Figure([statistics.median(cell(m, text, drafts)[name]) for m in models])

    # The baseline of the same seed ran in the same round, not long before or after.
    ratios = []
    for model in models:
        base = cell(data["models"][f"baseline-{model['seed']}"], text, 0)
        ratios.append(statistics.median(
            own / plain for own, plain in
            zip(cell(model, text, drafts)["tokens_per_s"], base["tokens_per_s"])))
    return Decoding(figure("tokens_per_forward"), figure("relative_pass_time"),
                    figure("speedup"), figure("tokens_per_s"), Figure(ratios))


def plain_layers(model):
    """Verification needs head 1, which comes last in the chain of anticausal heads."""
    heads = model["heads"]
    if heads["kind"] in ("linear", "replicated"):
        return model["trunk_layers"]
    chain = heads["n"] if heads["kind"] == "anticausal" else 1
    return model["trunk_layers"] + chain * heads["layers"]


def variant(data, name):
    models = [m for m in data["models"].values() if m["variant"] == name]
    first, n = models[0], models[0]["heads"]["n"]

    def scores(text, field):
        return [Figure([m["held_out"][text][head][field] for m in models]) for head in range(n)]

    cells = {(text, k): decoding(data, models, text, k)
             for text in TEXTS for k in [*range(n), AUTO]}
    best = {text: max(range(1, n), key=lambda k: cells[text, k].speedup.mean, default=0)
            for text in TEXTS}
    layered = first["heads"]["kind"] not in ("linear", "replicated")
    return Variant(name=name, trunk_layers=first["trunk_layers"],
                   head_layers=n * first["heads"]["layers"] if layered else 0,
                   plain_layers=plain_layers(first), parameters=first["parameters"],
                   bits={text: scores(text, "bits_per_byte") for text in ("mixed", *TEXTS)},
                   top1=scores("mixed", "top1"), decoding=cells, best=best,
                   training=[r[name] / r["baseline"] for r in data["training_speed"]])


def table(head, rows):
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, *rows]]
    lines.insert(1, "|---|" + "--:|" * (len(head) - 1))
    return "\n".join(lines)


def quality_table(variants):
    head = ["heads", "layers: trunk + heads", "parameters", "head 1, bits/byte", "on code",
            "on prose", "top-1, %: head 1", "head 2", "head 3", "head 4",
            "training bytes/s, relative to n = 1"]
    rows = []
    for v in variants:
        top1 = [f.text(1, 100) for f in v.top1] + ["–"] * (4 - len(v.top1))
        rows.append([v.name, f"{v.trunk_layers} + {v.head_layers}", f"{v.parameters:,}",
                     *(v.bits[text][0].text(3) for text in ("mixed", *TEXTS)), *top1,
                     f"{statistics.median(v.training):.2f} "
                     f"({min(v.training):.2f}..{max(v.training):.2f})"])
    return table(head, rows)


def decoding_table(variants, text):
    head = ["heads", "layers of a plain pass", "plain, tokens/s", "relative to the baseline",
            "best k", "tokens per forward", "time per forward", "speed-up over own plain",
            "tokens/s", "**relative to the baseline's plain**", "auto: speed-up over own plain",
            "auto: relative to the baseline's plain"]
    rows = []
    for v in variants:
        plain, auto = v.decoding[text, 0], v.decoding[text, AUTO]
        chosen = ["–"] * 5 + [plain.to_baseline.text(2)]
        if v.best[text]:
            best = v.decoding[text, v.best[text]]
            chosen = [str(v.best[text]), best.per_forward.text(2), best.pass_time.text(2),
                     best.speedup.text(2), best.per_second.text(0), best.to_baseline.text(2)]
        rows.append([v.name, str(v.plain_layers), plain.per_second.text(0),
                     plain.to_baseline.text(2), *chosen, auto.speedup.text(2),
                     auto.to_baseline.text(2)])
    return table(head, rows)


def tables(data, variants):
    o, seeds = data["options"], len(data["options"]["seeds"])
    rounds, speed_rounds = o["rounds"], o["speed_rounds"]
    made = (f"Measured {data['date']} on {data['processor']}, {data['cores']} cores, "
            f"{data['kernels']} kernels, {data['products']} products in training, "
            f"{o['threads']} thread{'s' * (o['threads'] > 1)}. ")
    spread = (f"Mean ± sample standard deviation over {seeds} seeds, each the median of "
              f"{rounds} rounds" if seeds > 1 else f"One seed, the median of {rounds} rounds")
    return "\n\n".join([
        f"{made}{spread}. Training speed: median (minimum..maximum) over {speed_rounds} "
        "rounds.",
        "**Quality, size and training**", quality_table(variants),
        "**Decoding code**", decoding_table(variants, "code"),
        "**Decoding prose**", decoding_table(variants, "prose")])


def write(json_path, page_path, plot_path):
    """Writes the plot, and the tables between the markers of the page."""
    data = json.loads(json_path.read_text())
    variants = [variant(data, name) for name in data["options"]["variants"]]
    page = page_path.read_text()
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
        raise Failure(f"{page_path} must have {BEGIN} and, behind it, {END}, once each")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    page_path.write_text(f"{before}{BEGIN}\n\n{tables(data, variants)}\n\n{END}{after}")
    plot_path.write_text(study_plot.draw(variants))
    print(f"page: {page_path} and {plot_path} written")
