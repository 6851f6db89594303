// Small plots of /metrics, the same figures that Prometheus would read, over the last five minutes.

import {$, fixed, make, short} from "./dom.js";

const EVERY = 2000;     // ms between looks
const KEPT = 150;       // looks
const RECENT = 30;      // looks that rates of rare things are taken over

const samples = [];     // {at, values: Map from name (with labels) to number}
const history = [];     // {at, and the figures of FIGURES by name}
let timer = 0;

export function parseMetrics(text) {
    const values = new Map();
    for (const line of text.split("\n")) {
        const m = /^headway_([a-z_]+(?:\{[^}]*\})?) (\S+)$/.exec(line);
        if (m) values.set(m[1], Number(m[2]));
    }
    return values;
}

// How much a counter has grown over the last `n` looks.
function grown(name, n = 1) {
    const now = samples.at(-1), then = samples[Math.max(0, samples.length - 1 - n)];
    return (now.values.get(name) ?? 0) - (then.values.get(name) ?? 0);
}

function share(part, whole) {
    return whole > 0 ? part / whole : NaN;
}

// The median of what a histogram has counted lately, interpolated within its bucket.
function median(name) {
    const buckets = [];
    for (const key of samples.at(-1).values.keys()) {
        const m = new RegExp("^" + name + '_bucket\\{le="([^"]+)"\\}$').exec(key);
        if (m && m[1] !== "+Inf") buckets.push([Number(m[1]), grown(key, RECENT)]);
    }
    const half = grown(name + "_count", RECENT) / 2;
    let from = 0, below = 0;
    if (half <= 0) return NaN;
    for (const [to, count] of buckets) {
        if (count >= half) return from + (to - from) * (half - below) / (count - below);
        [from, below] = [to, count];
    }
    return from;
}

const percent = value => fixed(100 * value, 0) + " %";
const FIGURES = [
    {name: "rate", title: "Tokens per second", show: short,
     value: seconds => grown("generation_tokens_total") / seconds},
    {name: "per_verification", title: "Tokens per verification", unit: "last minute",
     show: value => fixed(value, 2),
     value: () => 1 + share(grown("spec_decode_num_accepted_tokens_total", RECENT),
                            grown("spec_decode_num_drafts_total", RECENT))},
    {name: "running", title: "Requests running, and waiting", show: value => fixed(value, 0),
     value: () => samples.at(-1).values.get("num_requests_running"),
     second: () => samples.at(-1).values.get("num_requests_waiting")},
    {name: "first", title: "Time to the first token, median", unit: "last minute",
     show: value => value < 1 ? fixed(1000 * value, value < .01 ? 1 : 0) + " ms" : short(value) + " s",
     value: () => median("time_to_first_token_seconds")},
    {name: "kv", title: "Keys and values in use", show: value => fixed(100 * value, 1) + " %",
     value: () => samples.at(-1).values.get("kv_cache_usage_perc")},
    {name: "prefix", title: "Prompt tokens from the cache", unit: "last minute", show: percent,
     value: () => share(grown("prefix_cache_hits_total", RECENT), grown("prefix_cache_queries_total", RECENT))},
];

// ---- drawing ----

function svg(tag, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
}

function path(values, top, attributes) {
    let d = "", pen = "M";
    values.forEach((value, i) => {
        if (!Number.isFinite(value)) { pen = "M"; return; }
        const x = (i + KEPT - values.length) * 300 / (KEPT - 1), y = 71 - 70 * value / top;
        d += pen + x.toFixed(1) + " " + y.toFixed(1);
        // A value between two gaps is still to be seen.
        if (pen === "M") d += "h.1";
        pen = "L";
    });
    return svg("path", {d, ...attributes});
}

function drawFigure(figure) {
    const values = history.map(h => h[figure.name]), seconds = history.map(h => h[figure.name + "2"]);
    const now = values.at(-1), finite = [...values, ...seconds].filter(Number.isFinite);
    const top = Math.max(...finite, 1e-9);
    const second = figure.second ? ", " + figure.show(seconds.at(-1)) : "";
    const text = Number.isFinite(now) ? figure.show(now) + second : "\u2013";
    figure.now.replaceChildren(text, make("small", {}, figure.unit ? " " + figure.unit : ""));
    figure.top.textContent = finite.length && top > 1e-9 ? "up to " + figure.show(top) : "";
    figure.svg.setAttribute("aria-label", figure.title + ": " + text);
    figure.svg.replaceChildren(svg("line", {x1: 0, x2: 300, y1: 71.5, y2: 71.5}), path(values, top, {}),
                               ...(figure.second ? [path(seconds, top, {class: "second"})] : []));
}

