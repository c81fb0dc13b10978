// One voice call: from the click to the hang-up, as a state machine that reports by events and draws nothing.
//
//   idle → microphone → offer → connecting → connected ⇄ interrupted → ended | failed
//
// Events: "state" (this.state), "step" ({name, at}), "remote" ({stream}), "message" ({text}).
// The offer is posted as soon as it exists. Its candidates are never sent: the server is reachable, and sees from the
// first connectivity check where it comes from. That saves the wait for gathering.

import {
  answerUnusable, brokenOff, lost, microphoneProblem, microphoneUnavailable, noNetwork, noPath, notSecured, Problem, serverRefused,
  serverUnreachable, unexpected,
} from "./problems.js";

export const STEPS = ["microphone", "offer", "answer", "ice", "dtls", "first_packet", "channel"];
const OVER = ["ended", "failed"];
const ANSWER_TIMEOUT = 10_000;
const CONNECT_TIMEOUT = 15_000;
const QUESTION_TIMEOUT = 3_000;
const GATHER_TIMEOUT = 5_000;   // host candidates are there at once; Chromium without a network gathers for ever

export class Call extends EventTarget {
  state = "idle";
  problem = null;
  endedBy = null;           // "you" or "program"
  broken = false;           // the server has lost the call, by no fault of ours or of the network
  muted = false;
  microphone = null;        // MediaStream
  timings = {};             // step → milliseconds since the click
  #clicked = 0;
  #pc = null;
  #channel = null;
  #name = null;             // what the server calls this call
  #timer = 0;

  constructor({ url = "api/offer", audio = true } = {}) {
    super();
    this.url = url;
    this.audio = audio;
  }

  get connection() { return this.#pc; }
  get over() { return OVER.includes(this.state); }
  get skippedSteps() { return this.#pc && "answer" in this.timings && !this.#pc.sctp ? ["channel"] : []; }

  async start() {
    this.#clicked = performance.now();
    try {
      // The connection makes its certificate while the user is being asked.
      this.#pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
      await this.#openMicrophone();
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

  async #openMicrophone() {
    this.#enter("microphone");
    if (!navigator.mediaDevices?.getUserMedia) throw microphoneUnavailable();
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: this.audio });
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
    const [track] = this.microphone.getAudioTracks();
    const sender = pc.addTrack(track, this.microphone);
    this.#watchChannel(pc.createDataChannel("events", { ordered: true }));
    this.#watchTrack(pc.getTransceivers()[0].receiver.track);
    pc.addEventListener("iceconnectionstatechange", () => {
      if (["connected", "completed"].includes(pc.iceConnectionState)) this.#step("ice");
    });
    pc.addEventListener("connectionstatechange", () => this.#follow());
    pc.addEventListener("icegatheringstatechange", () => {
      if (pc.iceGatheringState === "complete" && !this.#hasCandidates) this.#fail(noNetwork());
    });
    await pc.setLocalDescription();
    this.#watchTransport(sender.transport);
    this.#step("offer");
    return pc.localDescription;
  }

  async #exchange(offer) {
    const { sdp, type } = offer;
    let response, text;
    try {
      response = await fetch(this.url, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ sdp, type }),
        signal: AbortSignal.timeout(ANSWER_TIMEOUT),
      });
      text = await response.text();
    } catch (error) {
      throw serverUnreachable(`${error.name}: ${error.message}`);
    }
    if (!response.ok) throw serverRefused(response.status, text.slice(0, 300));
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
    this.#timer = setTimeout(() => this.#fail(this.#whyNotConnected()), CONNECT_TIMEOUT);
    setTimeout(() => {
      if (this.state === "connecting" && !this.#hasCandidates) this.#fail(noNetwork());
    }, GATHER_TIMEOUT);
    const pc = this.#pc;
    try {
      await pc.setRemoteDescription(answer);
    } catch (error) {
      throw answerUnusable(error);
    }
    const stream = new MediaStream(pc.getReceivers().map(receiver => receiver.track));
    this.dispatchEvent(new CustomEvent("remote", { detail: { stream } }));
  }

  #watchChannel(channel) {
    this.#channel = channel;
    channel.addEventListener("open", () => this.#step("channel"));
    channel.addEventListener("close", () => this.hangUp("program"));
    channel.addEventListener("message", ({ data }) => {
      this.dispatchEvent(new CustomEvent("message", { detail: { text: String(data) } }));
    });
  }

  #watchTrack(track) {
    track.addEventListener("unmute", () => this.#step("first_packet"));
  }

  #watchTransport(transport) {
    transport?.addEventListener("statechange", () => {
      if (transport.state === "connected") this.#step("dtls");
      if (transport.state === "closed") this.hangUp("program");   // the peer's close_notify
    });
  }

  #follow() {
    const state = this.#pc.connectionState;
    if (state === "connected") {
      clearTimeout(this.#timer);
      this.#step("dtls");   // for browsers without RTCDtlsTransport events
      this.#enter("connected");
    } else if (state === "disconnected" && this.state === "connected") {
      this.#enter("interrupted");
      this.#ask();
    } else if (state === "failed") {
      this.#fail(this.#whyNotConnected());
    }
  }

  // Nothing arrives: is the call still up on the server? Its media process may be gone, and cannot say so itself.
  async #ask() {
    if (this.#name === null) return;
    try {
      const question = `${this.url}?pc_id=${encodeURIComponent(this.#name)}`;
      const answer = await (await fetch(question, { signal: AbortSignal.timeout(QUESTION_TIMEOUT) })).json();
      if (answer.reason !== "worker_failed" || this.over) return;
    } catch {
      return;   // the network is down: wait for it
    }
    this.broken = true;
    this.#fail(brokenOff());
  }

  get #hasCandidates() {
    return /^a=candidate:/m.test(this.#pc.localDescription?.sdp ?? "");
  }

  #whyNotConnected() {
    if (!this.#hasCandidates) return noNetwork();
    if ("dtls" in this.timings) return lost();
    if ("ice" in this.timings) return notSecured();
    const candidate = /^a=candidate:\S+ \d+ (\S+) \d+ (\S+) (\d+) /m.exec(this.#pc.remoteDescription?.sdp ?? "");
    return noPath(candidate ? `${candidate[2]} port ${candidate[3]}` : "");
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
    this.#enter(state);
    this.#pc?.close();
    this.#release();
  }

  #release() {
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
  }
}
