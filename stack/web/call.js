// One voice call: from the click to the hang-up, as a state machine that reports by events and draws nothing.
//
//   idle → microphone → offer → connecting → connected ⇄ interrupted → ended | failed
//
// With a ticket of the last call (`instant.js`) it begins with "connecting", and the microphone is opened meanwhile.
// Events: "state" (this.state), "step" ({name, at}), "remote" ({stream}), "message" ({text}); "silent": nothing arrives any
// more, said again each second, and "heard": it does again.
// The offer is posted as soon as it exists. Its candidates are never sent: the server is reachable, and sees from the
// first connectivity check where it comes from. That saves the wait for gathering.

import {
  answerUnusable, brokenOff, lost, microphoneProblem, microphoneUnavailable, noNetwork, noPath, notSecured, Problem,
  programFailed, serverGone, serverRefused, serverUnreachable, unexpected,
} from "./problems.js";

import { Arrivals } from "./arrivals.js";
import { shapeOf } from "./instant.js";

export const STEPS = ["microphone", "offer", "answer", "ice", "dtls", "first_packet", "channel"];
const CHANNEL = { label: "events", id: 0 };   // agreed on in offer and answer (RFC 8864): no message has to open it
const OVER = ["ended", "failed"];
const UP = ["connected", "interrupted"];
const HAS_PATH = ["connected", "completed"];
const VISIBLE_ASCII = /^[\x21-\x7e]*$/;
const ANSWER_TIMEOUT = 8_000;
const CONNECT_TIMEOUT = 10_000;
const QUESTION_TIMEOUT = 3_000;
const INSTANT_TIMEOUT = 500;    // without an answer to a check; then it is asked over HTTP
const PING_AFTER = 250;         // of silence on the network: what a server that is there acknowledges at once
const SILENT_AFTER = 500;       // then "silent" is said, or later on a path of long round trips
const SILENT_AGAIN = 1_000;
const LOOK = 50;
const CONSENT_PERIOD = 2_500;   // of checks, the only packets of a silent call without a channel
const ASK_AFTER = 2_000;        // then the server is asked over HTTP what has become of the call
const ASK_AGAIN = 1_500;
const DOUBT_AFTER = 4_000;      // then it is asked over HTTP, too
const SILENCE_TIMEOUT = 8_000;  // then it is gone; browsers take up to 30 s to say so
const LATE_TIMEOUT = 15_000;    // where its media process does not answer the server either, which ends that in 9 s
const FAILURE_SETTLES = 50;     // after a channel was closed: whether the connection has failed, and the last words, are known
const GATHER_TIMEOUT = 5_000;   // host candidates are there at once; Chromium without a network gathers for ever

// Ask which STUN and TURN servers there are, before the first call: none waits for it. None if the server has none, or does
// not say.
export async function findIceServers(token = "", url = "api/ice-servers") {
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(ANSWER_TIMEOUT) });
    return response.ok ? (await response.json()).iceServers : [];
  } catch {
    return [];
  }
}

export class Call extends EventTarget {
  state = "idle";
  problem = null;
  endedBy = null;           // "you" or "program"
  broken = false;           // the server has lost the call, by no fault of ours or of the network
  muted = false;
  microphone = null;        // MediaStream
  remote = null;            // MediaStream
  timings = {};             // step → milliseconds since the click
  way = null;               // how it came about: "ticket" or "http"
  #clicked = 0;
  #pc = null;
  #channel = null;
  #opening = null;          // the microphone
  #name = null;             // what the server calls this call
  #asked = false;           // since something arrived last
  #late = false;            // the server has the call, but no answer of the process that has its media
  #restarting = false;
  #timer = 0;
  #arrivals = null;
  #pingedAt = null;         // in this silence
  #saidSilentAt = null;
  #serverAnswers = null;    // whether HTTP goes on where the call has fallen silent

  // `audio`: constraints of the microphone; null: a call without one. `token`: for a server that asks for one.
  // `iceServers`: as `findIceServers` returns them, for networks that let nothing but a TURN server through.
  // `instant`: an `InstantConnect`; null: every call asks over HTTP. `movedFrom`: the call that this one takes the place
  // of, whose machine has said `goaway` or is silent; `avoid`: that machine; `stream`: its microphone, so
  // that the user is not asked again.
  constructor({
    url = "api/offer", health = "healthz", audio = true, token = "", iceServers = [], instant = null,
    movedFrom = "", avoid = "", stream = null,
  } = {}) {
    super();
    Object.assign(this, { url, health, audio, token, iceServers, instant, movedFrom, avoid, stream });
  }