let bars = null;

function drawBars() {
    const now = samples.at(-1).values, rows = [];
    const add = (name, tried, accepted) => {
        const lately = grown(tried, RECENT) > 0;
        const t = lately ? grown(tried, RECENT) : now.get(tried) ?? 0;
        const a = lately ? grown(accepted, RECENT) : now.get(accepted) ?? 0;
        if (t) rows.push(make("dt", {}, name),
                         make("dd", {}, make("meter", {value: a / t, "aria-label": name})),
                         make("dd", {}, percent(a / t)));
    };
    for (let i = 1; now.has(`head_tried_total{head="${i}"}`); i++)
        add("head " + i, `head_tried_total{head="${i}"}`, `head_accepted_total{head="${i}"}`);
    add("look-up", "lookup_tried_total", "lookup_accepted_total");
    bars.replaceChildren(...(rows.length ? rows : [make("dt", {}, "no drafts so far")]));
}

function build() {
    for (const figure of FIGURES) {
        figure.now = make("p", {class: "now"}, "\u2013");
        figure.svg = svg("svg", {viewBox: "0 0 300 72", preserveAspectRatio: "none", role: "img"});
        figure.top = make("span");
        $("plots").append(make("section", {class: "plot"}, make("h2", {}, figure.title), figure.now, figure.svg,
                               make("div", {class: "axis"}, make("span", {}, "5 min ago"), figure.top,
                                    make("span", {}, "now"))));
    }
    bars = make("dl", {class: "bars"});
    $("plots").children[1].after(make("section", {class: "plot"},
                                      make("h2", {}, "Accepted drafts by drafter"), bars));
}

function drawAll() {
    if (!bars) build();
    FIGURES.forEach(drawFigure);
    drawBars();
}

// What --audit has found, where the server is started with it, stands beside what is plotted.
function drawNote() {
    const now = samples.at(-1).values, audits = now.get("exactness_audits_total") ?? 0;
    const differ = now.get("exactness_mismatches_total") ?? 0;
    $("plots-note").className = "hint";
    $("plots-note").replaceChildren(
        "All requests to this server, every two seconds while this page is visible.",
        ...(audits ? [` Decoded again plainly: ${fixed(audits, 0)} answer${audits === 1 ? "" : "s"}, `,
                      make("b", {class: differ ? "error" : ""},
                           differ ? `${fixed(differ, 0)} DIFFERED` : "all identical"), "."] : []));
}

// ---- looking ----

async function look() {
    const response = await fetch("metrics");
    if (!response.ok) throw new Error(response.status);
    samples.push({at: performance.now(), values: parseMetrics(await response.text())});
    if (samples.length > KEPT) samples.shift();
    if (samples.length < 2) return;
    const seconds = (samples.at(-1).at - samples.at(-2).at) / 1000, figures = {at: samples.at(-1).at};
    for (const figure of FIGURES) {
        figures[figure.name] = figure.value(seconds);
        if (figure.second) figures[figure.name + "2"] = figure.second();
    }
    history.push(figures);
    if (history.length > KEPT) history.shift();
    if (!$("panel-metrics").hidden) drawAll();
}

async function tick() {
    try {
        await look();
        drawNote();
    } catch {
        $("plots-note").className = "hint error";
        $("plots-note").textContent = "The server's figures cannot be read: is it gone?";
    }
}

// Looks while the page is visible, whichever tab is shown, so that plots have a past.
export function plotsStart() {
    const check = () => {
        clearInterval(timer);
        timer = 0;
        if (document.hidden) return;
        tick();
        timer = setInterval(tick, EVERY);
    };
    document.addEventListener("visibilitychange", check);
    check();
}

export function plotsShow() {
    if (history.length) drawAll();
}
