// The microphone's settings, remembered by the browser; an open microphone follows where the browser can.

const NAMES = ["echoCancellation", "noiseSuppression", "autoGainControl"];
const KEY = "voice-stack.microphone";

export class Settings {
  #boxes = new Map(NAMES.map(name => [name, document.getElementById(name)]));

  constructor() {
    const kept = read();
    for (const [name, box] of this.#boxes) {
      box.checked = kept[name] ?? true;
      box.addEventListener("change", () => { this.#keep(); this.#follow(); });
    }
  }

  // What getUserMedia takes as `audio`.
  get constraints() {
    return Object.fromEntries([...this.#boxes].map(([name, box]) => [name, box.checked]));
  }

  // The microphone that is open now; null: none.
  microphone = null;

  #follow() {
    for (const track of this.microphone?.getAudioTracks() ?? []) {
      track.applyConstraints(this.constraints).catch(() => { /* then the next call will */ });
    }
  }

  #keep() {
    try { localStorage.setItem(KEY, JSON.stringify(this.constraints)); } catch { /* private browsing */ }
  }
}

function read() {
  try { return JSON.parse(localStorage.getItem(KEY)) ?? {}; } catch { return {}; }
}
