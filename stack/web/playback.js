// The program's voice in this browser: what plays, how long it is held back, and silence at the server's word.
//
// The server stops sending when the person begins to speak; what has arrived by then waits in the browser's jitter
// buffer and would still be heard. It is muted at the track, behind the jitter buffer and before the output device. So
// `delay`, which the server uses to know what was heard, is the jitter buffer's alone: what has passed the track is
// played by the device, muted or not.
//
// Events: "delay" (this.delay is new), "silenced" ({reply, rtp_timestamp, age_ms}: what was playing when it fell silent),
// "audible" ({reply}: the jitter buffer is empty, the track is open). The server sends nothing in between, so that the
// first sound of its next reply is not lost, however busy this page may be.

const PERIOD = 500;      // milliseconds between two looks at the jitter buffer
const WINDOW = 1;        // looks back to which the mean is taken
const USUAL_DELAY = 60;  // milliseconds, where nothing is known of the jitter buffer
const PACKET = 20;       // milliseconds of sound
const FADE = 240;        // milliseconds for which a jitter buffer that has run dry goes on inventing sound
const LONGER = 150;      // milliseconds that it is waited for a last packet, which may have been lost
const LOOK = 10;         // milliseconds between two looks at what is being played

export class Playback extends EventTarget {
  delay = null;          // milliseconds in the jitter buffer, of late; null until something was played
  #stream = null;
  #former = [];
  #timer = 0;
  #drained = 0;
  #receiver = null;
  #mutedReply = null;    // the reply after which it is silent
  #last = null;          // RTP timestamp of the last packet of it
  #emptyAt = 0;          // when that will have been played, by the usual delay

  constructor(element) {
    super();
    this.element = element;
  }

  start(stream, connection) {
    this.#stream = this.element.srcObject = stream;
    this.element.play().catch(() => {});
    this.#receiver = connection.getReceivers().find(receiver => receiver.track.kind === "audio");
    this.#timer = setInterval(() => this.#measure(connection), PERIOD);
  }

  get silent() { return this.#stream?.getAudioTracks().some(track => !track.enabled) ?? false; }

  mute(reply, last = null) {
    this.#enable(false);
    this.#reportPlayed(reply);
    this.#mutedReply = reply;
    this.#last = last;
    this.#emptyAt = performance.now() + (this.delay ?? USUAL_DELAY) + FADE;
    this.#openWhenDrained();
  }

  // A reply is announced: timers may be late, so look now.
  unmute() {
    if (this.#mutedReply !== null) this.#openWhenDrained();
  }

  stop() {
    clearInterval(this.#timer);
    clearTimeout(this.#drained);
    this.#stream = this.element.srcObject = null;
    this.#former = [];
    this.#mutedReply = null;
    this.delay = null;
  }

  #open() {
    if (this.#mutedReply === null) return;
    clearTimeout(this.#drained);
    this.#enable(true);
    this.#emit("audible", { reply: this.#mutedReply });
    this.#mutedReply = null;
  }

  #openWhenDrained() {
    clearTimeout(this.#drained);
    const wait = this.#untilDrained();
    if (wait <= 0) this.#open();
    else this.#drained = setTimeout(() => this.#openWhenDrained(), Math.min(wait, LOOK));
  }

  // Milliseconds, at least, until nothing is left of what was silenced.
  #untilDrained() {
    const left = this.#emptyAt - performance.now();
    const playing = this.#last === null ? null : this.#playing();
    if (playing === null) return left;
    const isLast = ((playing.rtpTimestamp - this.#last) | 0) >= 0;   // timestamps wrap at 32 bits
    return isLast ? PACKET + FADE - playing.age : left + LONGER;
  }

  // The packet that the jitter buffer let go last, and how many milliseconds ago; null where the browser does not say.
  #playing() {
    const latest = this.#receiver?.getSynchronizationSources?.()[0];
    if (latest?.rtpTimestamp === undefined) return null;
    const age = performance.timeOrigin + performance.now() - latest.timestamp;
    return { rtpTimestamp: latest.rtpTimestamp, age: Math.max(0, age) };
  }

  #reportPlayed(reply) {
    const playing = this.#playing();
    if (playing) this.#emit("silenced", { reply, rtp_timestamp: playing.rtpTimestamp, age_ms: playing.age });
  }

  #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  #enable(audible) {
    for (const track of this.#stream?.getAudioTracks() ?? []) track.enabled = audible;
  }

  async #measure(connection) {
    if (connection.connectionState !== "connected") return;
    const report = [...(await connection.getStats()).values()];
    const now = report.find(item => item.type === "inbound-rtp" && item.kind === "audio");
    if (now?.jitterBufferDelay === undefined) return;
    const before = this.#former[0];
    const samples = now.jitterBufferEmittedCount - (before?.jitterBufferEmittedCount ?? 0);
    const waited = now.jitterBufferDelay - (before?.jitterBufferDelay ?? 0);
    this.#former.push(now);
    if (this.#former.length > WINDOW) this.#former.shift();
    if (samples <= 0) return;
    this.delay = waited / samples * 1000;
    this.dispatchEvent(new Event("delay"));
  }
}
