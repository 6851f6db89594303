// What is asked of the server and what comes back: settings, fields of requests, streams, refusals.

import {$} from "./dom.js";

const KEPT = ["system", "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "stop",
              "speculation", "logprobs"];

function field(name) {
    return $("set-" + name);
}

// Settings stay in this browser; the key does not.
export function settingsLoad() {
    try {
        const kept = JSON.parse(localStorage.getItem("headway-settings") || "{}");
        for (const name of KEPT) {
            if (!(name in kept)) continue;
            if (field(name).type === "checkbox") field(name).checked = kept[name];
            else field(name).value = kept[name];
        }
    } catch { /* a browser may keep nothing */ }
}

export function settingsSave() {
    try {
        const kept = {};
        for (const name of KEPT)
            kept[name] = field(name).type === "checkbox" ? field(name).checked : field(name).value;
        localStorage.setItem("headway-settings", JSON.stringify(kept));
    } catch { /* a browser may keep nothing */ }
}

export function settingsReset() {
    for (const name of KEPT) {
        field(name).value = field(name).type === "checkbox" ? "on" : field(name).defaultValue ?? "auto";
        field(name).checked = false;
    }
    settingsSave();
}

export function speculationMode() {
    const mode = field("speculation").value;
    return /^\d+$/.test(mode) ? +mode : mode;
}

// The fields of a request. Without a seed of the user's it gets one here, so that the same request
// can be sent again: to be measured, or to race.
export function makeFields(chat, promptOrMessages) {
    const fields = {temperature: +field("temperature").value,
                    seed: field("seed").value === "" ? Math.floor(Math.random() * 2 ** 31)
                                                     : +field("seed").value};
    for (const name of ["top_p", "top_k", "min_p"])
        if (field(name).value !== "") fields[name] = +field(name).value;
    const stop = field("stop").value.split("\n").filter(line => line)
        .map(line => line.replaceAll("\\n", "\n").replaceAll("\\t", "\t"));
    if (stop.length) fields.stop = stop;
    const tokens = +field("max_tokens").value;
    if (chat) {
        const system = field("system").value.trim();
        fields.messages = [...(system ? [{role: "system", content: system}] : []), ...promptOrMessages];
        if (tokens) fields.max_completion_tokens = tokens;
    } else {
        fields.prompt = promptOrMessages;
        fields.max_tokens = tokens || 128;
    }
    return fields;
}

// Logarithms of probabilities cost time and are asked for only when they are to be shown.
export function wantsLogprobs() {
    return field("logprobs").checked;
}

// A request that was refused, or that never reached the server: `status` 0.
export class Refusal extends Error {
    constructor(status, message, retryAfter) {
        super(message);
        this.status = status;
        this.retryAfter = retryAfter;
    }
}

async function refusal(response) {
    let message = response.status + " " + response.statusText;
    try {
        message = (await response.json()).error.message;
    } catch { /* not ours: a proxy's */ }
    return new Refusal(response.status, message, +response.headers.get("Retry-After") || 0);
}

export async function ask(path, fields, signal) {
    const headers = {};
    if (fields) headers["Content-Type"] = "application/json";
    if ($("key").value) headers.Authorization = "Bearer " + $("key").value;
    let response;
    try {
        response = await fetch(path, {method: fields ? "POST" : "GET", headers, signal,
                                      body: fields ? JSON.stringify(fields) : undefined});
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Refusal(0, "The server cannot be reached.");
    }
    if (!response.ok) throw await refusal(response);
    return response;
}

async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
        let part;
        try {
            part = await reader.read();
        } catch (error) {
            if (error.name === "AbortError") throw error;
            throw new Refusal(0, "The connection to the server was lost.");
        }
        if (part.done) throw new Refusal(0, "The answer broke off: the connection was closed.");
        const lines = (rest + part.value).split("\n\n");
        rest = lines.pop();
        for (const line of lines) {
            if (line === "data: [DONE]") return;
            if (line.startsWith("data: {")) yield JSON.parse(line.slice(6));
        }
    }
}

function takeLogprobs(logprobs, tokens, n) {
    const values = logprobs.content ? logprobs.content.map(c => c.logprob) : logprobs.token_logprobs || [];
    values.forEach((value, i) => {
        const token = tokens[tokens.length - n + i];
        if (token) token.logprob = value;
    });
}

// An answer as far as it has come. `kind` is "chat" or "completion".
export function emptyAnswer(fields, kind) {
    return {kind, fields, text: "", tokens: [], sent: performance.now(), first: 0, last: 0,
            finish: null, usage: null, metrics: null};
}

// Streams the request of `answer` into it; `grown` is called after every event.
export async function streamAnswer(answer, speculation, signal, grown) {
    const body = {...answer.fields, speculation: {...speculation, trace: true}, stream: true,
                  stream_options: {include_usage: true}};
    const chat = answer.kind === "chat";
    if (wantsLogprobs() && !speculation.alone) body.logprobs = chat ? true : 0;
    const response = await ask(chat ? "v1/chat/completions" : "v1/completions", body, signal);
    for await (const event of events(response)) {
        if (event.error) throw new Refusal(500, event.error.message, 0);
        answer.last = performance.now();
        for (const choice of event.choices) {
            const trace = choice.trace || [];
            if (trace.length) answer.first = answer.first || answer.last;
            answer.text += (chat ? choice.delta.content : choice.text) || "";
            answer.tokens.push(...trace);
            if (choice.logprobs) takeLogprobs(choice.logprobs, answer.tokens, trace.length);
            answer.finish = choice.finish_reason || answer.finish;
        }
        if (event.usage) {
            answer.usage = event.usage;
            answer.metrics = event.metrics;
        }
        grown();
    }
}