  get connection() { return this.#pc; }
  get over() { return OVER.includes(this.state); }
  get name() { return this.#name; }
  // The machine that has the call, where there are several: it is in the username fragment of its answer.
  get node() {
    return /^a=ice-ufrag:[0-9a-z]([A-Za-z0-9/]*)\+/m.exec(this.#pc?.remoteDescription?.sdp ?? "")?.[1] ?? "";
  }
  get skippedSteps() {
    if (this.way === "ticket") return ["answer"];
    return this.#pc && "answer" in this.timings && !this.#pc.sctp ? ["channel"] : [];
  }

  async start() {
    this.#clicked = performance.now();
    try {
      if (await this.#callByTicket() || this.over) return;
      this.way = "http";
      // Without `instant` the connection makes its certificate while the user is being asked.
      this.#pc = await this.#connect();
      if (this.audio !== null) {
        this.#enter("microphone");
        await this.#openMicrophone();
        this.#step("microphone");
      }
      if (this.over) return;
      const offer = await this.#makeOffer();
      if (this.over) return;
      const answer = await this.#exchange(offer);
      if (this.over) return;
      await this.#accept(answer);
    } catch (error) {
      if (!(error instanceof Problem)) console.error(error);
      this.#fail(error instanceof Problem ? error : unexpected(error));
    }
  }

  hangUp(by = "you") {
    if (this.over) return;
    this.endedBy = by;
    this.#finish("ended");
  }

  // The server has said that its program raised; it may be heard after the end of the connection, which came with it.
  noteProgramFailed() {
    if (this.endedBy !== "program") return this.#fail(programFailed());
    this.endedBy = null;
    this.problem = programFailed();
    this.state = "failed";
    this.dispatchEvent(new Event("state"));
  }

  setMuted(muted) {
    this.muted = muted;
    for (const track of this.microphone?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  // Ask the server for something; false if there is no way to, yet or any more.
  send(request) {
    if (this.#channel?.readyState !== "open") return false;
    this.#channel.send(JSON.stringify(request));
    return true;
  }

  async #connect() {
    const certificates = this.instant ? { certificates: [await this.instant.certificate()] } : {};
    return new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers: this.iceServers, ...certificates });
  }

  // Use the ticket of the last call; false if there is none, or nothing answers it: then nothing is left of it.
  async #callByTicket() {
    const ticket = await this.instant?.take();
    if (!ticket || this.over) return false;
    this.way = "ticket";
    const pc = this.#pc = await this.#connect();
    const direction = this.audio === null ? "recvonly" : "sendrecv";
    const transceiver = pc.addTransceiver("audio", { direction });
    await this.#describe(pc, transceiver);
    if (this.over) return true;
    if (shapeOf(pc.localDescription.sdp) === ticket.shape) {
      this.#enter("connecting");
      this.#settleChannel(ticket.answer, () => pc === this.#pc);
      await pc.setRemoteDescription({ type: "answer", sdp: ticket.answer });
      const answered = hasPath(pc, INSTANT_TIMEOUT);
      const microphone = this.audio === null ? Promise.resolve() : this.#openMicrophone();
      microphone.catch(() => {});   // awaited below, or asked again
      if (await answered && !this.over) {
        this.#expectConnection();
        this.#showRemote();
        await microphone;
        const [track] = this.microphone?.getAudioTracks() ?? [];
        if (track && !this.over) await transceiver.sender.replaceTrack(track);
        return true;
      }
    }
    this.#pc = null;
    pc.close();
    this.#channel = null;
    if (!this.over) this.timings = {};
    return this.over;
  }

  // Ask once, also where it goes on over HTTP.
  #openMicrophone() { return this.#opening ??= this.#askForMicrophone(); }

  async #askForMicrophone() {
    if (!navigator.mediaDevices?.getUserMedia) throw microphoneUnavailable();
    let stream;
    try {
      stream = this.stream ?? await navigator.mediaDevices.getUserMedia({ audio: this.audio });
    } catch (error) {
      throw await microphoneProblem(error);
    }
    this.microphone = stream;
    if (this.over) return this.#release();
    this.setMuted(this.muted);
    this.#step("microphone");
  }

  async #makeOffer() {
    this.#enter("offer");
    const pc = this.#pc;
    const [track] = this.microphone?.getAudioTracks() ?? [];
    if (track) pc.addTrack(track, this.microphone);
    else pc.addTransceiver("audio", { direction: "recvonly" });
    await this.#describe(pc, pc.getTransceivers()[0]);
    return pc.localDescription;
  }

  // Watch a connection that has its sound, and make its offer.
  async #describe(pc, transceiver) {
    const isOurs = () => pc === this.#pc;   // not one that was given up
    this.#watchChannel(pc.createDataChannel(CHANNEL.label, { negotiated: true, id: CHANNEL.id }), isOurs);
    this.#watchTrack(transceiver.receiver.track);
    pc.addEventListener("iceconnectionstatechange", () => {
      if (isOurs() && HAS_PATH.includes(pc.iceConnectionState)) this.#step("ice");
    });
    pc.addEventListener("connectionstatechange", () => isOurs() && this.#follow());
    pc.addEventListener("icegatheringstatechange", () => {
      // Firefox shows some addresses to a page that hears the microphone alone: a call by a ticket may be too early.
      if (!isOurs() || pc.iceGatheringState !== "complete" || this.#hasCandidates) return;
      if (this.way === "http" || this.state === "connected") this.#fail(noNetwork());
    });
    await pc.setLocalDescription();
    this.#watchTransport(transceiver.receiver.transport, isOurs);
    this.#step("offer");
  }

  async #exchange(offer) {
    const { type } = offer, sdp = withChannel(offer.sdp);
    let response, text;
    // A header holds no other characters, so no server ever gave out such a token.
    if (!VISIBLE_ASCII.test(this.token)) throw serverRefused(401, "a token has visible ASCII characters alone", true);
    try {
      response = await fetch(this.url, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...(this.token && { Authorization: `Bearer ${this.token}` }) },
        body: JSON.stringify({
          sdp, type, ...(this.#name !== null && { pc_id: this.#name }),
          ...(this.movedFrom && this.#name === null && { moved_from: this.movedFrom }),
          ...(this.avoid && this.#name === null && { avoid: this.avoid }),
        }),
        signal: AbortSignal.timeout(ANSWER_TIMEOUT),
      });
      text = await response.text();
    } catch (error) {
      throw serverUnreachable(`${error.name}: ${error.message}`);
    }
    if (!response.ok) throw serverRefused(response.status, text.slice(0, 300), this.token !== "");
    try {
      return JSON.parse(text);
    } catch (error) {
      throw answerUnusable(error);
    }
  }

  async #accept(answer) {
    this.#step("answer");
    this.#name = answer.pc_id ?? null;
    this.#enter("connecting");
    this.#expectConnection();
    const pc = this.#pc;
    this.#settleChannel(answer.sdp, () => pc === this.#pc);
    try {
      await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    } catch (error) {
      throw answerUnusable(error);
    }
    this.#showRemote();
    await this.instant?.keep(pc.localDescription.sdp, answer.sdp, answer.instant);
  }

  #expectConnection() {
    this.#timer = setTimeout(() => this.#fail(this.#whyNotConnected()), CONNECT_TIMEOUT);
    setTimeout(() => {
      if (this.state === "connecting" && !this.#hasCandidates) this.#fail(noNetwork());
    }, GATHER_TIMEOUT);
  }

  // Open another channel by a message, for a server that does not know RFC 8864.
  #settleChannel(answer, isOurs) {
    if (agreesOnChannel(answer)) return;
    const former = this.#channel;
    this.#watchChannel(this.#pc.createDataChannel(CHANNEL.label), isOurs);
    former.close();
  }

