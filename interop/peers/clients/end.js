// One end of a call in a page, made by a client from npm: `client(command, arguments)`. ../call.js was loaded before.
//
// Each client makes its peer connection, its offer and its HTTP request by itself. Watched from outside are the
// connection that it made, and the tone that it takes for a microphone.
globalThis.client = (() => {
  const { until, tone, record } = globalThis.call;
  let pc, heard, channel, made, problem;
  const Native = globalThis.RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Native {
    constructor(...given) {
      super(...given);
      pc = this;
      this.addEventListener("track", ({ track }) => {
        if (track.kind !== "audio") return;
        heard = new MediaStream([track]);
        const element = new Audio();
        element.srcObject = heard;
        element.play();
      });
    }
    createDataChannel(...given) { return (channel = super.createDataChannel(...given)); }
  };
  const endpoint = `${location.origin}/offers`;
  const clients = globalThis.clients;
  // Each begins a call and returns what ends it. What is waited for above the connection is not for this trial:
  // Pipecat's `connect` resolves when the bot says that it is ready.
  const begin = {
    openai(stream) {
      const transport = new clients.OpenAIRealtimeWebRTC({ baseUrl: `${endpoint}/calls`, mediaStream: stream });
      transport.connect({ apiKey: "ek_trial" }).catch(error => { problem = error; });
      return () => transport.close();
    },
    pipecat() {
      const transport = new clients.SmallWebRTCTransport({ mediaManager: new clients.Microphone() });
      const client = new clients.PipecatClient({ transport, enableMic: true, enableCam: false });
      client.connect({ webrtcRequestParams: { endpoint: `${endpoint}/json` } }).catch(error => { problem = error; });
      return () => client.disconnect();
    },
    whip(stream) {
      const client = new clients.WHIPClient({ endpoint: `${endpoint}/whip`, opts: { authkey: "trial", iceServers: [] } });
      client.ingest(stream).catch(error => { problem = error; });
      return () => client.destroy();
    },
  };
  const commands = {
    async begin({ name, hertz, level }) {
      const stream = await tone(hertz, level);
      navigator.mediaDevices.getUserMedia = async () => stream;
      made = begin[name](stream);
    },
    async connected() {
      await until(() => pc?.connectionState === "connected" || problem, "the connection", pc);
      if (problem) throw problem;
    },
    async listen({ seconds }) {
      await until(() => heard, "a track");
      return record(heard, seconds);
    },
    async hang_up() { await made(); },
    wait_ended: () => until(() => channel?.readyState === "closed"
      || ["disconnected", "failed", "closed"].includes(pc.connectionState), "the end", pc).then(() => null),
    statistics: async () => [...(await pc.getStats()).values()],
  };
  return async (command, args = {}) => (await commands[command](args)) ?? null;
})();
