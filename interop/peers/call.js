// One end of a call in a page, told what to do by the commands of ./gstreamer/peer.py: `call(command, arguments)`.
globalThis.call = (() => {
  let pc, channel, heard, opened, context;
  const inbox = [];
  const until = async (test, what, seconds = 20) => {
    for (const end = Date.now() + 1000 * seconds; Date.now() < end;) {
      const found = await test();
      if (found) return found;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    throw new Error(`no sign of ${what} within ${seconds} s (connection ${pc?.connectionState}, ICE ${pc?.iceConnectionState})`);
  };
  const base64 = bytes => {
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return btoa(text);
  };
  const watch = made => {
    channel = made;
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => inbox.push(typeof data === "string" ? { text: data }
      : { binary: base64(new Uint8Array(data)) });
  };
  // Firefox plays no audio graph where there is no sound device; its fake microphone is the tone itself.
  const tone = async (hertz, level) => {
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    if (navigator.userAgent.includes("Firefox")) return navigator.mediaDevices.getUserMedia({ audio: plain });
    context = new AudioContext({ sampleRate: 48000 });
    const source = new OscillatorNode(context, { frequency: hertz }), gain = new GainNode(context, { gain: level });
    const out = context.createMediaStreamDestination();
    source.connect(gain).connect(out);
    source.start();
    return out.stream;
  };
  const make = async (hertz, level, codec) => {
    pc = globalThis.pc = new RTCPeerConnection();
    pc.ontrack = event => {
      heard = new MediaStream([event.track]);
      const element = new Audio();
      element.srcObject = heard;
      element.play();
    };
    pc.ondatachannel = event => watch(event.channel);
    const stream = await tone(hertz, level);
    // Not addTransceiver: a section of an offer is taken by a transceiver that addTrack made (RFC 8829 §5.10).
    pc.addTrack(stream.getAudioTracks()[0], stream);
    const [transceiver] = pc.getTransceivers();
    if (codec) {
      const all = RTCRtpReceiver.getCapabilities("audio").codecs;
      transceiver.setCodecPreferences(all.filter(each => each.mimeType.toLowerCase() === `audio/${codec}`.toLowerCase()));
    }
  };
  // What is heard of a stream for some seconds, as samples of 16 bits at 48 kHz in base64.
  const record = async (stream, seconds) => {
    const recorder = new MediaRecorder(stream), parts = [];
    recorder.ondataavailable = event => parts.push(event.data);
    recorder.start();
    await new Promise(resolve => setTimeout(resolve, 1000 * seconds + 400));
    await new Promise(resolve => { recorder.onstop = resolve; recorder.stop(); });
    const bytes = await new Blob(parts).arrayBuffer();
    if (!bytes.byteLength) return "";
    const sound = await new OfflineAudioContext(1, 48000, 48000).decodeAudioData(bytes);
    const samples = Int16Array.from(sound.getChannelData(0), x => Math.max(-32768, Math.min(32767, 32768 * x)));
    return base64(new Uint8Array(samples.buffer));
  };
  const gathered = () => until(() => pc.iceGatheringState === "complete", "its candidates");
  const commands = {
    async offer({ hertz, level, video, data = true, codec }) {
      await make(hertz, level, codec);
      if (video) pc.addTransceiver("video");
      if (data) watch(pc.createDataChannel("trial"));
      await pc.setLocalDescription();
      await gathered();
      return pc.localDescription.sdp;
    },
    answer: ({ sdp }) => pc.setRemoteDescription({ type: "answer", sdp }).then(() => null),
    async accept({ sdp, hertz, level }) {
      await make(hertz, level);
      await pc.setRemoteDescription({ type: "offer", sdp });
      await pc.setLocalDescription();
      await gathered();
      return pc.localDescription.sdp;
    },
    async connected() {
      await until(() => pc.connectionState === "connected", "the connection");
      if (/m=application [1-9]/.test(pc.currentRemoteDescription.sdp))
        await until(() => channel?.readyState === "open", "the channel");
    },
    async listen({ seconds }) {
      await until(() => heard, "a track");
      return record(heard, seconds);
    },
    send({ text, binary }) {
      channel.send(text ?? Uint8Array.from(atob(binary), letter => letter.charCodeAt(0)));
    },
    receive: () => until(() => inbox.shift(), "a message"),
    hang_up: () => pc.close(),
    wait_ended: () => until(() => channel?.readyState === "closed"
      || ["disconnected", "failed", "closed"].includes(pc.connectionState), "the end").then(() => null),
    statistics: async () => [...(await pc.getStats()).values()],
  };
  const call = async (command, args = {}) => (await commands[command](args)) ?? null;
  return Object.assign(call, { until, tone, record });
})();
