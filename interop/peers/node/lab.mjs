// `node lab.mjs node-datachannel|werift`: the trials' far end over a stack for Node.
//
// Commands come as JSON lines on stdin, `{id, command, args}`; each is answered by `{id, result}` or `{id, error}` on
// stdout. What a stack lacks of the browsers' interface is added here.

import { createInterface } from "node:readline";

const stacks = {
  async "node-datachannel"() {
    const { RTCPeerConnection } = await import("node-datachannel/polyfill");
    return { RTCPeerConnection, configuration: { iceServers: [] } };
  },
  async werift() {
    const { RTCPeerConnection, RTCDataChannel } = await import("werift");
    // It has the event, but no handler attribute for it, and takes Buffers where browsers take any view.
    const { send } = RTCDataChannel.prototype;
    RTCDataChannel.prototype.send = function (data) {
      return send.call(this, typeof data === "string" ? data : Buffer.from(data));
    };
    Object.defineProperty(RTCDataChannel.prototype, "onbufferedamountlow", {
      set(handler) { this.bufferedAmountLow.subscribe(handler); },
    });
    return { RTCPeerConnection, configuration: { iceServers: [], iceAdditionalHostAddresses: ["127.0.0.1"] } };
  },
};

const { RTCPeerConnection, configuration } = await stacks[process.argv[2]]();
globalThis.RTCPeerConnection = RTCPeerConnection;
globalThis.labConfiguration = configuration;
await import("../lab.js");

const say = answer => process.stdout.write(JSON.stringify(answer) + "\n");
process.on("unhandledRejection", error => process.stderr.write(`unhandled: ${error?.stack ?? error}\n`));
say({ id: 0, result: "ready" });
for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, args } = JSON.parse(line);
  globalThis.lab(command, args).then(
    result => say({ id, result: result ?? null }),
    error => say({ id, error: String(error?.stack ?? error) }),
  );
}
process.exit(0);
