// What went wrong, in plain words: a code for programs, a title and a sentence of advice for people.

export class Problem extends Error {
  constructor(code, title, advice, detail = "") {
    super(`${title} ${advice}`);
    Object.assign(this, { name: "Problem", code, title, advice, detail });
  }
}

const MICROPHONE = {
  blocked: ["The microphone is blocked.",
    "This page may not use it. Allow the microphone in the browser's site settings (beside the address), then press Start again."],
  dismissed: ["The microphone was not allowed.",
    "The question was closed without an answer. Press Start again and choose Allow."],
  missing: ["There is no microphone.",
    "Plug one in, or switch it on in the system's sound settings, and press Start again."],
  busy: ["The microphone cannot be opened.",
    "Another program may be holding it, or the system refuses it. Close other calls and press Start again."],
  unfit: ["No microphone fits the settings.",
    "Change the microphone settings below and press Start again."],
  forbidden: ["The browser's security settings forbid the microphone.",
    "The page may be embedded in another one that does not pass the permission on."],
  aborted: ["The microphone stopped before it began.",
    "The system broke off. Press Start again."],
  insecure: ["The microphone needs a secure page.",
    "Browsers give it only to pages that come by https, or from the same machine as localhost. Open this page by an https "
    + "address: the server speaks it with --tls-cert and --tls-key, or behind a proxy that does."],
  unknown: ["The microphone could not be used.", "Press Start again; if it stays like this, restart the browser."],
};

const NAMES = {
  NotFoundError: "missing",
  NotReadableError: "busy",
  OverconstrainedError: "unfit",
  SecurityError: "forbidden",
  AbortError: "aborted",
};

export async function microphoneProblem(error) {
  let code = NAMES[error.name] ?? "unknown";
  if (error.name === "NotAllowedError") code = (await isBlocked(error)) ? "blocked" : "dismissed";
  const [title, advice] = MICROPHONE[code];
  return new Problem(`microphone-${code}`, title, advice, `${error.name}: ${error.message}`);
}

async function isBlocked(error) {
  if (/dismissed/i.test(error.message)) return false;
  try {
    return (await navigator.permissions.query({ name: "microphone" })).state !== "prompt";
  } catch {
    return true;   // a browser that will not say
  }
}

export function microphoneUnavailable() {
  const code = window.isSecureContext ? "unknown" : "insecure";
  const [title, advice] = MICROPHONE[code];
  return new Problem(`microphone-${code}`, title, advice, "navigator.mediaDevices is absent");
}

export const serverUnreachable = detail => new Problem("server-unreachable", "The server does not answer.",
  "It may have been stopped, or the network between you and it is down. Press Start to try again.", detail);

export function serverRefused(status, text, hadToken) {
  const detail = `${status} ${reason(text)}`.trim();
  if (status === 401 && !hadToken) {
    return new Problem("token-needed", "This server asks for a token.", "Its operator can give you one. Enter it here.");
  }
  if (status === 401 || (status === 403 && hadToken)) {
    return new Problem("token-refused", "The server did not take this token.", "It is unknown, has expired, or may not place calls. "
      + "Enter another one.", detail);
  }
  return new Problem("server-refused", "The server refused the call.",
    status === 503 ? "It has as many calls as it can carry. Try again in a moment." : "Its reason is given below.", detail);
}

// Our server says why as {"error": …}; a proxy in front of it may say anything.
function reason(text) {
  try { return String(JSON.parse(text).error ?? text); } catch { return text; }
}

export const answerUnusable = error => new Problem("answer-unusable", "The server's answer makes no sense to this browser.",
  "That is a fault of the server or of the browser, not yours.", `${error.name}: ${error.message}`);

export const unexpected = error => new Problem("unexpected", "The page made a mistake.",
  "Reload it and try again. The browser's console has the details.", `${error.name}: ${error.message}`);

export const noPath = (where, seconds) => new Problem("no-path", "No packet came through.",
  "The page reached the server, but sound travels by UDP" + (where ? ` to ${where}` : "") +
  `, and nothing came back within ${seconds} s. A VPN or a firewall that blocks UDP, or a server that announces the wrong `
  + "address, is the usual cause: try without the VPN, or from another network.");

export const noNetwork = () => new Problem("no-network", "This browser has no network to send sound over.",
  "It found no address for the call: browsers do not use loopback unless they are told to, and some settings and extensions " +
  "hide every other address. Connect to a network, or look at those settings, and press Start again.");

export const notSecured = () => new Problem("not-secured", "The call could not be secured.",
  "Packets came through, but the encryption handshake failed. A third party on the way may be altering the call.");

export const lost = () => new Problem("lost", "The connection was lost.",
  "Nothing has arrived for a while. Check your network, then call again.");

export const serverGone = () => new Problem("server-gone", "The server is gone.",
  "Nothing has arrived for a while, and it does not answer any more. It may have been stopped: call again when it runs.");

export const programFailed = () => new Problem("program-failed", "The program failed.",
  "It made a mistake and could not go on, so the call is over. The log of the server says what it was. You can call again.");

export const brokenOff = () => new Problem("broken-off", "The server has lost the call.",
  "A part of it failed and was started again. Call again.");
