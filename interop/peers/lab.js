// The far end of a data channel trial: one peer connection, and a few commands that make it do things.
//
// One file for everything that has RTCPeerConnection as a global: the browsers get it as text, `node/lab.mjs` runs it
// over stacks for Node. `interop/lab.py` says what each command means; `interop/peers/aiortc_lab.py` is its twin.

globalThis.lab = (() => {
  let pc = null;
  let ends = new Map();      // label -> End, the newest of its name

  const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
  const until = async condition => {
    for (let value; ; await pause(4)) if ((value = condition())) return value;
  };

  // Byte i of stream `seed`: the same as `interop.lab.content`.
  const content = (size, seed, start = 0) => {
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i++) {
      let x = Math.imul(start + i + Math.imul(seed, 0x9E3779B1), 0x85EBCA6B);
      x = Math.imul(x ^ (x >>> 13), 0xC2B2AE35);
      bytes[i] = x >>> 24;
    }
    return bytes;
  };
  const letters = (size, seed) => new TextDecoder().decode(content(size, seed).map(byte => 97 + byte % 26));

  const asBytes = data => {
    if (typeof data === "string") return new TextEncoder().encode(data);
    return ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
  };
  const digest = async chunks => {
    const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0));
    let at = 0;
    for (const chunk of chunks) whole.set(chunk, at), at += chunk.byteLength;
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
    return Array.from(hash, byte => byte.toString(16).padStart(2, "0")).join("");
  };

  class End {
    constructor(channel) {
      this.channel = channel;
      this.inbox = [];
      this.bytes = 0;
      this.lows = 0;
      this.mostAtLow = 0;
      this.closed = false;
      this.first = this.last = 0;
      channel.binaryType = "arraybuffer";
      channel.onmessage = ({ data }) => {
        this.last = performance.now();
        this.first ||= this.last;
        this.inbox.push(data);
        this.bytes += typeof data === "string" ? data.length : data.byteLength;
      };
      channel.onclose = () => (this.closed = true);
      channel.onbufferedamountlow = () => {
        this.lows++;
        this.mostAtLow = Math.max(this.mostAtLow, channel.bufferedAmount);
        this.goOn?.();
      };
    }

    get isOpen() { return this.channel.readyState === "open"; }
    get isClosed() { return this.closed || this.channel.readyState === "closed"; }

    describe() {
      const { id, label, protocol, ordered, maxRetransmits, maxPacketLifeTime, negotiated } = this.channel;
      return { id, label, protocol, ordered, maxRetransmits, maxPacketLifeTime, negotiated };
    }
  }

  const end = label => {
    const found = ends.get(label);
    if (!found) throw new Error(`no channel is called ${label}`);
    return found;
  };
  const opened = async label => (await until(() => ends.get(label)?.isOpen && ends.get(label))).describe();

  const commands = {
    async offer() {
      pc?.close();
      ends = new Map();
      pc = new RTCPeerConnection(globalThis.labConfiguration ?? {});
      pc.ondatachannel = ({ channel }) => ends.set(channel.label, new End(channel));
      ends.set("bootstrap", new End(pc.createDataChannel("bootstrap")));
      await pc.setLocalDescription(await pc.createOffer());
      return pc.localDescription.sdp;
    },
    async answer({ sdp }) {
      await pc.setRemoteDescription({ type: "answer", sdp });
      await until(() => ends.get("bootstrap").isOpen);
      // (werift keeps its own limit under the standard name.)
      return { maxMessageSize: pc.sctp?.remoteMaxMessageSize ?? pc.sctp?.maxMessageSize ?? null };
    },
    async open({ label, options }) {
      ends.set(label, new End(pc.createDataChannel(label, options)));
      return opened(label);
    },
    wait_open: ({ label }) => opened(label),
    async send({ label, messages }) {
      for (const { kind, size, seed, text } of messages) {
        end(label).channel.send(kind === "binary" ? content(size, seed) : text ?? letters(size, seed));
      }
    },
    async receive({ label, count }) {
      const here = end(label);
      await until(() => here.inbox.length >= count);
      return Promise.all(here.inbox.splice(0, count).map(async data => {
        const bytes = asBytes(data);
        return { kind: typeof data === "string" ? "text" : "binary", size: bytes.byteLength, sha256: await digest([bytes]) };
      }));
    },
    count: ({ label }) => end(label).inbox.length,
    async transfer({ label, size, chunk, seed, low, high }) {
      const here = end(label), { channel } = here;
      const source = content(size, seed);
      channel.bufferedAmountLowThreshold = low;
      here.lows = here.mostAtLow = 0;
      for (let at = 0; at < size; at += chunk) {
        while (channel.bufferedAmount > high) await new Promise(resolve => (here.goOn = resolve));
        channel.send(source.subarray(at, at + chunk));
      }
      await until(() => channel.bufferedAmount === 0);
      return { lows: here.lows, mostAtLow: here.mostAtLow };
    },
    async collect({ label, size }) {
      const here = end(label);
      await until(() => here.bytes >= size);
      const seconds = (here.last - here.first) / 1000;
      const chunks = here.inbox.splice(0).map(asBytes);
      here.bytes = here.first = 0;
      return { seconds, size: chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0), sha256: await digest(chunks) };
    },
    async close({ label }) { end(label).channel.close(); },
    async wait_closed({ label }) { await until(() => end(label).isClosed); },
    async hang_up() { pc?.close(); pc = null; },
  };
  return async (command, args = {}) => commands[command](args);
})();
