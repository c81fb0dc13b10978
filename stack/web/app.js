// Puts the page together: the call reports, everything else shows.

import { Call, findIceServers } from "./call.js";
import { PushToTalkKey, TurnControls } from "./controls.js";
import { Conversation } from "./conversation.js";
import { Events } from "./events.js";
import { InstantConnect } from "./instant.js";
import { Lanes } from "./lanes.js";
import { Levels, SILENCE } from "./levels.js";
import { Playback } from "./playback.js";
import { microphoneUnavailable } from "./problems.js";
import { Plot } from "./plot.js";
import { Quality } from "./quality.js";
import { Settings } from "./settings.js";
import { Steps } from "./steps.js";
import { Transcript } from "./transcript.js";
import { Turns } from "./turns.js";

const $ = id => document.getElementById(id);
const LEVEL_PERIOD = 40;
const REPORT_PERIOD = 1000;
const REPORT_STEP = 10;      // milliseconds of delay that are told at once

const settings = new Settings();
const instant = "RTCPeerConnection" in window ? new InstantConnect() : null;   // its certificate is there before the click
const steps = new Steps($("steps"), $("steps-note"));
const lanes = new Lanes($("timeline"));
const events = new Events($("events"), $("events-note"));
const transcript = new Transcript($("transcript"), $("transcript-note"));
const turns = new Turns($("turns"), $("turns-note"));
const controls = new TurnControls();
const playback = new Playback($("remote"));
const plots = {
  rtt: new Plot($("plot-rtt"), 20), loss: new Plot($("plot-loss"), 2), jitter: new Plot($("plot-jitter"), 10),
};

let call = null;
let successor = null;      // the call that is to take the place of this one
let conversation = new Conversation();
let reported = { at: 0, delay: 0 };
let levels = null;
let quality = null;
let path = null;           // where the media are, and how far the program is from there: another machine's
let connectedAt = 0;
let calledAgain = false;   // by the page itself
const STEADY = 10_000;     // milliseconds after which a call that the page made by itself may be lost like any other
let timers = [];
let wasUp = false;         // a call of this page was connected

// What tests read, and what a curious visitor finds in the console.
window.voiceStack = {
  get state() { return call?.state ?? "idle"; },
  get timings() { return { ...call?.timings }; },
  get problem() {
    const shown = successor ? null : call?.problem ?? null;   // as the page shows it
    return shown && { code: shown.code, title: shown.title, detail: shown.detail };
  },
  get way() { return call?.way ?? null; },
  get movedFrom() { return call?.movedFrom || null; },
  get endedBy() { return call?.endedBy ?? null; },
  get stats() { return quality?.latest ?? null; },
  get events() { return events.all; },
  get connection() { return call?.connection ?? null; },
  get remote() { return $("remote").srcObject; },
  get conversation() { return conversation; },
  get playback() { return playback; },
  get spans() { return lanes.spans; },
  levels: { you: null, program: null },
  peaks: { you: SILENCE, program: SILENCE },
  on: (type, handler) => events.on(type, handler),
  controls,
  send: request => call?.send(request) ?? false,
};

const busy = () => call !== null && !call.over;

// A token lasts as long as this tab: it is no setting of the browser.
const TOKEN = "voice-stack.token";
const token = {
  get value() { try { return sessionStorage.getItem(TOKEN) ?? ""; } catch { return kept; } },
  set value(text) { kept = text; try { sessionStorage.setItem(TOKEN, text); } catch { /* cookies are forbidden */ } },
};
let kept = "";

let iceServers = [];
const askForIceServers = () => findIceServers(token.value).then(found => { iceServers = found; });
askForIceServers();

function begin({ microphone = true, again = false } = {}) {
  calledAgain = again;
  dropSuccessor();
  call = new Call({ audio: microphone ? settings.constraints : null, token: token.value, iceServers, instant });
  levels = new Levels();
  window.voiceStack.peaks = { you: SILENCE, program: SILENCE };
  conversation = listen(new Conversation());
  controls.forget();
  for (const view of [steps, events, transcript, turns]) view.clear();
  $("stops").textContent = "";
  clearQuality();
  watch(call);
  call.start();
}

// Show what a call reports, as long as it is the one of the page.
function watch(made) {
  const shown = handler => event => { if (made === call) handler(event); };
  made.addEventListener("state", shown(onState));
  made.addEventListener("step", shown(onStep));
  made.addEventListener("remote", shown(onRemote));
  made.addEventListener("message", shown(({ detail }) => receive(detail.text)));
  made.addEventListener("silent", shown(() => mayCallAgain() && move(made.name ?? "", { avoid: made.node, lost: true })));
  made.addEventListener("heard", shown(() => { if (successor?.lost) dropSuccessor(); }));
}

