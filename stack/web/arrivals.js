// Whether anything arrives over a connection: looked for every 100 ms, so that silence is noticed in half a second.
//
// While a program speaks, the track says so, which is cheap; else a report of the connection is read. All kinds of
// packet count, over all pairs of candidates: answers to consent checks, acknowledgements of messages.
// Events: "arrived"; "silence" ({ms, roundTrip}): how long nothing has come, and the round trip that was measured last.

const PERIOD = 100;

export class Arrivals extends EventTarget {
  #pc;
  #timer;
  #at = performance.now();
  #counts = null;           // of the report before; null: something has arrived since
  #played = 0;
  #looking = false;

  constructor(pc) {
    super();
    this.#pc = pc;
    this.#timer = setInterval(() => this.#look(), PERIOD);
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
  }

  async #look() {
    if (this.#looking) return;
    if (this.#hasPlayed()) return this.#note(null);
    this.#looking = true;
    const report = await this.#pc.getStats();
    this.#looking = false;
    if (this.#timer === null) return;
    const counts = arrivals(report), before = this.#counts;
    if (before?.some((count, kind) => counts[kind] > count)) return this.#note(counts);
    this.#counts = counts;
    const ms = performance.now() - this.#at;
    this.dispatchEvent(new CustomEvent("silence", { detail: { ms, roundTrip: roundTrip(report) } }));
  }

  #note(counts) {
    this.#counts = counts;
    this.#at = performance.now();
    this.dispatchEvent(new Event("arrived"));
  }

  // Whether sound has come to the track since the last look.
  #hasPlayed() {
    const latest = this.#pc.getReceivers()[0]?.getSynchronizationSources?.()[0]?.timestamp ?? 0;
    const isNew = latest > this.#played;
    this.#played = latest;
    return isNew;
  }
}

// How much has arrived so far, kind by kind. An ICE restart makes pairs and drops others, and moves nothing up: only what
// grows has arrived.
const COUNTED = ["bytesReceived", "packetsReceived", "responsesReceived", "requestsReceived"];

function arrivals(report) {
  const items = [...report.values()].filter(({ type }) => type === "transport" || type === "candidate-pair");
  const latest = Math.max(0, ...items.map(item => Number(item.lastPacketReceivedTimestamp ?? 0)));
  return [...COUNTED.map(name => items.reduce((sum, item) => sum + (item[name] ?? 0), 0)), latest];
}

// Of the path in use, in milliseconds, as far as it was measured.
function roundTrip(report) {
  const pairs = [...report.values()].filter(({ type, nominated }) => type === "candidate-pair" && nominated);
  return 1000 * Math.max(0, ...pairs.map(pair => pair.currentRoundTripTime ?? 0));
}
