// Instant Connect: the answer of the last call, with a ticket of the server's, is the answer of the next. No HTTP.
//
// A server that allows it (`--instant-connect`) adds `instant` to its answer over HTTP, and sends it on the channel
// `events` of a call that came by a ticket. It belongs to this page's certificate alone, whose key no script can read.
// Both are kept in IndexedDB, where the browser allows that. This module needs nothing else of the page:
//
//   const instant = new InstantConnect();
//   const ticket = await instant.take();            // null: ask over HTTP
//   const pc = new RTCPeerConnection({ certificates: [await instant.certificate()] });
//   … make the offer; with a ticket, if shapeOf(offer.sdp) === ticket.shape:
//   await pc.setRemoteDescription({ type: "answer", sdp: ticket.answer });
//   … without one, when the server's answer is there:
//   await instant.keep(offer.sdp, answer.sdp, answer.instant);
//   … and for `{ type: "instant", instant }` on the channel: await instant.renew(instant);

/**
 * What a server grants for the next call.
 * @typedef {object} Grant
 * @property {string} ufrag
 * @property {string} pwd
 * @property {string} fingerprint  of the server's certificate, as in `a=fingerprint`
 * @property {number} ssrc
 * @property {string} cname
 * @property {number} lifetime  seconds
 */

/**
 * What is kept from one call to the next.
 * @typedef {object} Kept
 * @property {RTCCertificate} certificate
 * @property {string} [shape]   of the offer that the answer fits
 * @property {string} [answer]  the last one that came over HTTP
 * @property {Grant} [grant]
 * @property {number} [expires]  by this machine's clock, milliseconds since 1970
 */

const DATABASE = "voice-stack";
const STORE = "instant";
const MARGIN = 5_000;                      // milliseconds that a ticket must have left
const CERTIFICATE_MARGIN = 86_400_000;     // and a certificate
const CERTIFICATE_LIFETIME = 30 * CERTIFICATE_MARGIN;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };
const SHAPE = /^(m=|a=(mid|rtpmap|fmtp|rtcp-fb|extmap|extmap-allow-mixed|rtcp-mux|rtcp-rsize|sctp-port|max-message-size|setup|sendrecv|sendonly|recvonly|inactive)\b)/;

export class InstantConnect {
  #key;
  /** @type {Promise<Kept>} */
  #kept;

  /** @param {string} key  names the server, where a page calls several */
  constructor(key = new URL(".", location.href).href) {
    this.#key = key;
    this.#kept = this.#load();
  }

  /**
   * The certificate of this page's calls: the one that was kept, or a new one.
   * @returns {Promise<RTCCertificate>}
   */
  async certificate() { return (await this.#kept).certificate; }

  /**
   * The answer to an offer of a given shape, if there is a ticket for it. It may be used again until it is renewed.
   * @returns {Promise<{ shape: string, answer: string } | null>}
   */
  async take() {
    const { shape, answer, grant, expires } = await this.#kept;
    if (!shape || !answer || !grant || !(expires > Date.now() + MARGIN)) return null;
    return { shape, answer: makeAnswer(answer, grant) };
  }

  /**
   * Keep what came over HTTP; without a grant, forget what was kept.
   * @param {string} offer  @param {string} answer  @param {Grant | undefined} grant
   */
  async keep(offer, answer, grant) {
    const { certificate } = await this.#kept;
    if (!isGrant(grant)) return this.forget();
    await this.#save({ certificate, shape: shapeOf(offer), answer, ...granted(grant) });
  }

  /**
   * Keep a ticket that came in a call, for the call after it.
   * @param {Grant} grant
   */
  async renew(grant) {
    const kept = await this.#kept;
    if (kept.answer && isGrant(grant)) await this.#save({ ...kept, ...granted(grant) });
  }

  /** Forget the ticket; the certificate stays for this page's lifetime. */
  async forget() {
    const { certificate } = await this.#kept;
    this.#kept = Promise.resolve({ certificate });
    await transact("readwrite", store => store.delete(this.#key));
  }

  async #load() {
    const kept = await transact("readonly", store => store.get(this.#key));
    if (kept?.certificate?.expires > Date.now() + CERTIFICATE_MARGIN) return kept;
    return { certificate: await RTCPeerConnection.generateCertificate({ ...ALGORITHM, expires: CERTIFICATE_LIFETIME }) };
  }

  /** @param {Kept} kept */
  async #save(kept) {
    this.#kept = Promise.resolve(kept);
    await transact("readwrite", store => store.put(kept, this.#key));
  }
}

/**
 * Put a grant into an answer, in the place of what it says of its own call.
 * @param {string} answer  @param {Grant} grant
 */
export function makeAnswer(answer, grant) {
  const values = {
    "a=ice-ufrag:": grant.ufrag, "a=ice-pwd:": grant.pwd, "a=fingerprint:": grant.fingerprint,
    "a=ssrc:": `${grant.ssrc} cname:${grant.cname}`,
  };
  const lines = answer.split(/\r?\n/).filter(line => line && !line.startsWith("a=sctp-init:"));
  return lines.map(line => {
    const start = Object.keys(values).find(each => line.startsWith(each));
    return `${start ? start + values[start] : line}\r\n`;
  }).join("");
}

/**
 * What an offer must have in common with another one to be answered alike: a browser's update may change it.
 * @param {string} sdp
 */
export function shapeOf(sdp) {
  return sdp.split(/\r?\n/).filter(line => SHAPE.test(line)).map(line => line.replace(/^(m=\S+) \d+/, "$1")).join("\n");
}

const granted = grant => ({ grant, expires: Date.now() + grant.lifetime * 1000 });

function isGrant(given) {
  const texts = [given?.ufrag, given?.pwd, given?.fingerprint, given?.cname];
  return texts.every(text => typeof text === "string" && /^[\x20-\x7e]{0,256}$/.test(text))
    && Number.isInteger(given.ssrc) && Number.isFinite(given.lifetime);
}

// What cannot be kept (a private window, a full disk) is no error: the next call asks over HTTP.
async function transact(mode, action) {
  try {
    const database = await settled(Object.assign(indexedDB.open(DATABASE, 1), {
      onupgradeneeded() { this.result.createObjectStore(STORE); },
    }));
    try {
      return await settled(action(database.transaction(STORE, mode).objectStore(STORE)));
    } finally {
      database.close();
    }
  } catch {
    return undefined;
  }
}

const settled = request => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
