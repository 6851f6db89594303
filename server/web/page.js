// The page: what the model can do, tabs, settings, keys. The rest is in chat.js, race.js, plots.js.

import {busy, clear, editLast, isChat, onRefusal, redraw, restore, send, setChat, stop} from "./chat.js";
import {$, button, make} from "./dom.js";
import {plotsShow, plotsStart} from "./plots.js";
import {race, raceStop} from "./race.js";
import {ask, settingsLoad, settingsReset, settingsSave} from "./request.js";
import {hideTip, scrollTip} from "./tokens.js";

// ---- tabs ----

const tabs = [...document.querySelectorAll("[role=tab]")];

function choose(tab, focus) {
    for (const other of tabs) {
        const chosen = other === tab;
        other.setAttribute("aria-selected", chosen);
        other.tabIndex = chosen ? 0 : -1;
        $(other.getAttribute("aria-controls")).hidden = !chosen;
    }
    if (focus) tab.focus();
    if (tab.id === "tab-metrics") plotsShow();
    hideTip();
}

for (const [i, tab] of tabs.entries()) {
    tab.onclick = () => choose(tab);
    tab.onkeydown = event => {
        const to = {ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1}[event.key];
        if (to === undefined) return;
        event.preventDefault();
        choose(tabs[(to + tabs.length) % tabs.length], true);
    };
}

// ---- settings, and the key that the server asks for ----

function openSettings() {
    if (!$("settings").open) $("settings").showModal();
}

function closeSettings() {
    $("settings").close();
}

$("settings-open").onclick = openSettings;
$("settings-close").onclick = closeSettings;
$("settings").onclick = event => { if (event.target === $("settings")) closeSettings(); };
$("settings").onchange = settingsSave;
$("settings-reset").onclick = settingsReset;
$("key").onchange = () => look();

function askForKey(message) {
    openSettings();
    $("key-note").textContent = message;
    $("key-note").hidden = false;
    $("key").focus();
}

onRefusal(error => { if (error.status === 401) askForKey(error.message); });

// ---- what the model can do ----

const ASK = ["Write a Python function that merges two sorted lists.",
             "Explain in a few sentences how a compiler works.",
             "List five countries of Europe with their capitals, as a table."];
const BEGIN = ["import os\nimport sys\n\ndef main():\n    ", "static int ", "Once upon a time"];

function drawMode() {
    const chat = $("mode-chat").checked;
    setChat(chat);
    $("go").textContent = chat ? "Send" : "Continue";
    $("new").textContent = chat ? "New chat" : "Clear";
    $("prompt").placeholder = chat ? "Message" : "Text to be continued";
    $("race-prompt").placeholder = $("prompt").placeholder;
    $("set-max_tokens").placeholder = chat ? "all" : "128";
    $("system-label").hidden = !chat;
    $("hint").replaceChildren(...(chat
        ? [make("kbd", {}, "Enter"), " sends, ", make("kbd", {}, "Shift"), " ",
           make("kbd", {}, "Enter"), " begins a line"]
        : [make("kbd", {}, "Ctrl"), " ", make("kbd", {}, "Enter"), " continues the text"]));
    $("empty").replaceChildren(
        make("p", {}, (chat ? "Ask something. " : "Begin a text, and the model goes on. ") +
             "Colours show which head, or look\u2011up, proposed each token; \u201cmeasure\u201d below " +
             "an answer, what that is worth."),
        ...(chat ? ASK : BEGIN).map(text => button(text, () => {
            if (!chat) $("prompt").value = text;
            send(text);
        }, {class: ""})));
    if (!chat && !$("prompt").value) $("prompt").value = "Once upon a time";
    if (chat && $("prompt").value === "Once upon a time") $("prompt").value = "";
}

async function look() {
    try {
        const model = (await (await ask("v1/models")).json()).data[0];
        const heads = model.prediction_heads - 1;
        $("model").textContent = model.id + (heads > 1 ? `, ${heads} heads draft` :
                                             heads > 0 ? ", a head drafts" : ", look-up drafts");
        $("model").title = $("model").textContent;
        $("model").className = "";
        $("key-note").hidden = true;
        $("modes").hidden = !model.chat;
        $("mode-chat").checked = model.chat;
        $("mode-completion").checked = !model.chat;
        drawMode();
        restore();
        $("race-prompt").value ||= model.chat ? "Write a short story about a lighthouse."
                                              : "import os\nimport sys\n\ndef main():\n    ";
    } catch (error) {
        $("model").textContent = error.status === 401 ? "asks for a key" : error.message;
        $("model").className = "error";
        if (error.status === 401) askForKey(error.message);
        // A server that is still loading, or being replaced, comes back.
        else setTimeout(look, 3000);
    }
}

// ---- writing and racing ----

function submitPrompt() {
    const text = $("prompt").value;
    if (!text.trim() || busy()) return;
    send(text);
    if (isChat()) $("prompt").value = "";
}

function startRace() {
    race(isChat(), $("race-prompt").value, Math.max(2, +$("race-tokens").value || 200),
         error => { if (error.status === 401) askForKey(error.message); });
}

$("form").onsubmit = event => { event.preventDefault(); submitPrompt(); };
$("race-form").onsubmit = event => { event.preventDefault(); startRace(); };
$("stop").onclick = stop;
$("race-stop").onclick = raceStop;
$("new").onclick = () => { clear(); $("prompt").focus(); };
$("colours").onchange = redraw;
for (const id of ["mode-chat", "mode-completion"]) $(id).onchange = drawMode;

$("prompt").onkeydown = event => {
    if (event.isComposing) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey || (isChat() && !event.shiftKey))) {
        event.preventDefault();
        submitPrompt();
    } else if (event.key === "ArrowUp" && !$("prompt").value) {
        event.preventDefault();
        editLast();
    }
};
$("race-prompt").onkeydown = event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        startRace();
    }
};

// By the key's place where Alt writes another letter.
const ALT = {KeyC: () => $("colours").click(), KeyN: () => $("new").click(), KeyS: openSettings};

document.addEventListener("keydown", event => {
    if (event.key === "Escape" && !$("settings").open) {
        hideTip();
        stop();
        raceStop();
    } else if (event.altKey && !event.ctrlKey && !event.metaKey && event.code in ALT) {
        event.preventDefault();
        ALT[event.code]();
    }
});
document.addEventListener("scroll", scrollTip, true);

settingsLoad();
drawMode();
look().then(() => { if (!$("settings").open) $("prompt").focus(); });
plotsStart();