  #showRemote() {
    const stream = new MediaStream(this.#pc.getReceivers().map(receiver => receiver.track));
    this.remote = stream;
    this.dispatchEvent(new CustomEvent("remote", { detail: { stream } }));
  }

  #watchChannel(channel, isOurs) {
    this.#channel = channel;
    channel.addEventListener("open", () => this.#step("channel"));
    channel.addEventListener("close", () => {
      // The channels of a connection that has failed are closed, too, in Chromium before that is said: no hang-up.
      setTimeout(() => {
        if (isOurs() && channel === this.#channel && !hasFailed(this.#pc)) this.hangUp("program");
      }, FAILURE_SETTLES);
    });
    channel.addEventListener("message", ({ data }) => {
      const told = readInstant(data);
      if (told) {
        if (isOurs()) this.#name ??= told.pc_id ?? null;
        return void this.instant?.renew(told.instant);
      }
      this.dispatchEvent(new CustomEvent("message", { detail: { text: String(data) } }));
    });
  }

  #watchTrack(track) {
    track.addEventListener("unmute", () => this.#step("first_packet"));
  }

  #watchTransport(transport, isOurs) {
    transport?.addEventListener("statechange", () => {
      if (!isOurs()) return;
      if (transport.state === "connected") this.#step("dtls");
      // The peer's close_notify. What it sent just before may still be on its way to the page, in Firefox.
      if (transport.state === "closed") setTimeout(() => isOurs() && this.hangUp("program"), FAILURE_SETTLES);
    });
  }

