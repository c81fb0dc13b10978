// How loud both sides are, in dBFS (RMS), -60 standing for silence; null where the browser gives no way to know.
//
// Web Audio measures both streams. Where it cannot run (Firefox without any sound output leaves its context suspended)
// the statistics' level of the incoming stream stands in for the program's voice.

export const SILENCE = -60;
const STATISTICS_PERIOD = 150;   // milliseconds
const toDecibels = level => (level > 0 ? Math.max(SILENCE, 20 * Math.log10(level)) : SILENCE);

class Probe {
  constructor(context, stream) {
    this.source = context.createMediaStreamSource(stream);
    this.analyser = context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.samples = new Float32Array(this.analyser.fftSize);
    this.source.connect(this.analyser);
  }

  read() {
    this.analyser.getFloatTimeDomainData(this.samples);
    let sum = 0;
    for (const sample of this.samples) sum += sample * sample;
    return toDecibels(Math.sqrt(sum / this.samples.length));
  }
}

export class Levels {
  #context = new AudioContext();
  #you = null;
  #program = null;
  #programFromStatistics = null;
  #timer = 0;

  constructor() {
    this.#context.resume().catch(() => {});   // made by a click, so it may
  }

  // Milliseconds that the output device holds sound back; 0 where the browser does not say.
  get outputLatency() { return 1000 * (this.#context.outputLatency || 0); }

  watchMicrophone(stream) { this.#you = new Probe(this.#context, stream); }

  watchRemote(stream, connection) {
    this.#program = new Probe(this.#context, stream);
    this.#timer = setInterval(() => this.#ask(connection), STATISTICS_PERIOD);
  }

  get #running() { return this.#context.state === "running"; }

  async #ask(connection) {
    if (this.#running || connection.connectionState !== "connected") return;
    for (const item of (await connection.getStats()).values()) {
      if (item.type === "inbound-rtp" && item.audioLevel !== undefined) {
        this.#programFromStatistics = toDecibels(item.audioLevel);
      }
    }
  }

  read() {
    if (!this.#running) return { you: null, program: this.#programFromStatistics };
    return { you: this.#you?.read() ?? null, program: this.#program?.read() ?? null };
  }

  close() {
    clearInterval(this.#timer);
    if (this.#context.state !== "closed") this.#context.close();
  }
}
