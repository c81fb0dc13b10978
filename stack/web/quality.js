// The line, asked of getStats once a second: round trip, loss and jitter, and what the call agreed upon.

const PERIOD = 1000;

export class Quality extends EventTarget {
  latest = null;
  #former = null;
  #timer = 0;

  constructor(connection) {
    super();
    this.connection = connection;
    this.#timer = setInterval(() => this.#ask(), PERIOD);
  }

  stop() { clearInterval(this.#timer); }

  async #ask() {
    const report = [...(await this.connection.getStats()).values()];
    if (this.connection.connectionState === "closed") return;
    const find = (type, condition = () => true) => report.find(item => item.type === type && condition(item));
    const incoming = find("inbound-rtp", item => item.kind === "audio");
    const remote = find("remote-inbound-rtp", item => item.kind === "audio");
    const transport = find("transport");
    const pair = find("candidate-pair",
      item => item.id === transport?.selectedCandidatePairId || item.selected || (item.nominated && item.state === "succeeded"));
    if (!incoming) return;
    const trip = pair?.currentRoundTripTime ?? remote?.roundTripTime;
    this.latest = {
      rtt: trip === undefined ? null : trip * 1000,
      loss: this.#rate(incoming, "packetsLost", ["packetsLost", "packetsReceived"]),
      lossUp: remote?.fractionLost === undefined ? null : remote.fractionLost * 100,
      jitter: incoming.jitter === undefined ? null : incoming.jitter * 1000,
      buffer: this.#buffer(incoming),
      packetsReceived: incoming.packetsReceived,
      packetsLost: incoming.packetsLost,
      ...agreed(transport, pair, report, incoming),
    };
    this.#former = incoming;
    this.dispatchEvent(new Event("measured"));
  }

  // Percent of what came or should have come since the last time.
  #rate(now, part, whole) {
    const since = key => now[key] - (this.#former?.[key] ?? 0);
    const total = whole.reduce((sum, key) => sum + since(key), 0);
    return total > 0 ? Math.max(0, since(part)) / total * 100 : 0;
  }

  // Milliseconds that sound waited in the browser's jitter buffer, over the last period.
  #buffer(now) {
    const samples = now.jitterBufferEmittedCount - (this.#former?.jitterBufferEmittedCount ?? 0);
    const delay = now.jitterBufferDelay - (this.#former?.jitterBufferDelay ?? 0);
    return samples > 0 ? delay / samples * 1000 : null;
  }
}

const TLS_VERSIONS = { FEFD: "DTLS 1.2", FEFC: "DTLS 1.3" };

function agreed(transport, pair, report, incoming) {
  const byId = id => report.find(item => item.id === id);
  const remote = byId(pair?.remoteCandidateId);
  const codec = byId(incoming.codecId);
  return {
    dtls: TLS_VERSIONS[transport?.tlsVersion] ?? null,
    cipher: transport?.dtlsCipher ?? null,
    srtp: transport?.srtpCipher ?? null,
    codec: codec ? `${codec.mimeType.replace("audio/", "")}, payload type ${codec.payloadType}` : null,
    server: remote?.address ? `${remote.address} port ${remote.port}, ${remote.protocol}` : null,
  };
}
