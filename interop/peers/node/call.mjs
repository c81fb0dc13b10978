// `node call.mjs wrtc|werift|node-datachannel`: either end of a call over a stack for Node, told what to do by JSON
// lines on stdin; the commands are those of ../gstreamer/peer.py. werift and node-datachannel have no codecs: they are
// given Opus packets of 20 ms, which they send again and again, and `listen` returns those that arrive.

import { createInterface } from "node:readline";

const sleep = time => new Promise(resolve => setTimeout(resolve, time));
const until = async (test, what, seconds = 20) => {
  for (const end = Date.now() + 1000 * seconds; Date.now() < end; await sleep(10)) {
    const found = test();
    if (found) return found;
  }
  throw new Error(`no sign of ${what} within ${seconds} s`);
};

// What the stacks share: the channel's inbox, the sound that was heard, the end.
class Call {
  inbox = [];
  heard = null;
  isOpen = false;
  hasData = true;
  take(data) { this.inbox.push(typeof data === "string" ? { text: data } : { binary: Buffer.from(data).toString("base64") }); }
  hear(payload) { this.heard?.push(Buffer.from(payload).toString("base64")); }
  async connected() {
    await until(() => this.state() === "connected", `the connection (${this.state()})`);
    if (this.hasData) await until(() => this.isOpen, "the channel");
  }
  async listen({ seconds }) {
    this.heard = [];
    try { await until(() => this.heard.length >= seconds * 50, `${seconds} s of sound`); } catch (error) { if (!this.heard.length) throw error; }
    return this.heard.splice(0);
  }
  receive() { return until(() => this.inbox.shift(), "a message"); }
  wait_ended() { return until(() => this.gone || ["disconnected", "failed", "closed"].includes(this.state()), "the end").then(() => null); }
}

// A peer connection with the browsers' interface.
class Standard extends Call {
  state() { return this.pc.connectionState; }
  use(channel) {
    this.channel = channel;
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => this.take(data);
    channel.onclose = () => { this.gone = true; };
    channel.onopen = () => { this.isOpen = true; };
    if (channel.readyState === "open") this.isOpen = true;
  }
  async gathered() {
    await until(() => this.pc.iceGatheringState === "complete", "its candidates");
    return this.pc.localDescription.sdp;
  }
  async offer(args) {
    this.make(args);
    if (args.video) this.pc.addTransceiver("video", { direction: "recvonly" });
    this.hasData = args.data;
    if (args.data) this.use(this.pc.createDataChannel("trial"));
    await this.pc.setLocalDescription(await this.pc.createOffer());
    return this.gathered();
  }
  async answer({ sdp }) { await this.pc.setRemoteDescription({ type: "answer", sdp }); this.began?.(sdp); }
  async accept(args) {
    this.hasData = args.sdp.includes("m=application");
    this.make(args);
    await this.pc.setRemoteDescription({ type: "offer", sdp: args.sdp });
    await this.pc.setLocalDescription(await this.pc.createAnswer());
    const sdp = await this.gathered();
    this.began?.(sdp);
    return sdp;
  }
  send({ text, binary }) { this.channel.send(text ?? Buffer.from(binary, "base64")); }
  hang_up() { clearInterval(this.timer); return this.pc.close(); }
}

