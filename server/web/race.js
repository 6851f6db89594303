// Plain against speculative decoding, side by side: the same request twice, each in steps of its own
// that have equal machine time.

import {$, eachFrame, fixed, following, make, short, swap} from "./dom.js";
import {emptyAnswer, makeFields, speculationMode, streamAnswer} from "./request.js";
import {TokenView} from "./tokens.js";

let controller = null;

class Lane {
    constructor(element, title, mode, fields, kind, limit) {
        Object.assign(this, {element, mode, limit, answer: emptyAnswer(fields, kind)});
        this.view = mode === "off" ? null : new TokenView();
        this.raw = make("div", {class: "raw"});
        this.rate = make("p", {class: "rate"}, make("b", {}, "\u2013"), " tokens/s");
        this.progress = make("progress", {max: limit, value: 0, "aria-label": title + ": tokens"});
        this.text = make("div", {class: "text", tabIndex: 0, role: "group", "aria-label": title + ": text"},
                         this.view ? this.view.element : this.raw);
        element.classList.remove("won");
        element.replaceChildren(make("h2", {}, title), this.rate, this.progress, this.text);
    }

    // Seconds of machine time behind the first token, once it is over.
    get seconds() {
        return this.answer.metrics?.decode?.seconds || 0;
    }

    draw() {
        const {answer, seconds} = this, n = answer.tokens.length;
        const wall = (answer.last - answer.first) / 1000;
        const rate = seconds ? (n - 1) / seconds : n > 1 && wall > 0 ? (n - 1) / wall : 0;
        const more = seconds ? ` tokens/s \u00b7 ${n} tokens in ${fixed(seconds, 2)} s of machine time` +
                               ` \u00b7 ${fixed(answer.metrics.decode.tokens_per_forward, 2)} per forward`
                             : ` tokens/s on half of the machine \u00b7 ${n} tokens`;
        this.rate.replaceChildren(make("b", {}, rate ? short(rate) : "\u2013"), more);
        this.progress.value = answer.usage ? this.limit : n;
        following(this.text, () => {
            if (this.view) this.view.update(answer.tokens);
            else this.raw.append(answer.text.slice(this.raw.textContent.length));
        });
    }

    async run(signal) {
        const draw = eachFrame(() => this.draw());
        await streamAnswer(this.answer, {mode: this.mode, alone: true}, signal, draw);
        this.draw();
    }
}

function verdict(plain, fast) {
    const a = plain.answer, b = fast.answer, element = $("verdict");
    let at = 0;
    while (at < a.text.length && a.text[at] === b.text[at]) at++;
    const same = a.text === b.text && a.tokens.every((t, i) => t.token === b.tokens[i]?.token) &&
                 a.tokens.length === b.tokens.length;
    const factor = fast.seconds ? plain.seconds / fast.seconds : 0;
    (factor >= 1 ? fast : plain).element.classList.add("won");
    element.replaceChildren(
        make("b", {}, !factor ? "Too short to say" : factor >= 1
            ? `Speculation is ${fixed(factor, 2)} \u00d7 as fast`
            : `Plain decoding is ${fixed(1 / factor, 2)} \u00d7 as fast`), " \u00b7 ",
        same ? make("span", {class: "good"}, "identical texts: checked")
             : make("b", {class: "error"}, `THE TEXTS DIFFER from character ${at + 1} on`));
}

export async function race(chat, prompt, limit, refused) {
    if (controller || !prompt.trim()) return;
    const mine = controller = new AbortController();
    const asked = makeFields(chat, chat ? [{role: "user", content: prompt}] : prompt);
    asked[chat ? "max_completion_tokens" : "max_tokens"] = limit;
    const kind = chat ? "chat" : "completion", mode = speculationMode();
    const plain = new Lane($("lane-plain"), "plain", "off", asked, kind, limit);
    const fast = new Lane($("lane-fast"), "speculative", mode === "off" ? "auto" : mode, asked, kind, limit);
    swap($("race-go"), $("race-stop"));
    $("verdict").className = "";
    $("verdict").textContent = "";
    try {
        await Promise.all([plain.run(mine.signal), fast.run(mine.signal)]);
        verdict(plain, fast);
    } catch (error) {
        const stopped = mine.signal.aborted;
        mine.abort();
        $("verdict").className = stopped ? "" : "error";
        $("verdict").textContent = stopped ? "Stopped." : error.message +
            (error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "");
        if (!stopped) refused(error);
    }
    controller = null;
    swap($("race-stop"), $("race-go"));
}

export function raceStop() {
    controller?.abort();
}