  #follow() {
    const state = this.#pc.connectionState;
    if (state === "connected") {
      clearTimeout(this.#timer);
      this.#step("dtls");   // for browsers without RTCDtlsTransport events
      this.#watchArrivals();
      this.#enter("connected");
    } else if (state === "disconnected" && this.state === "connected") {
      this.#enter("interrupted");
      this.#ask();
    } else if (state === "failed") {
      this.#giveUp(this.#whyNotConnected());
    }
  }

  // Notice that nothing arrives any more.
  #watchArrivals() {
    if (this.#arrivals) return;
    this.#arrivals = new Arrivals(this.#pc);
    this.#arrivals.addEventListener("arrived", () => this.#noteArrival());
    this.#arrivals.addEventListener("silence", ({ detail }) => this.#noteSilence(detail.ms, detail.roundTrip));
  }

  #noteArrival() {
    if (hasFailed(this.#pc)) return;   // what came before that, and answers to checks
    this.#serverAnswers = null;
    this.#asked = this.#late = false;
    this.#pingedAt = null;
    if (this.#saidSilentAt === null) return;
    this.#saidSilentAt = null;
    this.dispatchEvent(new Event("heard"));
  }

  // A program that is silent sends nothing: a message asks for an acknowledgement, before this is taken for silence.
  #noteSilence(silence, roundTrip) {
    const now = performance.now();
    if (silence > PING_AFTER && this.send({ type: "ping" })) this.#pingedAt ??= now;
    const waited = this.#pingedAt === null ? silence - CONSENT_PERIOD : now - this.#pingedAt;
    const isSilent = silence > SILENT_AFTER && waited > Math.max(SILENT_AFTER - PING_AFTER - LOOK, 2 * roundTrip);
    if (isSilent) this.#saySilent();
    if (silence > ASK_AFTER) this.#ask();
    if (silence > DOUBT_AFTER) this.#askServer();
    if (silence < (this.#late ? LATE_TIMEOUT : SILENCE_TIMEOUT)) return;
    if (this.#late) this.#breakOff();
    else this.#fail(this.#serverAnswers === false ? serverGone() : lost());
  }

  #saySilent() {
    const now = performance.now();
    if (now - (this.#saidSilentAt ?? -Infinity) <= SILENT_AGAIN) return;
    this.#saidSilentAt = now;
    this.dispatchEvent(new Event("silent"));
  }

  #askServer() {
    if (this.#serverAnswers !== null) return;
    this.#serverAnswers = false;
    fetch(this.health, { signal: AbortSignal.timeout(SILENCE_TIMEOUT - DOUBT_AFTER) })
      .then(() => { this.#serverAnswers = true; }, () => {});
  }

  // Nothing arrives: is the call still up on the server? Its media process may be gone, and cannot say so itself.
  async #ask() {
    if (this.#name === null || this.#asked) return;
    this.#asked = true;
    try {
      const answer = await this.#stateThere();
      if (this.over) return;
      this.#late = answer.late === true;
      if (answer.state === "up" && !this.#late) this.#restart();
      else if (answer.reason === "worker_failed") return this.#breakOff();
      else if (answer.state !== "up") return;
    } catch { /* the network is down: wait for it */ }
    setTimeout(() => { this.#asked = false; }, ASK_AGAIN);
  }

  // What the server says of this call.
  async #stateThere() {
    const question = `${this.url}?pc_id=${encodeURIComponent(this.#name)}`;
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    return (await fetch(question, { headers, signal: AbortSignal.timeout(QUESTION_TIMEOUT) })).json();
  }

  // The browser has given up. If that is because a media process was lost, the server knows, and the page may call again.
  // A call that was up waits for the one that takes its place, as where nothing arrives any more.
  async #giveUp(problem) {
    const wasUp = UP.includes(this.state);
    if (wasUp) this.#saySilent();
    if (this.#name !== null && "dtls" in this.timings) {
      const answer = await this.#stateThere().catch(() => ({}));
      if (answer.reason === "worker_failed") return this.#breakOff();
    }
    if (wasUp) this.#enter("interrupted");
    else this.#fail(problem);
  }

  #breakOff() {
    this.broken = true;
    this.#fail(brokenOff());
  }

  // The server has the call, and nothing arrives: this machine may have another address by now. An ICE restart takes
  // the call there; browsers do not do it by themselves.
  async #restart() {
    if (this.#restarting) return;
    this.#restarting = true;
    try {
      this.#pc.restartIce();
      await this.#pc.setLocalDescription();
      const answer = await this.#exchange(this.#pc.localDescription);
      if (!this.over) await this.#pc.setRemoteDescription(answer);
    } catch (error) {
      if (!this.over) console.warn("the call could not be moved:", error.message);
    }
    this.#restarting = false;
  }

  get #hasCandidates() {
    return /^a=candidate:/m.test(this.#pc.localDescription?.sdp ?? "");
  }

  #whyNotConnected() {
    if (!this.#hasCandidates) return noNetwork();
    if ("dtls" in this.timings) return lost();
    if ("ice" in this.timings) return notSecured();
    const candidate = /^a=candidate:\S+ \d+ (\S+) \d+ (\S+) (\d+) /m.exec(this.#pc.remoteDescription?.sdp ?? "");
    return noPath(candidate ? `${candidate[2]} port ${candidate[3]}` : "", CONNECT_TIMEOUT / 1000);
  }

  #step(name) {
    if (name in this.timings || this.over) return;
    const at = this.timings[name] = performance.now() - this.#clicked;
    this.dispatchEvent(new CustomEvent("step", { detail: { name, at } }));
  }

  #enter(state) {
    if (this.over || this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #fail(problem) {
    if (this.over) return;
    this.problem = problem;
    this.#finish("failed");
  }

  #finish(state) {
    clearTimeout(this.#timer);
    this.#arrivals?.stop();
    this.#enter(state);
    this.#pc?.close();
    this.#release();
  }

  #release() {
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
  }
}

// The browser does not write `a=dcmap` itself.
function withChannel(sdp) {
  return sdp.split(/^(?=m=)/m).map(section => section.startsWith("m=application")
    ? `${section}a=dcmap:${CHANNEL.id} label="${CHANNEL.label}"\r\n` : section).join("");
}

function agreesOnChannel(sdp) { return new RegExp(`^a=dcmap:${CHANNEL.id} `, "m").test(sdp ?? ""); }

function hasFailed(pc) {
  return pc.connectionState === "failed" || pc.getReceivers()[0]?.transport?.state === "failed";
}

// Return whether a check is answered within so many milliseconds.
function hasPath(pc, patience) {
  return new Promise(resolve => {
    const timer = setTimeout(() => resolve(false), patience);
    pc.addEventListener("iceconnectionstatechange", () => {
      if (!HAS_PATH.includes(pc.iceConnectionState)) return;
      clearTimeout(timer);
      resolve(true);
    });
  });
}

// What the server calls a call by a ticket, and a ticket for the next one.
function readInstant(text) {
  if (typeof text !== "string" || !text.includes('"instant"')) return null;
  try {
    const message = JSON.parse(text);
    return message?.type === "instant" ? message : null;
  } catch {
    return null;
  }
}
