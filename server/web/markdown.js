// Markdown to elements: the part of it that models write. Builds nodes and text nodes only, so that
// nothing in an answer can become anything else. A link keeps its address only if that is http(s).

import {button, copy, make} from "./dom.js";

// Expressions take time that may grow with the square of a text's length: what is longer than any
// person's line or paragraph, a model that goes round in circles, is shown as it is.
const LINE_MAX = 4000, PARAGRAPH_MAX = 8000;

// ---- inline: code, strong, emphasis, strike, links ----

const INLINE = new RegExp([
    /\\([\\`*_{}[\]()#+\-.!|~<>])/,                              // 1 escaped
    /(`+)(?!`)(.+?)(?<!`)\2(?!`)/,                               // 2, 3 code
    /\*\*(?=\S)([^]+?\S)\*\*(?!\*)|\*\*(\S)\*\*/,                // 4, 5 strong
    /(?<![\w_])__(?=\S)([^]+?)__(?![\w_])/,                      // 6
    /\*(?![\s*])([^*]*?[^\s*])\*(?!\*)/,                         // 7 emphasis
    /(?<![\w_])_(?![\s_])([^_]*?[^\s_])_(?![\w_])/,              // 8
    /~~(?=\S)([^~]+?)~~/,                                        // 9 strike
    /(!?)\[([^[\]]*)\]\(([^()\s]*(?:\([^()\s]*\))?)(?:\s+"[^"]*")?\)/, // 10, 11, 12 link, image
    / {2,}(?=\n)()/,                                             // 13 line break
].map(part => part.source).join("|"), "g");

function link(image, text, address) {
    if (image || !/^https?:\/\//i.test(address)) return document.createTextNode(text || address);
    return make("a", {href: address, target: "_blank", rel: "noopener noreferrer"}, ...inline(text));
}

export function inline(text, depth = 0) {
    const nodes = [];
    let at = 0;
    if (depth < 6 && text.length < PARAGRAPH_MAX)
        for (const m of text.matchAll(INLINE)) {
            if (m.index > at) nodes.push(text.slice(at, m.index));
            at = m.index + m[0].length;
            const strong = m[4] ?? m[5] ?? m[6], emphasis = m[7] ?? m[8];
            if (m[1] !== undefined) nodes.push(m[1]);
            else if (m[3] !== undefined)
                nodes.push(make("code", {}, m[3].replace(/^ (.*\S.*) $/, "$1")));
            else if (strong !== undefined) nodes.push(make("strong", {}, ...inline(strong, depth + 1)));
            else if (emphasis !== undefined) nodes.push(make("em", {}, ...inline(emphasis, depth + 1)));
            else if (m[9] !== undefined) nodes.push(make("s", {}, ...inline(m[9], depth + 1)));
            else if (m[11] !== undefined) nodes.push(link(m[10], m[11], m[12]));
            else nodes.push(make("br"));
        }
    nodes.push(text.slice(at));
    return nodes.filter(node => node !== "");
}

// ---- blocks: each a kind and its lines ----

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const DASHES = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function begins(line, next) {
    if (line.length > LINE_MAX) return false;
    return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line) ||
           QUOTE.test(line) || (line.includes("|") && next !== undefined && next.includes("-") &&
                                DASHES.test(next));
}

const isOrdered = mark => /\d/.test(mark);

// The number of lines of the block that begins at `from`, and its kind.
function measure(lines, from) {
    const line = lines[from];
    let to = from + 1;
    if (line.length > LINE_MAX) return ["paragraph", to];
    const fence = FENCE.exec(line);
    if (fence) {
        while (to < lines.length && !(lines[to].trim().startsWith(fence[1]) &&
                                      !lines[to].trim().slice(fence[1].length).replace(/[`~]/g, "")))
            to++;
        return ["code", Math.min(to + 1, lines.length)];
    }
    if (HEADING.test(line)) return ["heading", to];
    if (RULE.test(line)) return ["rule", to];
    if (QUOTE.test(line)) {
        while (to < lines.length && (QUOTE.test(lines[to]))) to++;
        return ["quote", to];
    }
    if (ITEM.test(line)) {
        // It goes on with items of its kind, with what is indented, and with lines that lie close.
        const [, space, mark] = ITEM.exec(line);
        while (to < lines.length) {
            const empty = !lines[to].trim();
            const after = empty ? lines[to + 1] : lines[to];
            if (after === undefined || !after.trim()) break;
            if (!ITEM.test(after) && !/^\s{2,}/.test(after) && (empty || begins(after))) break;
            const item = ITEM.exec(after);
            if (RULE.test(after) || (item && item[1].length < space.length + 2 &&
                                     isOrdered(item[2]) !== isOrdered(mark))) break;
            to += empty ? 2 : 1;
        }
        return ["list", to];
    }
    if (line.includes("|") && to < lines.length && DASHES.test(lines[to]) && lines[to].includes("-")) {
        while (to < lines.length && lines[to].includes("|")) to++;
        return ["table", to];
    }
    while (to < lines.length && lines[to].trim() && !begins(lines[to], lines[to + 1])) to++;
    return ["paragraph", to];
}

