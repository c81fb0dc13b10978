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
const STORE_TIMEOUT = 1_000;               // milliseconds that a call waits for the database
const MARGIN = 5_000;                      // milliseconds that a ticket must have left
const CERTIFICATE_MARGIN = 86_400_000;     // and a certificate
const CERTIFICATE_LIFETIME = 30 * CERTIFICATE_MARGIN;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };
const SHAPE = /^(m=|a=(mid|rtpmap|fmtp|rtcp-fb|extmap|extmap-allow-mixed|rtcp-mux|rtcp-rsize|sctp-port|max-message-size|setup|sendrecv|sendonly|recvonly|inactive)\b)/;

export class InstantConnect {
  #key;
  /** @type {Promise<Kept>} */
  #kept;
  #written = Promise.resolve();   // one after the other, and never waited for by a call
  #others = "BroadcastChannel" in globalThis ? new BroadcastChannel(`${DATABASE}.${STORE}`) : null;

  /** @param {string} key  names the server, where a page calls several */
  constructor(key = new URL(".", location.href).href) {
    this.#key = key;
    this.#kept = this.#load();
    this.#others?.addEventListener("message", ({ data }) => {
      if (data.key === this.#key) this.#kept = this.#kept.then(kept => withoutWhatOthersSay(kept, data));
    });
  }

  /**
   * The certificate of this page's calls: the one that was kept, or a new one.
   * @returns {Promise<RTCCertificate>}
   */
  async certificate() { return (await this.#kept).certificate; }

  /**
   * The answer to an offer of a given shape, if there is a ticket for it. This page may use it again until it is renewed;
   * other tabs drop it, as a second call by one ticket ends the first.
   * @returns {Promise<{ shape: string, answer: string } | null>}
   */
  async take() {
    const { shape, answer, grant, expires } = await this.#kept;
    if (!shape || !answer || !grant || !(expires > Date.now() + MARGIN)) return null;
    this.#others?.postMessage({ key: this.#key, taken: grant.ufrag });
    return { shape, answer: makeAnswer(answer, grant) };
  }

  /**
   * Keep what came over HTTP; without a grant, forget what was kept.
   * @param {string} offer  @param {string} answer  @param {Grant | undefined} grant
   */
  async keep(offer, answer, grant) {
    if (!isGrant(grant)) return this.forget();
    await this.#change(({ certificate }) => ({ certificate, shape: shapeOf(offer), answer, ...granted(grant) }));
  }

  /**
   * Keep a ticket that came in a call, for the call after it.
   * @param {Grant} grant
   */
  async renew(grant) {
    if (isGrant(grant)) await this.#change(kept => (kept.answer ? { ...kept, ...granted(grant) } : kept));
  }

  /** Forget the ticket, in other tabs, too: from now on none is taken. The certificate stays for this page's lifetime. */
  async forget() {
    this.#others?.postMessage({ key: this.#key });
    await this.#change(({ certificate }) => ({ certificate }));
  }

  async #load() {
    const kept = await transact("readonly", store => store.get(this.#key));
    if (kept?.certificate?.expires > Date.now() + CERTIFICATE_MARGIN) return kept;
    return { certificate: await RTCPeerConnection.generateCertificate({ ...ALGORITHM, expires: CERTIFICATE_LIFETIME }) };
  }

  /** @param {(kept: Kept) => Kept} change */
  #change(change) {
    this.#kept = this.#kept.then(change);   // at once: who takes after this takes what is left
    this.#written = this.#written.then(async () => {
      const kept = await this.#kept;
      await transact("readwrite", store => (kept.answer ? store.put(kept, this.#key) : store.delete(this.#key)));
    });
    return this.#written;
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

// What is left when another tab has taken a ticket, or forgotten all.
function withoutWhatOthersSay(kept, { taken }) {
  if (taken === undefined) return { certificate: kept.certificate };
  return kept.grant?.ufrag === taken ? { ...kept, grant: undefined } : kept;
}

const granted = grant => ({ grant, expires: Date.now() + grant.lifetime * 1000 });

function isGrant(given) {
  const texts = [given?.ufrag, given?.pwd, given?.fingerprint, given?.cname];
  return texts.every(text => typeof text === "string" && /^[\x20-\x7e]{0,256}$/.test(text))
    && Number.isInteger(given.ssrc) && Number.isFinite(given.lifetime);
}

// What cannot be kept (a private window, a full disk) is no error, nor is a database that does not answer: the next call
// asks over HTTP.
function transact(mode, action) {
  const late = new Promise(resolve => { setTimeout(resolve, STORE_TIMEOUT); });
  return Promise.race([carryOut(mode, action).catch(() => undefined), late]);
}

async function carryOut(mode, action) {
  const database = await settled(Object.assign(indexedDB.open(DATABASE, 1), {
    onupgradeneeded() { this.result.createObjectStore(STORE); },
  }));
  try {
    return await settled(action(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

const settled = request => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
