// The program's voice in this browser: what plays, how long it is held back, and silence at the server's word.
//
// The server stops sending when the person begins to speak; what has arrived by then waits in the browser's jitter
// buffer and would still be heard. It is muted at the track, behind the jitter buffer and before the output device. So
// `delay`, which the server uses to know what was heard, is the jitter buffer's alone: what has passed the track is
// played by the device, muted or not.

const PERIOD = 500;      // milliseconds between two looks at the jitter buffer
const WINDOW = 1;        // looks back to which the mean is taken
const USUAL_DELAY = 60;  // milliseconds, where nothing is known of the jitter buffer
const AHEAD = 20;        // milliseconds by which the track is open again before the buffer has run dry
const SHORTEST = 20;

export class Playback extends EventTarget {
  delay = null;          // milliseconds in the jitter buffer, of late; null until something was played
  hushed = 0;            // how often it was silenced
  #stream = null;
  #former = [];
  #timer = 0;
  #drained = 0;

  constructor(element) {
    super();
    this.element = element;
  }

  start(stream, connection) {
    this.#stream = this.element.srcObject = stream;
    this.element.play().catch(() => {});
    this.#timer = setInterval(() => this.#measure(connection), PERIOD);
  }

  get silent() { return this.#stream?.getAudioTracks().some(track => !track.enabled) ?? false; }

  hush() {
    this.hushed += 1;
    this.#enable(false);
    clearTimeout(this.#drained);
    // What the buffer held is gone after its own length. The next reply may follow right behind it: whoever waits for
    // the message that announces it loses its first sound when the page is busy.
    const length = Math.max(SHORTEST, (this.delay ?? USUAL_DELAY) - AHEAD);
    this.#drained = setTimeout(() => this.#enable(true), length);
  }

  speak() {
    clearTimeout(this.#drained);
    this.#enable(true);
  }

  stop() {
    clearInterval(this.#timer);
    clearTimeout(this.#drained);
    this.#stream = this.element.srcObject = null;
    this.#former = [];
    this.delay = null;
  }

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
