// What the page of the tests can reach as `clients`.
export { OpenAIRealtimeWebRTC, RealtimeAgent, RealtimeSession, tool } from "@openai/agents-realtime";
export { PipecatClient } from "@pipecat-ai/client-js";
export { SmallWebRTCTransport } from "@pipecat-ai/small-webrtc-transport";
export { WHIPClient } from "@eyevinn/whip-web-client";

// Pipecat's default media manager loads code from the internet; this one has a microphone and nothing else.
export class Microphone {
  supportsScreenShare = false;
  isCamEnabled = false;
  isSharingScreen = false;
  isMicEnabled = true;
  selectedMic = {};
  selectedCam = {};
  selectedSpeaker = {};
  setClientOptions(options) { this.options = options; }
  async initialize() {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    this.track = stream.getAudioTracks()[0];
  }
  async connect() { if (!this.track) await this.initialize(); }
  async disconnect() { this.track?.stop(); this.track = undefined; }
  tracks() { return { local: { audio: this.track } }; }
  enableMic(enabled) { this.isMicEnabled = enabled; if (this.track) this.track.enabled = enabled; }
  async getAllMics() { return []; }
  async getAllCams() { return []; }
  async getAllSpeakers() { return []; }
}
