// Puts the page together: the call tells, everything else shows.

import { Call } from "./call.js";
import { Events } from "./events.js";
import { Lanes } from "./lanes.js";
import { Levels, SILENCE } from "./levels.js";
import { Plot } from "./plot.js";
import { Quality } from "./quality.js";
import { Settings } from "./settings.js";
import { Steps } from "./steps.js";

const $ = id => document.getElementById(id);
const LEVEL_PERIOD = 40;

const settings = new Settings();
const steps = new Steps($("steps"), $("steps-note"));
const lanes = new Lanes($("timeline"));
const events = new Events($("events"), $("events-note"));
const plots = {
  rtt: new Plot($("plot-rtt"), 20), loss: new Plot($("plot-loss"), 2), jitter: new Plot($("plot-jitter"), 10),
};

let call = null;
let levels = null;
let quality = null;
let connectedAt = 0;
let timers = [];

// What tests read, and what a curious visitor finds in the console.
window.voiceStack = {
  get state() { return call?.state ?? "idle"; },
  get timings() { return { ...call?.timings }; },
  get problem() { return call?.problem && { code: call.problem.code, title: call.problem.title, detail: call.problem.detail }; },
  get endedBy() { return call?.endedBy ?? null; },
  get stats() { return quality?.latest ?? null; },
  get events() { return events.all; },
  get connection() { return call?.connection ?? null; },
  get remote() { return $("remote").srcObject; },
  levels: { you: null, program: null },
  peaks: { you: SILENCE, program: SILENCE },
  on: (type, handler) => events.on(type, handler),
};

const busy = () => call !== null && !call.over;

function begin() {
  call = new Call({ audio: settings.constraints });
  levels = new Levels();
  window.voiceStack.peaks = { you: SILENCE, program: SILENCE };
  steps.clear();
  events.clear();
  clearQuality();
  call.addEventListener("state", onState);
  call.addEventListener("step", onStep);
  call.addEventListener("remote", onRemote);
  call.addEventListener("message", ({ detail }) => events.receive(detail.text, performance.now() - connectedAt));
  call.start();
}

function onStep({ detail }) {
  if (detail.name === "microphone") {
    levels.watchMicrophone(call.microphone);
    lanes.start();
    timers.push(setInterval(showLevels, LEVEL_PERIOD));
  }
  steps.show(call.timings, call.skippedSteps);
}

function onRemote({ detail }) {
  $("remote").srcObject = detail.stream;
  $("remote").play().catch(() => {});
  levels.watchRemote(detail.stream, call.connection);
}

function onState() {
  if (call.state === "connected" && !quality) {
    connectedAt = performance.now();
    quality = new Quality(call.connection);
    quality.addEventListener("measured", showQuality);
    timers.push(setInterval(showClock, 250));
  }
  if (call.over) end();
  render();
}

function end() {
  for (const timer of timers) clearInterval(timer);
  timers = [];
  quality?.stop();
  quality = null;
  lanes.stop();
  levels.close();
  $("remote").srcObject = null;
  showLevel("you", null);
  showLevel("program", null);
  document.body.style.removeProperty("--voice");
}

const length = () => {
  const total = Math.max(0, Math.floor((performance.now() - connectedAt) / 1000));
  return { minutes: Math.floor(total / 60), seconds: total % 60 };
};

function statusText() {
  switch (call.state) {
    case "microphone": return "Please allow the microphone in your browser's question.";
    case "offer": return "Calling…";
    case "connecting": return "Connecting…";
    case "connected": return call.muted ? "You are muted: the program hears silence." : "Connected. Speak, and listen.";
    case "interrupted": return "The connection is interrupted. Waiting for it to come back…";
    case "failed": return connectedAt ? `The call broke off after ${lengthInWords()}.` : "The call did not work out.";
    default: return endedText();
  }
}

function endedText() {
  const who = call.endedBy === "program" ? "The program hung up" : "You hung up";
  if (!connectedAt) return `${who} before the call was up.`;
  return `${who} after ${lengthInWords()}. Press Start to call again.`;
}

function lengthInWords() {
  const { minutes, seconds } = length();
  return `${minutes ? `${minutes} min ` : ""}${seconds} s`;
}

const LABELS = { microphone: "Cancel", offer: "Cancel", connecting: "Cancel", connected: "Hang up", interrupted: "Hang up" };

function render() {
  const inCall = ["connected", "interrupted"].includes(call.state);
  document.body.dataset.state = call.state;
  $("call-label").textContent = LABELS[call.state] ?? "Start";
  $("status").textContent = statusText();
  if (!inCall && document.activeElement === $("mute")) $("call").focus();   // it is about to vanish
  $("mute").hidden = $("clock").hidden = !inCall;
  $("mute").setAttribute("aria-pressed", String(call.muted));
  $("mute-label").textContent = call.muted ? "Unmute" : "Mute";
  showProblem(call.problem);
  if (call.over) connectedAt = 0;
}

function showProblem(problem) {
  const box = $("problem");
  if (!problem) return box.replaceChildren();
  const part = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  box.replaceChildren(part("h2", problem.title), part("p", problem.advice), ...(problem.detail ? [part("code", problem.detail)] : []));
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
  document.body.style.setProperty("--voice", String(Math.max(0, 1 - (read.program ?? SILENCE) / SILENCE)));
}

function showLevel(who, level) {
  const meter = $(`level-${who}`);
  meter.setAttribute("aria-valuenow", String(Math.round(level ?? SILENCE)));
  meter.firstElementChild.style.transform = `translateX(${((level ?? SILENCE) / -SILENCE) * 100}%)`;
}

const unit = (value, name, digits) => (value === null ? "–" : `${value.toFixed(digits)} ${name}`);
// Firefox counts round trips in whole milliseconds.
const trip = value => (value === 0 ? "< 1 ms" : unit(value, "ms", value < 10 ? 1 : 0));

function showQuality() {
  const now = quality.latest;
  for (const name of ["rtt", "loss", "jitter"]) plots[name].add(now[name]);
  $("rtt").textContent = trip(now.rtt);
  $("loss").textContent = unit(now.loss, "%", 1);
  $("jitter").textContent = unit(now.jitter, "ms", now.jitter < 10 ? 1 : 0);
  const facts = [
    ["Secured by", [now.dtls, now.srtp?.replace(/^SRTP_/, "").replaceAll("_", " ")].filter(Boolean).join(" · ")],
    ["Sound", now.codec], ["Server", now.server],
    ["Waits in the browser", now.buffer === null ? null : `${Math.round(now.buffer)} ms`],
    ["Loss on the way up", now.lossUp === null ? null : `${now.lossUp.toFixed(1)} %`],
  ].filter(([, value]) => value);
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  ]));
  $("line-note").hidden = true;
}

function clearQuality() {
  for (const [name, plot] of Object.entries(plots)) {
    plot.clear();
    $(name).textContent = "–";
  }
  $("facts").replaceChildren();
  $("line-note").hidden = false;
}

$("call").addEventListener("click", () => (busy() ? call.hangUp() : begin()));
$("mute").addEventListener("click", () => { call.setMuted(!call.muted); render(); });
// Leaving the page ends the call at once; the server need not find out by silence.
window.addEventListener("pagehide", () => busy() && call.hangUp());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Object.values(plots).forEach(plot => plot.draw()));
new ResizeObserver(() => Object.values(plots).forEach(plot => plot.draw())).observe($("plot-rtt"));
