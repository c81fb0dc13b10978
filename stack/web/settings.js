// The microphone's settings, remembered by the browser.

const NAMES = ["echoCancellation", "noiseSuppression", "autoGainControl"];
const KEY = "voice-stack.microphone";

export class Settings {
  #boxes = new Map(NAMES.map(name => [name, document.getElementById(name)]));

  constructor() {
    const kept = read();
    for (const [name, box] of this.#boxes) {
      box.checked = kept[name] ?? true;
      box.addEventListener("change", () => this.#keep());
    }
  }

  // What getUserMedia takes as `audio`.
  get constraints() {
    return Object.fromEntries([...this.#boxes].map(([name, box]) => [name, box.checked]));
  }

  #keep() {
    try { localStorage.setItem(KEY, JSON.stringify(this.constraints)); } catch { /* private browsing */ }
  }
}

function read() {
  try { return JSON.parse(localStorage.getItem(KEY)) ?? {}; } catch { return {}; }
}
