// `node call.mjs wrtc|werift|node-datachannel`: either end of a call over a stack for Node, told what to do by JSON
// lines on stdin; the commands are those of ../gstreamer/peer.py. werift and node-datachannel have no codecs: they are
// given Opus packets, which they send again and again, and `listen` returns those that arrive.

import { createInterface } from "node:readline";

const sleep = time => new Promise(resolve => setTimeout(resolve, time));
const until = async (test, what, seconds = 20) => {
  for (const end = Date.now() + 1000 * seconds; Date.now() < end; await sleep(10)) {
    const found = test();
    if (found) return found;
  }
  throw new Error(`no sign of ${what} within ${seconds} s`);
};

// Milliseconds of sound in an Opus packet (RFC 6716 §3.1).
const duration = packet => {
  const config = packet[0] >> 3, code = packet[0] & 3;
  const frame = config < 12 ? [10, 20, 40, 60][config & 3] : config < 16 ? [10, 20][config & 1] : [2.5, 5, 10, 20][config & 3];
  return frame * (code === 3 ? packet[1] & 63 : code ? 2 : 1);
};

// Give `write` one packet after the other at its time, with the count of its samples; nothing while `isMuted` says so.
const pace = (packets, ptime, isMuted, write) => {
  let n = 0;
  const start = performance.now();
  return setInterval(() => {
    for (; n * ptime < performance.now() - start; n++)
      if (!isMuted()) write(n, n * ptime * 48, Buffer.from(packets[n % packets.length], "base64"));
  }, 10);
};

// What the stacks share: channels and their inboxes, the sound that was heard, the end.
class Call {
  channels = new Map();   // label -> { channel, inbox, isOpen, isClosed }; the newest of its name
  heard = null;
  heardSeconds = 0;
  muted = false;
  hasData = true;
  hear(payload) {
    if (!this.heard || !payload.length) return;
    this.heard.push(Buffer.from(payload).toString("base64"));
    this.heardSeconds += duration(payload) / 1000;
  }
  hold(channel, label) {
    const held = { channel, inbox: [], isOpen: false, isClosed: false };
    held.take = data => held.inbox.push(typeof data === "string" ? { text: data } : { binary: Buffer.from(data).toString("base64") });
    held.end = () => { held.isClosed = true; held.isOpen = false; if (label === "trial") this.gone = true; };
    this.channels.set(label, held);
    return held;
  }
  opened(label) { return until(() => this.channels.get(label)?.isOpen, `the channel ${label}`); }
  async connected() {
    await until(() => this.state() === "connected", `the connection (${this.state()})`);
    if (this.hasData) await this.opened("trial");
  }
  async listen({ seconds }) {
    this.heard = [];
    this.heardSeconds = 0;
    try { await until(() => this.heardSeconds >= seconds, `${seconds} s of sound`, seconds + 10); } catch (error) { if (!this.heard.length) throw error; }
    return this.heard.splice(0);
  }
  mute({ muted }) { this.muted = muted; }
  receive({ label = "trial" }) { return until(() => this.channels.get(label)?.inbox.shift(), "a message"); }
  close({ label }) { this.channels.get(label).channel.close(); }
  closed({ label }) { return until(() => this.channels.get(label).isClosed, `the end of the channel ${label}`).then(() => null); }
  wait_ended() { return until(() => this.gone || ["disconnected", "failed", "closed"].includes(this.state()), "the end").then(() => null); }
}

// A peer connection with the browsers' interface.
class Standard extends Call {
  state() { return this.pc.connectionState; }
  use(channel) {
    const held = this.hold(channel, channel.label);
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => held.take(data);
    channel.onclose = held.end;
    channel.onopen = () => { held.isOpen = true; };
    if (channel.readyState === "open") held.isOpen = true;
  }
  async open({ label, init }) { this.use(this.pc.createDataChannel(label, init)); await this.opened(label); }
  async channel({ label }) {
    await this.opened(label);
    const { id, protocol, ordered, maxRetransmits, maxPacketLifeTime } = this.channels.get(label).channel;
    return { id, protocol, ordered, maxRetransmits: maxRetransmits ?? null, maxPacketLifeTime: maxPacketLifeTime ?? null };
  }
  async gathered() {
    await until(() => this.pc.iceGatheringState === "complete", "its candidates");
    return this.pc.localDescription.sdp;
  }
  async offer(args) {
    this.make(args);
    for (let n = 1; n < (args.audio_sections ?? 1); n++) this.another();
    if (args.video) this.pc.addTransceiver("video", { direction: "recvonly" });
    this.hasData = args.data;
    if (args.data) this.use(this.pc.createDataChannel("trial"));
    await this.pc.setLocalDescription(await this.pc.createOffer());
    return this.gathered();
  }
  async restart() {
    await this.pc.setLocalDescription(await this.pc.createOffer({ iceRestart: true }));
    return this.gathered();
  }
  async accept_again({ sdp }) {
    await this.pc.setRemoteDescription({ type: "offer", sdp });
    await this.pc.setLocalDescription(await this.pc.createAnswer());
    return this.gathered();
  }
  async trickle({ candidates }) {
    for (const candidate of candidates) await this.pc.addIceCandidate({ candidate, sdpMid: this.mid, sdpMLineIndex: 0 });
  }
  async answer({ sdp }) { await this.pc.setRemoteDescription({ type: "answer", sdp }); this.began?.(sdp); }
  async accept(args) {
    this.hasData = args.sdp.includes("m=application");
    this.mid = args.sdp.match(/a=mid:(\S+)/)?.[1];
    this.make(args);
    await this.pc.setRemoteDescription({ type: "offer", sdp: args.sdp });
    await this.pc.setLocalDescription(await this.pc.createAnswer());
    const sdp = await this.gathered();
    this.began?.(sdp);
    return sdp;
  }
  send({ text, binary, label = "trial" }) { this.channels.get(label).channel.send(text ?? Buffer.from(binary, "base64")); }
  hang_up() { clearInterval(this.timer); return this.pc.close(); }
}

