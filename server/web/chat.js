// The conversation, or the one text that is continued: asking, stopping, editing, measuring.

import {$, announce, button, copy, eachFrame, fixed, following, make, short, swap} from "./dom.js";
import {markdown} from "./markdown.js";
import {ask, emptyAnswer, makeFields, speculationMode, streamAnswer} from "./request.js";
import {TokenView} from "./tokens.js";

let turns = [];         // of the conversation: {question, answer, mode, ...elements}
let running = null;     // {turn, controller} of the answer that is being written
let chat = false;       // messages through the model's template, not a raw text
let refused = () => {}; // told of every refusal

export const busy = () => running !== null;
export const isChat = () => chat;

// ---- figures ----

function figures(answer) {
    const parts = [], n = answer.tokens.length || (answer.usage?.completion_tokens ?? 0);
    const decode = answer.metrics?.decode, drafts = answer.metrics?.speculative_decoding;
    const seconds = decode?.seconds || (answer.last - answer.first) / 1000;
    const forwards = answer.metrics?.forwards || answer.tokens.at(-1)?.pass;
    const add = (value, text) => parts.push(make("span", {}, make("b", {}, value), text));
    add(fixed(n, 0), n === 1 ? " token" : " tokens");
    if (n > 1 && seconds > 0) add(short((n - 1) / seconds), " tokens/s");
    if (forwards) add(fixed(n / forwards, 2), " tokens per forward");
    if (drafts?.num_draft_tokens)
        add(fixed(100 * drafts.draft_acceptance_rate, 0) + " %", " of drafts accepted");
    if (answer.first) add(short((answer.first - answer.sent) / 1000) + " s", " to the first");
    if (drafts?.num_draft_tokens && decode?.estimated_speedup)
        add("\u2248 " + fixed(decode.estimated_speedup, 2) + " \u00d7", " plain decoding, estimated");
    if (answer.finish === "length") parts.push(make("span", {}, "cut at the limit"));
    if (answer.stopped) parts.push(make("span", {}, "stopped"));
    return parts;
}

function difference(got) {
    const at = got.first_difference;
    return "NOT IDENTICAL: the " + (at.speculative ? "speculative" : "plain") + " text of round " +
           (at.round + 1) + " differs from token " + (at.token + 1) + " on";
}

// Sends the same request to be decoded plainly and speculatively, and says what came of it.
async function measure(turn, from) {
    if (turn.measuring) {
        turn.measuring.abort();
        return;
    }
    const {answer, measured} = turn;
    turn.measuring = new AbortController();
    from.textContent = "cancel";
    measured.className = "measured";
    measured.textContent = "measuring: three rounds of plain and of speculative decoding \u2026";
    try {
        const response = await ask("v1/speedup", {...answer.fields, rounds: 3, speculation: answer.mode},
                                   turn.measuring.signal);
        const got = await response.json(), ratio = got.speedup;
        const shown = answer.stopped || got.text === answer.text;
        const same = got.identical && shown;
        measured.className = "measured " + (same ? "good" : "error");
        measured.setAttribute("role", same ? "status" : "alert");
        measured.replaceChildren(
            make("b", {}, fixed(ratio.median, 2) + " \u00d7 measured"),
            ` (${fixed(ratio.min, 2)} to ${fixed(ratio.max, 2)}), ` +
            `${short(got.plain.tokens_per_second)} \u2192 ` +
            `${short(got.speculative.tokens_per_second)} tokens/s, `,
            make("b", {}, same ? "identical: checked"
                : got.identical ? "NOT IDENTICAL to the answer above" : difference(got)));
    } catch (error) {
        measured.className = "measured error";
        measured.textContent = error.name === "AbortError" ? "" : error.message;
        if (error.name !== "AbortError") refused(error);
    }
    turn.measuring = null;
    from.textContent = "measure";
}

// ---- what is shown of a turn ----

function drawBody(turn) {
    const {answer, body} = turn;
    if ($("colours").checked) {
        if (!turn.view) {
            turn.view = new TokenView();
            if (!turn.chat) turn.view.text.append(make("span", {class: "prompt"}, turn.question));
            body.replaceChildren(turn.view.element);
            body.className = "body";
        }
        turn.view.update(answer.tokens);
    } else if (turn.chat) {
        if (body.className !== "body markdown") body.replaceChildren();
        body.className = "body markdown";
        markdown(body, answer.text);
    } else {
        if (body.className !== "body raw") body.replaceChildren(
            make("span", {class: "prompt"}, turn.question), make("span"));
        body.className = "body raw";
        const text = body.lastChild;
        if (answer.text.startsWith(text.textContent)) text.append(answer.text.slice(text.textContent.length));
    }
    body.classList.toggle("going", running?.turn === turn);
}

function drawFoot(turn) {
    const {answer, foot} = turn;
    const line = make("div", {class: "figures"}, ...(answer.tokens.length ? figures(answer) : []));
    foot.replaceChildren(line);
    if (running?.turn === turn) return;
    turn.measured = make("div", {class: "measured"});
    foot.append(button("copy", event => copy(answer.text, event.target), {"aria-label": "Copy the answer"}),
                button("regenerate", () => regenerate(turn)));
    if (!turn.chat && answer.text)
        foot.append(button("go on", () => send(turn.question + answer.text)));
    if (answer.mode !== "off" && answer.tokens.length > 1)
        foot.append(button("measure", event => measure(turn, event.target),
                           {title: "Decode the same request plainly and speculatively, three times each"}));
    foot.append(turn.measured);
}