// What fails twice needs a person.
const mayCallAgain = () => !calledAgain || performance.now() - connectedAt > STEADY;

function dropSuccessor() {
  const dropped = successor;
  successor = null;
  dropped?.call.hangUp();
}

const receive = text => conversation.receive(events.receive(text, performance.now() - connectedAt));

// The machine of this call is about to end, or nothing comes from there (`lost`): make the call that takes its place, and
// drop this one when that is up.
function move(formerId, { avoid = "", lost = false } = {}) {
  if (successor || !busy()) return;
  const former = call, early = [];
  const next = new Call({
    audio: former.microphone ? settings.constraints : null, token: token.value, iceServers,
    movedFrom: formerId, avoid, stream: former.microphone?.clone() ?? null,
  });
  successor = { call: next, lost };
  const keep = ({ detail }) => early.push(detail.text);
  next.addEventListener("message", keep);
  next.addEventListener("state", () => {
    if (next !== successor?.call || (!next.over && next.state !== "connected")) return;
    successor = null;
    if (next.over) return former.over && former === call ? settle() : undefined;   // none takes it: this call goes on while it can
    if (former !== call || former.endedBy === "you" || (lost && former.endedBy)) return next.hangUp();
    next.removeEventListener("message", keep);
    calledAgain ||= lost;
    takeOver(former, next, early);
  });
  next.start();
}

function takeOver(former, next, early) {
  if (!former.over) end();
  call = next;
  watch(next);
  next.setMuted(former.muted);
  former.hangUp();
  levels = new Levels();
  lanes.resume();
  timers.push(setInterval(showLevels, LEVEL_PERIOD));
  if (next.microphone) {
    levels.watchMicrophone(next.microphone);
    settings.microphone = next.microphone;
  }
  onRemote({ detail: { stream: next.remote } });
  onState();
  if ("channel" in next.timings) greet();
  early.forEach(receive);
}

// What a program is told first.
function greet() {
  call.send({ type: "audible", reply: 0 });
  if (controls.request) call.send(controls.request);
}

function listen(conversation) {
  const on = (type, handler) => conversation.addEventListener(type, ({ detail }) => handler(detail));
  on("span", ({ who, begin, end }) => (begin === undefined ? lanes.end(who, end) : lanes.begin(who, begin)));
  on("entry", ({ entry }) => transcript.show(entry));
  on("stop", showStop);
  on("mute", ({ reply, last }) => playback.mute(reply, last));
  on("unmute", () => playback.unmute());
  on("turn", ({ turn }) => {
    // There and back: the last of what the person says, and the first of what is answered.
    turn.network = quality?.latest?.rtt ?? null;
    turn.playback = playback.delay === null ? null : playback.delay + (levels?.outputLatency ?? 0);
    turns.add(turn);
  });
  on("reply", render);
  on("state", () => {
    document.body.dataset.turn = conversation.state;
    render();
  });
  return conversation;
}

function showStop({ stopMs, at }) {
  lanes.mark(`${Math.round(stopMs)} ms`, at);
  const times = conversation.stops.map(stop => stop.stopMs).sort((a, b) => a - b);
  const middle = (times[(times.length - 1) >> 1] + times[times.length >> 1]) / 2;
  $("stops").textContent = `You spoke, and the program was silent ${Math.round(stopMs)} ms later`
    + (times.length > 1 ? `; median of ${times.length}: ${Math.round(middle)} ms.` : ".");
}

function report() {
  const { delay } = playback;
  const now = performance.now();
  if (now - reported.at < REPORT_PERIOD && Math.abs(delay - reported.delay) < REPORT_STEP) return;
  if (call?.send({ type: "playout_delay", ms: Math.round(10 * delay) / 10 })) reported = { at: now, delay };
}

function onStep({ detail }) {
  if (detail.name === "microphone") {
    levels.watchMicrophone(call.microphone);
    settings.microphone = call.microphone;
  }
  if (detail.name === "offer") {
    lanes.start();
    timers.push(setInterval(showLevels, LEVEL_PERIOD));
  }
  if (detail.name === "channel") greet();
  showSteps();
}

function showSteps() {
  steps.show(call.timings, call.skippedSteps, quality?.latest?.rtt ?? null);
}

function onRemote({ detail }) {
  playback.start(detail.stream, call.connection);
  levels.watchRemote(detail.stream, call.connection);
}

