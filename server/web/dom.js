// Small helpers for the document. Text from the model, the user or the server only ever becomes
// text nodes: nothing on this page is parsed as HTML.

export const $ = id => document.getElementById(id);

// An element with properties ("class" and "data-", "aria-" names are attributes) and children.
export function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (name === "class") element.className = value;
        else if (name.includes("-") || name === "role") element.setAttribute(name, value);
        else element[name] = value;
    }
    element.append(...children);
    return element;
}

export function button(text, act, properties = {}) {
    return make("button", {type: "button", class: "quiet", onclick: act, ...properties}, text);
}

// Says something to screen readers; what is streamed is said once, when it is finished.
export function announce(text) {
    $("status").textContent = text.slice(0, 4000);
}

// Shows `second` in place of `first`, which has its focus then.
export function swap(first, second) {
    const focused = document.activeElement === first;
    first.hidden = true;
    second.hidden = false;
    if (focused) second.focus();
}

export async function copy(text, from) {
    const before = from.textContent;
    try {
        await navigator.clipboard.writeText(text);
        from.textContent = "copied";
    } catch {
        from.textContent = "not allowed";
    }
    setTimeout(() => { from.textContent = before; }, 1200);
}

// Calls `draw` at most once a frame; the function that is returned asks for it.
export function eachFrame(draw) {
    let asked = false;
    return () => {
        if (asked) return;
        asked = true;
        requestAnimationFrame(() => { asked = false; draw(); });
    };
}

// Runs what grows an element that scrolls, and stays at its end, unless the reader has left it.
export function following(scroller, grow) {
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    grow();
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
}

export function fixed(value, digits) {
    return value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
}

// Three digits, as far as they say something.
export function short(value) {
    return fixed(value, value >= 100 || value === 0 ? 0 : value >= 10 ? 1 : 2);
}
