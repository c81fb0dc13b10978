// Ends of calls in a page, told what to do by the commands of ./gstreamer/peer.py: `call(command, arguments)`. A page
// makes as many calls at once as it is told: the argument `call` is the number of one.
globalThis.call = (() => {
  const isFirefox = navigator.userAgent.includes("Firefox");
  const PATIENCE = 20;   // seconds
  const waitFor = async (test, what, pc) => {
    for (const end = Date.now() + 1000 * PATIENCE; Date.now() < end;) {
      const found = await test();
      if (found) return found;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    throw new Error(`no sign of ${what} within ${PATIENCE} s (connection ${pc?.connectionState}, ICE ${pc?.iceConnectionState})`);
  };
  const base64 = bytes => {
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return btoa(text);
  };
  const bytesOf = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  let context;
  // Firefox plays no audio graph where there is no sound device; its fake microphone is the tone itself.
  const sound = async (hertz, level, speech) => {
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    if (isFirefox) return navigator.mediaDevices.getUserMedia({ audio: plain });
    context ??= new AudioContext({ sampleRate: 48000 });
    const out = context.createMediaStreamDestination();
    if (speech) {
      const samples = new Int16Array(bytesOf(speech).buffer), buffer = new AudioBuffer({ length: samples.length, sampleRate: 16000 });
      buffer.copyToChannel(Float32Array.from(samples, x => x / 32768), 0);
      const source = new AudioBufferSourceNode(context, { buffer, loop: true });
      source.connect(out);
      source.start();
      return out.stream;
    }
    const source = new OscillatorNode(context, { frequency: hertz }), gain = new GainNode(context, { gain: level });
    source.connect(gain).connect(out);
    source.start();
    return out.stream;
  };
  // What is heard of a stream for some seconds, as samples of 16 bits at 48 kHz in base64.
  const record = async (stream, seconds) => {
    const recorder = new MediaRecorder(stream, { audioBitsPerSecond: 128000 }), parts = [];
    recorder.ondataavailable = event => parts.push(event.data);
    recorder.start();
    await new Promise(resolve => setTimeout(resolve, 1000 * seconds + 400));
    await new Promise(resolve => { recorder.onstop = resolve; recorder.stop(); });
    const bytes = await new Blob(parts).arrayBuffer();
    if (!bytes.byteLength) return "";
    const decoded = await new OfflineAudioContext(1, 48000, 48000).decodeAudioData(bytes);
    const samples = Int16Array.from(decoded.getChannelData(0), x => Math.max(-32768, Math.min(32767, 32768 * x)));
    return base64(new Uint8Array(samples.buffer));
  };

  const make = () => {
    let pc, heard, sender;
    const channels = new Map();   // label -> { channel, inbox, closed }; the newest of its name
    const until = (test, what) => waitFor(test, what, pc);
    const watch = channel => {
      const held = { channel, inbox: [], closed: false };
      channels.set(channel.label, held);
      channel.binaryType = "arraybuffer";
      channel.onclose = () => { held.closed = true; };
      channel.onmessage = ({ data }) => held.inbox.push(typeof data === "string" ? { text: data }
        : { binary: base64(new Uint8Array(data)) });
    };
    const open = label => until(() => channels.get(label)?.channel.readyState === "open", `the channel ${label}`);
    const begin = async ({ hertz, level, codec, speech, bundle }) => {
      pc = new RTCPeerConnection(bundle ? { bundlePolicy: bundle } : {});
      globalThis.pc ??= pc;
      pc.ontrack = event => {
        if (heard || event.track.kind !== "audio") return;
        heard = new MediaStream([event.track]);
        const element = new Audio();
        element.srcObject = heard;
        element.play();
      };
      pc.ondatachannel = event => watch(event.channel);
      const stream = await sound(hertz, level, speech);
      // Not addTransceiver: a section of an offer is taken by a transceiver that addTrack made (RFC 8829 §5.10).
      sender = pc.addTrack(stream.getAudioTracks()[0], stream);
      const [transceiver] = pc.getTransceivers();
      if (codec) {
        const all = RTCRtpReceiver.getCapabilities("audio").codecs;
        transceiver.setCodecPreferences(all.filter(each => each.mimeType.toLowerCase() === `audio/${codec}`.toLowerCase()));
      }
    };
    const described = async () => {
      await pc.setLocalDescription();
      await until(() => pc.iceGatheringState === "complete", "its candidates");
      return pc.localDescription.sdp;
    };
    return {
      async offer(args) {
        await begin(args);
        if (args.video) pc.addTransceiver("video");
        for (let n = 1; n < (args.audio_sections ?? 1); n++) pc.addTransceiver("audio");
        if (args.data ?? true) watch(pc.createDataChannel("trial"));
        return described();
      },
      answer: ({ sdp }) => pc.setRemoteDescription({ type: "answer", sdp }).then(() => null),
      async accept(args) {
        await begin(args);
        await pc.setRemoteDescription({ type: "offer", sdp: args.sdp });
        return described();
      },
      async accept_again({ sdp }) {
        await pc.setRemoteDescription({ type: "offer", sdp });
        return described();
      },
      async restart() {
        pc.restartIce();
        await pc.setLocalDescription();
        await until(() => pc.localDescription.sdp.includes("a=candidate"), "candidates for the restart");
        return described();
      },
      async trickle({ candidates }) {
        for (const candidate of candidates) await pc.addIceCandidate({ candidate, sdpMLineIndex: 0 });
      },
      async connected() {
        await until(() => pc.connectionState === "connected", "the connection");
        if (/m=application [1-9]/.test(pc.currentRemoteDescription.sdp)) await open("trial");
      },
      async listen({ seconds }) {
        await until(() => heard, "a track");
        return record(heard, seconds);
      },
      mute({ muted }) { sender.track.enabled = !muted; },
      press({ keys }) { sender.dtmf.insertDTMF(keys, 100, 70); },
      async open({ label, init }) { watch(pc.createDataChannel(label, init)); await open(label); },
      async channel({ label }) {
        await open(label);
        const { id, protocol, ordered, maxRetransmits, maxPacketLifeTime, negotiated } = channels.get(label).channel;
        return { id, protocol, ordered, maxRetransmits, maxPacketLifeTime, negotiated };
      },
      close({ label }) { channels.get(label).channel.close(); },
      closed: ({ label }) => until(() => channels.get(label).closed, `the end of the channel ${label}`).then(() => null),
      send({ text, binary, label = "trial" }) { channels.get(label).channel.send(text ?? bytesOf(binary)); },
      receive: ({ label = "trial" }) => until(() => channels.get(label)?.inbox.shift(), "a message"),
      hang_up: () => pc.close(),
      wait_ended: () => until(() => channels.get("trial")?.channel.readyState === "closed"
        || ["disconnected", "failed", "closed"].includes(pc.connectionState), "the end").then(() => null),
      statistics: async () => [...(await pc.getStats()).values()],
    };
  };

  const calls = new Map();
  const call = async (command, { call: number = 0, ...args } = {}) => {
    if (!calls.has(number)) calls.set(number, make());
    return (await calls.get(number)[command](args)) ?? null;
  };
  return Object.assign(call, { until: waitFor, tone: sound, record });
})();