function onState() {
  if (call.state === "connected" && !quality) {
    connectedAt = performance.now();
    quality = new Quality(call.connection);
    quality.addEventListener("measured", showQuality);
    quality.addEventListener("measured", showSteps);
    timers.push(setInterval(showClock, 250));
  }
  if (call.endedBy === "you") dropSuccessor();
  if (call.over) end();
  settle();
}

function settle() {
  render();
  if (call.broken && !calledAgain && !successor) begin({ again: true });   // once: what fails twice needs a person
}

function end() {
  for (const timer of timers) clearInterval(timer);
  timers = [];
  quality?.stop();
  quality = null;
  lanes.stop();
  levels.close();
  playback.stop();
  settings.microphone = null;
  reported = { at: 0, delay: 0 };
  window.voiceStack.levels = { you: SILENCE, program: SILENCE };   // not the last ones for ever
  delete document.body.dataset.turn;
  showLevel("you", null);
  showLevel("program", null);
  showVoice(null);
}

const length = () => {
  const total = Math.max(0, Math.floor((performance.now() - connectedAt) / 1000));
  return { minutes: Math.floor(total / 60), seconds: total % 60 };
};

const talking = () => controls.modeInForce === "manual" && call?.state === "connected" && call.microphone !== null;
const typing = () => conversation.takesTurns && call?.state === "connected";

function statusText() {
  switch (call.state) {
    case "microphone": return "Please allow the microphone in your browser's question.";
    case "offer": return "Calling…";
    case "connecting": return "Connecting…";
    case "connected":
      if (!call.microphone) return typing() ? "Connected, without your microphone. Type, and listen." : "Connected, without your microphone.";
      if (call.muted) return "You are muted: the program hears silence.";
      return talking() ? "Connected. Hold the space bar, or the button, and speak." : "Connected. Speak, and listen.";
    case "interrupted": return "The connection is interrupted. Waiting for it to come back…";
    case "failed": if (successor) return "The connection was lost. Calling again…";
      return connectedAt ? `The call broke off after ${lengthInWords()}.` : "The call did not work out.";
    default: return endedText();
  }
}

function endedText() {
  const who = call.endedBy === "program" ? "The program hung up" : "You hung up";
  if (!connectedAt) return `${who} before the call was up.`;
  return `${who} after ${lengthInWords()}.`;
}

function lengthInWords() {
  const { minutes, seconds } = length();
  return `${minutes ? `${minutes} min ` : ""}${seconds} s`;
}

const LABELS = { microphone: "Cancel", offer: "Cancel", connecting: "Cancel", connected: "Hang up", interrupted: "Hang up" };

function render() {
  if (!call) return;
  const inCall = ["connected", "interrupted"].includes(call.state);
  document.body.dataset.state = call.state;
  if (inCall) wasUp = true;
  $("call-label").textContent = LABELS[call.state] ?? (wasUp ? "Call again" : "Start");
  const said = statusText();
  if ($("status").textContent !== said) $("status").textContent = said;   // a screen reader says it again otherwise
  const code = call.problem?.code ?? "";
  const gone = [
    [$("mute"), !inCall || !call.microphone], [$("clock"), !inCall], [$("interrupt"), !inCall], [$("talk"), !talking()],
    [$("type-form"), !typing()], [$("token-form"), !code.startsWith("token-")], [$("without"), !code.startsWith("microphone-")],
  ];
  for (const [element, hidden] of gone) {
    if (hidden && element.contains(document.activeElement)) $("call").focus();   // it is about to vanish
    element.hidden = hidden;
  }
  // Not `disabled`: the focus stays where it is when a reply ends.
  $("interrupt").setAttribute("aria-disabled", String(conversation.speaking === null));
  $("mute").setAttribute("aria-pressed", String(call.muted));
  $("mute-label").textContent = call.muted ? "Unmute" : "Mute";
  showProblem(successor ? null : call.problem);
  if (call.over) connectedAt = 0;
}

let problemShown = null;

function showProblem(problem) {
  const box = $("problem");
  if (problem === problemShown) return;
  problemShown = problem;
  if (!problem) return box.replaceChildren();
  const part = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  box.replaceChildren(part("h2", problem.title), part("p", problem.advice), ...(problem.detail ? [part("code", problem.detail)] : []));
  if (problem.code.startsWith("token-")) $("token").focus();
}

function showClock() {
  const { minutes, seconds } = length();
  $("clock").textContent = `${minutes}:${String(seconds).padStart(2, "0")}`;
}

function showLevels() {
  const read = levels.read();
  if (call.muted) read.you = SILENCE;
  window.voiceStack.levels = read;
  const peaks = window.voiceStack.peaks;
  for (const who of ["you", "program"]) {
    showLevel(who, read[who]);
    peaks[who] = Math.max(peaks[who], read[who] ?? SILENCE);
  }
  lanes.add(read);
  showVoice(read.program);
}