function drawQuestion(turn) {
    if (!turn.chat) return;
    turn.asked.replaceChildren(
        make("div", {class: "said"}, turn.question),
        make("div", {}, button("edit", () => edit(turn), {"aria-label": "Edit this message"}),
             button("copy", event => copy(turn.question, event.target), {"aria-label": "Copy this message"})));
}

function drawError(turn, error) {
    let message = error.message;
    if (error.status === 429 || error.status === 503)
        message += error.retryAfter ? ` Try again in ${error.retryAfter} s.` : " Try again in a moment.";
    turn.body.classList.remove("going");
    turn.foot.replaceChildren(make("div", {class: "alert", role: "alert"}, message,
                                   button("Retry", () => run(turn), {class: ""})));
}

function edit(turn) {
    const text = make("textarea", {rows: Math.min(12, turn.question.split("\n").length + 1),
                                   value: turn.question, "aria-label": "Edit the message"});
    const form = make("form", {}, text, make("div", {}, button("Cancel", () => drawQuestion(turn), {class: ""}),
                                             make("button", {class: "main"}, "Send")));
    form.onsubmit = event => {
        event.preventDefault();
        if (!text.value.trim()) return;
        turn.question = text.value;
        drawQuestion(turn);
        regenerate(turn);
    };
    text.onkeydown = event => {
        if (event.key === "Escape") {
            event.stopPropagation();
            drawQuestion(turn);
            $("prompt").focus();
        } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            form.requestSubmit();
        }
    };
    turn.asked.replaceChildren(form);
    text.focus();
}

export function editLast() {
    if (chat && turns.length && !running) edit(turns.at(-1));
}

// ---- asking ----

function messagesOf(turn) {
    const messages = [];
    for (const before of turns.slice(0, turns.indexOf(turn)))
        if (before.answer?.text)
            messages.push({role: "user", content: before.question},
                          {role: "assistant", content: before.answer.text});
    return [...messages, {role: "user", content: turn.question}];
}

function drawBusy() {
    if (running) swap($("go"), $("stop"));
    else swap($("stop"), $("go"));
    $("empty").hidden = turns.length > 0;
}

async function run(turn) {
    stop();
    const fields = makeFields(turn.chat, turn.chat ? messagesOf(turn) : turn.question);
    const answer = turn.answer = emptyAnswer(fields, turn.chat ? "chat" : "completion");
    const mine = running = {turn, controller: new AbortController()};
    answer.mode = speculationMode();
    turn.view = null;
    turn.body.className = "body";
    turn.body.replaceChildren();
    drawBusy();
    const draw = () => following($("log"), () => { drawBody(turn); drawFoot(turn); });
    const soon = eachFrame(() => { if (running === mine) draw(); });
    draw();
    let failure = null;
    try {
        await streamAnswer(answer, {mode: answer.mode}, mine.controller.signal, soon);
    } catch (error) {
        if (error.name === "AbortError") answer.stopped = true;
        else failure = error;
    }
    if (running === mine) running = null;
    if (!turn.element.isConnected || turn.answer !== answer) return drawBusy();
    draw();
    if (failure) {
        following($("log"), () => drawError(turn, failure));
        refused(failure);
    } else {
        announce(answer.stopped ? "Stopped." : "Answer: " + answer.text);
    }
    keep();
    drawBusy();
}

export function stop() {
    running?.controller.abort();
    running = null;
}

// What came behind a turn does not follow from its new answer.
function regenerate(turn) {
    for (const later of turns.splice(turns.indexOf(turn) + 1)) later.element.remove();
    run(turn);
    $("stop").focus();
}

function add(question, answer) {
    const turn = {question, chat, answer, asked: make("div", {class: "question"}),
                  body: make("div", {class: "body"}), foot: make("div", {class: "foot"})};
    turn.element = make("article", {class: "turn"}, turn.asked, turn.body, turn.foot);
    turn.asked.hidden = !chat;
    turns.push(turn);
    $("log").append(turn.element);
    drawQuestion(turn);
    return turn;
}

export function send(question) {
    if (!question.trim() || running) return;
    if (!chat) clear();
    const turn = add(question, null);
    $("log").scrollTop = $("log").scrollHeight;
    run(turn);
}

// ---- what this tab of the browser keeps, so that it survives being loaded again ----

function keep() {
    try {
        const kept = turns.filter(turn => turn.answer?.tokens.length)
            .map(({question, answer}) => ({question, answer}));
        sessionStorage.setItem("headway-turns", JSON.stringify({chat, kept}));
    } catch { /* too long, or not allowed: it is not kept */ }
}

export function restore() {
    try {
        const stored = JSON.parse(sessionStorage.getItem("headway-turns"));
        if (!stored || stored.chat !== chat || turns.length) return;
        for (const {question, answer} of stored.kept) {
            const turn = add(question, answer);
            drawBody(turn);
            drawFoot(turn);
        }
        drawBusy();
        $("log").scrollTop = $("log").scrollHeight;
    } catch { /* not of this page's making */ }
}

export function clear() {
    stop();
    for (const turn of turns) turn.element.remove();
    turns = [];
    keep();
    drawBusy();
}

export function redraw() {
    for (const turn of turns) {
        if (!turn.answer) continue;
        turn.view = null;
        turn.body.className = "";
        turn.body.replaceChildren();
        drawBody(turn);
    }
}

export function setChat(yes) {
    if (yes === chat) return;
    if (turns.length) clear();
    chat = yes;
}

export function onRefusal(tell) {
    refused = tell;
}
