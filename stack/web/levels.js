// How loud both sides are, in dBFS (RMS), -60 standing for silence; null where the browser gives no way to know.
//
// Web Audio measures both streams. Where it cannot run (a browser without any sound output leaves its context
// suspended) the receiver's own level stands in for the program's voice.

export const SILENCE = -60;
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
  #receiver = null;

  constructor() {
    this.#context.resume().catch(() => {});   // made by a click, so it may
  }

  watchMicrophone(stream) { this.#you = new Probe(this.#context, stream); }

  watchRemote(stream, connection) {
    this.#program = new Probe(this.#context, stream);
    [this.#receiver] = connection.getReceivers();
  }

  read() {
    if (this.#context.state === "running") {
      return { you: this.#you?.read() ?? null, program: this.#program?.read() ?? null };
    }
    const source = this.#receiver?.getSynchronizationSources()[0];
    return { you: null, program: source?.audioLevel === undefined ? null : toDecibels(source.audioLevel) };
  }

  close() { this.#context.close(); }
}
