// The program's voice in this browser: what plays, how long it is held back, and silence at the server's word.
//
// The server stops sending when the person begins to speak; what has arrived by then waits in the browser's jitter
// buffer and would still be heard. It is muted at the track, behind the jitter buffer and before the output device. So
// `delay`, which the server uses to know what was heard, is the jitter buffer's alone: what has passed the track is
// played by the device, muted or not.

const PERIOD = 500;      // milliseconds between two looks at the jitter buffer
const WINDOW = 2;        // of them are averaged
const DRAINED = 400;     // milliseconds after which nothing of a reply that was stopped can be left, at the least

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
    // A program may go on without a reply; it is not to stay unheard.
    this.#drained = setTimeout(() => this.#enable(true), Math.max(DRAINED, 2 * (this.delay ?? 0)));
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