function split(text) {
    const lines = text.replaceAll("\r\n", "\n").split("\n"), blocks = [];
    for (let i = 0; i < lines.length;) {
        if (!lines[i].trim()) { i++; continue; }
        const [kind, to] = measure(lines, i);
        blocks.push({kind, lines: lines.slice(i, to)});
        i = to;
    }
    return blocks;
}

function code(lines) {
    const fence = FENCE.exec(lines[0]);
    const closed = lines.length > 1 && lines.at(-1).trim().startsWith(fence[1]);
    const text = lines.slice(1, closed ? -1 : undefined).join("\n");
    const name = fence[2].trim().split(/\s/)[0];
    return make("figure", {class: "code"},
                make("figcaption", {}, make("span", {}, name || "code"),
                     button("copy", event => copy(text, event.target), {"aria-label": "Copy the code"})),
                make("pre", {tabIndex: 0}, make("code", {}, text)));
}

function list(lines, depth) {
    const first = ITEM.exec(lines[0]);
    const base = first[1].length, ordered = isOrdered(first[2]);
    const root = make(ordered ? "ol" : "ul");
    if (ordered) root.start = parseInt(first[2], 10);
    let item = null, indent = 0;
    const flush = () => {
        if (!item) return;
        const blocks = split(item.join("\n")), element = make("li");
        blocks.forEach((block, i) => element.append(
            ...(i === 0 && block.kind === "paragraph" ? inline(block.lines.join("\n"))
                                                      : [render(block, depth + 1)])));
        root.append(element);
    };
    for (const line of lines) {
        const m = ITEM.exec(line);
        if (m && (item === null || m[1].length < base + 2)) {
            flush();
            item = [m[4]];
            indent = m[1].length + m[2].length + 1;
        } else {
            item.push(line.replace(new RegExp("^\\s{0," + indent + "}"), ""));
        }
    }
    flush();
    return root;
}

function cells(line) {
    return line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "").split(/(?<!\\)\|/)
        .map(cell => cell.trim().replaceAll("\\|", "|"));
}

function table(lines) {
    const sides = cells(lines[1]).map(c => /^:-+:$/.test(c) ? "center" : /-:$/.test(c) ? "right" : "left");
    const row = (line, tag) =>
        make("tr", {}, ...cells(line).map((cell, i) =>
            make(tag, {class: sides[i] || "left"}, ...inline(cell))));
    return make("div", {class: "table", tabIndex: 0},
                make("table", {}, make("thead", {}, row(lines[0], "th")),
                     make("tbody", {}, ...lines.slice(2).map(line => row(line, "td")))));
}

function render({kind, lines}, depth = 0) {
    switch (kind) {
    case "code": return code(lines);
    case "heading": {
        const m = HEADING.exec(lines[0]);
        // Behind the page's own headings.
        return make("h" + Math.min(m[1].length + 2, 6), {}, ...inline(m[2]));
    }
    case "rule": return make("hr");
    case "quote": {
        const element = make("blockquote");
        if (depth < 8)
            for (const block of split(lines.map(line => QUOTE.exec(line)[1]).join("\n")))
                element.append(render(block, depth + 1));
        return element;
    }
    case "list": return depth < 8 ? list(lines, depth) : make("p", {}, lines.join("\n"));
    case "table": return table(lines);
    default: return make("p", {}, ...inline(lines.map(line => line.trimStart()).join("\n")));
    }
}

// Makes `element` show `text`. Blocks that stay as they were are left alone, so that an answer that
// grows costs its last block, and what is selected in the others stays selected.
export function markdown(element, text) {
    const blocks = split(text);
    blocks.forEach((block, i) => {
        const key = block.kind + "\n" + block.lines.join("\n"), old = element.children[i];
        if (old && old.source === key) return;
        const now = render(block);
        now.source = key;
        if (old) old.replaceWith(now);
        else element.append(now);
    });
    while (element.children.length > blocks.length) element.lastElementChild.remove();
}