class Wrtc extends Standard {
  static async load() { Wrtc.stack = (await import("@roamhq/wrtc")).default; }
  make({ hertz, level }) {
    const { RTCPeerConnection, MediaStream, nonstandard } = Wrtc.stack;
    this.pc = new RTCPeerConnection();
    const source = new nonstandard.RTCAudioSource(), track = source.createTrack();
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
  make({ packets, video }) {
    const { RTCPeerConnection, MediaStreamTrack, RTCRtpCodecParameters, RtpPacket, RtpHeader } = Werift.stack;
    const opus = new RTCRtpCodecParameters({ mimeType: "audio/opus", clockRate: 48000, channels: 2 });
    const pictures = new RTCRtpCodecParameters({ mimeType: "video/VP8", clockRate: 90000 });
    this.pc = new RTCPeerConnection({ iceServers: [], codecs: { audio: [opus], ...(video ? { video: [pictures] } : {}) }, bundlePolicy: "max-bundle" });
    const track = new MediaStreamTrack({ kind: "audio" });
    this.pc.addTransceiver(track, { direction: "sendrecv" });
    this.pc.onTrack.subscribe(theirs => theirs.onReceiveRtp.subscribe(packet => this.hear(packet.payload)));
    this.pc.onDataChannel.subscribe(channel => this.use(channel));
    this.began = sdp => {
      const payloadType = Number(sdp.match(/a=rtpmap:(\d+) opus/i)[1]);
      let n = 0;
      const start = performance.now();
      this.timer = setInterval(() => {
        for (; n * 20 < performance.now() - start; n++)
          track.writeRtp(new RtpPacket(new RtpHeader({ payloadType, sequenceNumber: n & 65535, timestamp: n * 960 }), Buffer.from(packets[n % packets.length], "base64")));
      }, 10);
    };
  }
}

class DataChannelLibrary extends Call {
  static async load() { DataChannelLibrary.stack = (await import("node-datachannel")).default; }
  state() { return this.pc.state(); }
  make(automatic) {
    this.pc = new DataChannelLibrary.stack.PeerConnection("peer", { iceServers: [], disableAutoNegotiation: !automatic });
    this.gathering = new Promise(resolve => this.pc.onGatheringStateChange(state => state === "complete" && resolve()));
    this.pc.onDataChannel(channel => { this.use(channel); this.isOpen = true; });  // announced when it is open
  }
  use(channel) {
    this.channel = channel;
    channel.onMessage(data => this.take(data));
    channel.onClosed(() => { this.gone = true; });
    channel.onOpen(() => { this.isOpen = true; });
    if (channel.isOpen()) this.isOpen = true;
  }
  sound(track, packets, payloadType) {
    this.track = track;
    track.setMediaHandler(new DataChannelLibrary.stack.RtcpReceivingSession());  // without it there are no reports
    track.onMessage(packet => {
      const type = packet[1] & 127;
      if (type >= 72 && type <= 79) return;
      const extension = packet[0] & 16 ? 4 + 4 * packet.readUInt16BE(14) : 0;
      this.hear(packet.subarray(12 + extension));
    });
    let n = 0;
    const start = performance.now();
    this.timer = setInterval(() => {
      for (; n * 20 < performance.now() - start; n++) {
        const header = Buffer.alloc(12);
        header[0] = 128;
        header[1] = payloadType;
        header.writeUInt16BE(n & 65535, 2);
        header.writeUInt32BE(n * 960, 4);
        header.writeUInt32BE(4242, 8);
        if (track.isOpen()) track.sendMessageBinary(Buffer.concat([header, Buffer.from(packets[n % packets.length], "base64")]));
      }
    }, 10);
  }
  async described(type) {
    this.pc.setLocalDescription(type);
    await this.gathering;
    return this.pc.localDescription().sdp;
  }
  offer({ packets, video, data }) {
    const { Audio, Video } = DataChannelLibrary.stack;
    this.make(false);
    const audio = new Audio("audio", "SendRecv");
    audio.addOpusCodec(111);
    audio.addSSRC(4242, "peer");
    this.sound(this.pc.addTrack(audio), packets, 111);
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
  accept({ sdp, packets }) {
    this.hasData = sdp.includes("m=application");
    this.make(false);
    // A track of its own for the section that is offered: left alone it answers with every codec of the offer, RED too.
    const payloadType = Number(sdp.match(/a=rtpmap:(\d+) opus/i)[1]);
    const audio = new DataChannelLibrary.stack.Audio(sdp.match(/m=audio[^]*?a=mid:(\S+)/)[1], "SendRecv");
    audio.addOpusCodec(payloadType);
    audio.addSSRC(4242, "peer");
    this.sound(this.pc.addTrack(audio), packets, payloadType);
    this.pc.setRemoteDescription(sdp, "offer");
    return this.described("answer");
  }
  send({ text, binary }) { text === undefined ? this.channel.sendMessageBinary(Buffer.from(binary, "base64")) : this.channel.sendMessage(text); }
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
