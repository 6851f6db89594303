// The coloured view of an answer: its text token by token, each in the colour of who proposed it, the
// tokens of one pass on one line below them. With details on what is pointed at, focused or tapped.

import {$, fixed, make} from "./dom.js";

const OWN = "the model itself";

// The colour's class: 0 what the model chose, 1 to 7 heads, "look-up".
function colour(drafter) {
    const head = /^head (\d+)/.exec(drafter || "");
    return head ? "head-" + Math.min(+head[1], 7) : drafter ? "look-up" : "own";
}

function ordinal(rank) {
    return rank === 0 ? "best guess" : rank === 1 ? "second guess" : rank === 2 ? "third guess"
                                                   : rank + 1 + "th guess";
}

function describe(token) {
    const lines = [JSON.stringify(token.token)];
    if (!token.drafter) lines.push("chosen by the model, proposed by none");
    else lines.push("proposed by " + token.drafter + (token.drafter === "look-up" || token.rank < 0
        ? "" : ", its " + ordinal(token.rank)));
    lines.push("pass " + token.pass + " over " + token.rows + (token.rows === 1 ? " row" : " rows"));
    if (token.logprob !== undefined && token.logprob !== null)
        lines.push("log-probability " + fixed(token.logprob, 3) + ", " +
                   fixed(100 * Math.exp(token.logprob), 1) + " %");
    return lines;
}

let tipped = null;      // the element that the tip is about

function showTip(span, token) {
    const tip = $("tip");
    tipped = span;
    tip.replaceChildren(...describe(token).map((line, i) => make(i ? "div" : "code", {}, line)));
    tip.hidden = false;
    placeTip();
}

function placeTip() {
    const tip = $("tip"), span = tipped;
    const box = span.getClientRects()[0] || span.getBoundingClientRect();
    const left = Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8));
    const above = box.top - tip.offsetHeight - 6;
    tip.style.left = left + "px";
    tip.style.top = (above > 4 ? above : box.bottom + 6) + "px";
}

export function hideTip() {
    tipped = null;
    $("tip").hidden = true;
}

// What was reached by key stays described where it scrolls to.
export function scrollTip() {
    if (tipped && tipped === document.activeElement) placeTip();
    else hideTip();
}

// One view of one answer, which may still grow.
export class TokenView {
    constructor() {
        this.tokens = [];
        this.decoder = new TextDecoder();
        this.counts = new Map();
        this.text = make("div", {class: "tokens", role: "group", "aria-label":
                                 "The answer by token; arrow keys go from token to token"});
        this.legend = make("div", {class: "legend", role: "group",
                                   "aria-label": "Who proposed how many tokens"});
        this.element = make("div", {class: "token-view"}, this.text, this.legend);
        const token = event => event.target.closest?.(".token");
        const show = event => {
            const span = token(event);
            if (span) showTip(span, this.tokens[span.index]);
            else hideTip();
        };
        this.text.addEventListener("pointerover", show);
        this.text.addEventListener("pointerout", hideTip);
        this.text.addEventListener("focusin", event => {
            for (const old of this.text.querySelectorAll('[tabindex="0"]')) old.tabIndex = -1;
            if (token(event)) token(event).tabIndex = 0;
            show(event);
        });
        this.text.addEventListener("focusout", hideTip);
        this.text.addEventListener("click", event => token(event)?.focus());
        this.text.addEventListener("keydown", event => this.#move(event));
    }

    #move(event) {
        const span = event.target.closest(".token");
        const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -1e9, End: 1e9};
        if (!span || !(event.key in step)) return;
        event.preventDefault();
        const all = this.text.querySelectorAll(".token");
        all[Math.max(0, Math.min(all.length - 1, span.index + step[event.key]))].focus();
    }

    // Shows the tokens that have come since the last call.
    update(tokens) {
        const pieces = document.createDocumentFragment();
        for (let i = this.tokens.length; i < tokens.length; i++) {
            const token = tokens[i], who = colour(token.drafter);
            // A character may be spread over tokens: it is shown with its last.
            const text = this.decoder.decode(new Uint8Array(token.bytes), {stream: true});
            const both = token.drafter?.includes(" and ") ? " both" : "";
            const begin = i && tokens[i - 1].pass === token.pass ? "" : " begin";
            const line = text.includes("\n") ? " line" : "";
            const span = make("span", {class: "token " + who + both + begin + line, index: i,
                                       tabIndex: i ? -1 : 0, "aria-describedby": "tip"}, text);
            if (i && tokens[i - 1].pass !== token.pass) pieces.append(make("wbr"));
            pieces.append(span);
            this.tokens.push(token);
            const name = token.drafter || OWN;
            this.counts.set(name, (this.counts.get(name) || 0) + 1);
        }
        this.text.append(pieces);
        this.#drawLegend();
    }

    #drawLegend() {
        const names = [...this.counts.keys()].sort((a, b) =>
            (a !== OWN) - (b !== OWN) || a.startsWith("look") - b.startsWith("look") ||
            a.localeCompare(b, "en", {numeric: true}));
        this.legend.replaceChildren(...names.map(name => {
            const drafter = name === OWN ? null : name;
            const both = name.includes(" and ") ? " both" : "";
            return make("span", {class: "entry"},
                        make("span", {class: "swatch " + colour(drafter) + both, "aria-hidden": "true"}),
                        name + " ", make("b", {}, String(this.counts.get(name))));
        }));
    }
}