class Wrtc extends Standard {
  static async load() { Wrtc.stack = (await import("@roamhq/wrtc")).default; }
  make({ hertz, level, bundle }) {
    const { RTCPeerConnection, MediaStream, nonstandard } = Wrtc.stack;
    this.pc = new RTCPeerConnection(bundle ? { bundlePolicy: bundle } : {});
    const source = new nonstandard.RTCAudioSource(), track = this.track = source.createTrack();
    this.pc.addTrack(track, new MediaStream([track]));
    this.pc.ondatachannel = ({ channel }) => this.use(channel);
    this.pc.ontrack = ({ track: theirs }) => {
      if (theirs.kind !== "audio") return;
      const sink = new nonstandard.RTCAudioSink(theirs);
      sink.ondata = ({ samples, sampleRate }) => {
        if (!this.pcm || sampleRate !== 48000) return;
        this.pcm.push(Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength));
      };
    };
    let sent = 0;
    const began = performance.now();
    this.timer = setInterval(() => {
      while (sent * 10 < performance.now() - began) {
        const samples = Int16Array.from({ length: 480 }, (_, n) => 32767 * level * Math.sin(2 * Math.PI * hertz * (sent * 480 + n) / 48000));
        source.onData({ samples, sampleRate: 48000, bitsPerSample: 16, channelCount: 1, numberOfFrames: 480 });
        sent++;
      }
    }, 10);
  }
  another() { this.pc.addTransceiver("audio"); }
  async channel(args) {
    const told = await super.channel(args);
    for (const name of ["maxRetransmits", "maxPacketLifeTime"]) if (told[name] === 65535) told[name] = null;  // its word for "not set"
    return told;
  }
  mute({ muted }) { this.track.enabled = !muted; }
  async listen({ seconds }) {
    this.pcm = [];
    await until(() => this.pcm.length >= seconds * 100, `${seconds} s of sound`);
    const all = Buffer.concat(this.pcm);
    this.pcm = null;
    return all.toString("base64");
  }
}

class Werift extends Standard {
  static async load() { Werift.stack = await import("werift"); }
  make({ packets, video, bundle, ptime = 20 }) {
    const { RTCPeerConnection, MediaStreamTrack, RTCRtpCodecParameters, RtpPacket, RtpHeader } = Werift.stack;
    const opus = new RTCRtpCodecParameters({ mimeType: "audio/opus", clockRate: 48000, channels: 2 });
    const pictures = new RTCRtpCodecParameters({ mimeType: "video/VP8", clockRate: 90000 });
    this.pc = new RTCPeerConnection({ iceServers: [], codecs: { audio: [opus], ...(video ? { video: [pictures] } : {}) }, bundlePolicy: bundle ?? "max-bundle" });
    const track = new MediaStreamTrack({ kind: "audio" });
    this.pc.addTransceiver(track, { direction: "sendrecv" });
    this.pc.onTrack.subscribe(theirs => theirs.onReceiveRtp.subscribe(packet => this.hear(packet.payload)));
    this.pc.onDataChannel.subscribe(channel => this.use(channel));
    this.began = sdp => {
      const payloadType = Number(sdp.match(/a=rtpmap:(\d+) opus/i)[1]);
      this.timer ??= pace(packets, ptime, () => this.muted, (n, timestamp, payload) =>
        track.writeRtp(new RtpPacket(new RtpHeader({ payloadType, sequenceNumber: n & 65535, timestamp }), payload)));
    };
  }
  another() { this.pc.addTransceiver(new Werift.stack.MediaStreamTrack({ kind: "audio" }), { direction: "sendrecv" }); }
}