function showVoice(level) {
  const loudness = Math.max(0, 1 - (level ?? SILENCE) / SILENCE);
  $("ring").style.transform = `scale(${(1.08 + 0.21 * loudness).toFixed(3)})`;
}

function showLevel(who, level) {
  const meter = $(`level-${who}`);
  meter.setAttribute("aria-valuenow", String(Math.round(level ?? SILENCE)));
  meter.firstElementChild.style.transform = `translateX(${((level ?? SILENCE) / -SILENCE) * 100}%)`;
}

const unit = (value, name, digits) => (value === null ? "–" : `${value.toFixed(digits)} ${name}`);
// Firefox counts round trips in whole milliseconds.
const trip = value => (value === 0 ? "< 1 ms" : unit(value, "ms", value < 10 ? 1 : 0));

// From here to the machine with the media, and on to that of the program where it is another one. Round trips.
function wayOfSound(rtt) {
  if (!path || rtt === null) return null;
  const node = [path.node, path.region].filter(Boolean).join(", ") || "the server";
  return `you – ${trip(rtt)} – ${node} – ${trip(path.program_ms)} – the program: ${trip(rtt + path.program_ms)}`;
}

function showQuality() {
  const now = quality.latest;
  for (const name of ["rtt", "loss", "jitter"]) plots[name].add(now[name]);
  $("rtt").textContent = trip(now.rtt);
  $("loss").textContent = unit(now.loss, "%", 1);
  $("jitter").textContent = unit(now.jitter, "ms", now.jitter < 10 ? 1 : 0);
  const facts = [
    ["Secured by", [now.dtls, now.srtp?.replace(/^SRTP_/, "").replaceAll("_", " ")].filter(Boolean).join(" · ")],
    ["Sound", now.codec], ["Server", now.server],
    ["Way of the sound", wayOfSound(now.rtt)],
    ["Waits in the browser", now.buffer === null ? null : `${Math.round(now.buffer)} ms`],
    ["Loss on the way up", now.lossUp === null ? null : `${now.lossUp.toFixed(1)} %`],
  ].filter(([, value]) => value);
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  ]));
  $("network-note").hidden = true;
}

function clearQuality() {
  path = null;
  for (const [name, plot] of Object.entries(plots)) {
    plot.clear();
    $(name).textContent = "–";
  }
  $("facts").replaceChildren();
  $("network-note").hidden = false;
}

$("call").addEventListener("click", () => (busy() ? call.hangUp() : begin()));
$("without").addEventListener("click", () => begin({ microphone: false }));
$("token-form").addEventListener("submit", event => {
  event.preventDefault();
  token.value = $("token").value.trim();
  instant?.forget();   // a ticket stands for the token that it was given for
  $("token").value = "";
  askForIceServers();
  $("call").focus();
  begin();
});
$("type-form").addEventListener("submit", event => {
  event.preventDefault();
  const text = $("type").value.trim();
  if (!text || !call?.send({ type: "text", text })) return;
  $("type").value = "";
  conversation.type(text);
});
$("mute").addEventListener("click", () => { call.setMuted(!call.muted); render(); });
const interrupt = () => conversation.speaking !== null && call?.send({ type: "interrupt" });
$("interrupt").addEventListener("click", interrupt);
document.addEventListener("keydown", event => event.key === "Escape" && interrupt());
new PushToTalkKey($("talk"), { wanted: talking, press: pressed => call?.send({ type: "push_to_talk", pressed }) });
controls.addEventListener("change", () => {
  if (controls.request) call?.send(controls.request);
  if (call) render();
});
events.on("turn_settings", settings => {
  controls.note(settings);
  render();
});
events.on("path", told => { if (Number.isFinite(told.program_ms)) path = told; });
events.on("program_failed", () => call?.noteProgramFailed());
events.on("goaway", ({ pc_id }) => move(pc_id, { avoid: call?.node ?? "" }));
playback.addEventListener("delay", report);
for (const type of ["silenced", "audible"]) {
  playback.addEventListener(type, ({ detail }) => call?.send({ type, ...detail }));
}
// Nothing that is pressed here would help: say it at once.
if (!window.isSecureContext) showProblem(microphoneUnavailable());
// Leaving the page ends the call at once; the server need not find out by silence.
window.addEventListener("pagehide", () => busy() && call.hangUp());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Object.values(plots).forEach(plot => plot.draw()));
new ResizeObserver(() => Object.values(plots).forEach(plot => plot.draw())).observe($("plot-rtt"));