class DataChannelLibrary extends Call {
  static async load() { DataChannelLibrary.stack = (await import("node-datachannel")).default; }
  state() { return this.pc.state(); }
  make(automatic) {
    this.pc = new DataChannelLibrary.stack.PeerConnection("peer", { iceServers: [], disableAutoNegotiation: !automatic });
    this.gathering = new Promise(resolve => this.pc.onGatheringStateChange(state => state === "complete" && resolve()));
    this.pc.onDataChannel(channel => { this.use(channel).isOpen = true; });  // announced when it is open
  }
  use(channel) {
    const held = this.hold(channel, channel.getLabel());
    channel.onMessage(held.take);
    channel.onClosed(held.end);
    channel.onOpen(() => { held.isOpen = true; });
    if (channel.isOpen()) held.isOpen = true;
    return held;
  }
  async open({ label, init: { ordered, ...init } }) {
    this.use(this.pc.createDataChannel(label, { ...init, unordered: !ordered }));
    await this.opened(label);
  }
  async channel({ label }) {
    await this.opened(label);
    const { channel } = this.channels.get(label);
    return { id: channel.getId(), protocol: channel.getProtocol() };
  }
  trickle({ candidates }) { for (const candidate of candidates) this.pc.addRemoteCandidate(candidate, this.mid); }
  sound(track, packets, payloadType, ptime = 20) {
    this.track = track;
    track.setMediaHandler(new DataChannelLibrary.stack.RtcpReceivingSession());  // without it there are no reports
    track.onMessage(packet => {
      const type = packet[1] & 127;
      if (type >= 72 && type <= 79) return;
      const extension = packet[0] & 16 ? 4 + 4 * packet.readUInt16BE(14) : 0;
      this.hear(packet.subarray(12 + extension));
    });
    this.timer = pace(packets, ptime, () => this.muted || !track.isOpen(), (n, timestamp, payload) => {
      const header = Buffer.alloc(12);
      header[0] = 128;
      header[1] = payloadType;
      header.writeUInt16BE(n & 65535, 2);
      header.writeUInt32BE(timestamp % 2 ** 32, 4);
      header.writeUInt32BE(4242, 8);
      track.sendMessageBinary(Buffer.concat([header, payload]));
    });
  }
  async described(type) {
    this.pc.setLocalDescription(type);
    await this.gathering;
    return this.pc.localDescription().sdp;
  }
  offer({ packets, video, data, audio_sections = 1, ptime }) {
    const { Audio, Video } = DataChannelLibrary.stack;
    this.make(false);
    const audio = new Audio("audio", "SendRecv");
    audio.addOpusCodec(111);
    audio.addSSRC(4242, "peer");
    this.sound(this.pc.addTrack(audio), packets, 111, ptime);
    for (let n = 1; n < audio_sections; n++) {
      const further = new Audio(`audio${n}`, "SendRecv");
      further.addOpusCodec(111);
      further.addSSRC(4242 + n, "peer");
      this.further = this.pc.addTrack(further);
    }
    if (video) {
      const pictures = new Video("video", "RecvOnly");
      pictures.addVP8Codec(96);
      this.pc.addTrack(pictures);
    }
    this.hasData = data;
    if (data) this.use(this.pc.createDataChannel("trial"));
    return this.described("offer");
  }
  answer({ sdp }) { this.pc.setRemoteDescription(sdp, "answer"); }
  accept({ sdp, packets, ptime }) {
    this.hasData = sdp.includes("m=application");
    this.mid = sdp.match(/a=mid:(\S+)/)?.[1];
    this.make(false);
    // A track of its own for the section that is offered: left alone it answers with every codec of the offer, RED too.
    const payloadType = Number(sdp.match(/a=rtpmap:(\d+) opus/i)[1]);
    const audio = new DataChannelLibrary.stack.Audio(sdp.match(/m=audio[^]*?a=mid:(\S+)/)[1], "SendRecv");
    audio.addOpusCodec(payloadType);
    audio.addSSRC(4242, "peer");
    this.sound(this.pc.addTrack(audio), packets, payloadType, ptime);
    this.pc.setRemoteDescription(sdp, "offer");
    return this.described("answer");
  }
  send({ text, binary, label = "trial" }) {
    const { channel } = this.channels.get(label);
    if (!(text === undefined ? channel.sendMessageBinary(Buffer.from(binary, "base64")) : channel.sendMessage(text)) && channel.bufferedAmount() === 0)
      throw new Error("the library takes no such message");
  }
  hang_up() { clearInterval(this.timer); this.pc.close(); }
}

const chosen = { wrtc: Wrtc, werift: Werift, "node-datachannel": DataChannelLibrary }[process.argv[2]];
await chosen.load();
const call = new chosen();
const say = answer => process.stdout.write(JSON.stringify(answer) + "\n");
process.on("unhandledRejection", error => process.stderr.write(`unhandled: ${error?.stack ?? error}\n`));
say({ id: 0, result: "ready" });
for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, args } = JSON.parse(line);
  (async () => call[command](args))().then(
    result => say({ id, result: result ?? null }),
    error => say({ id, error: String(error?.message ?? error) }),
  );
}
