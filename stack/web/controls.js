// How turns are taken, as the person wishes: the rules of the server, changeable in the middle of a call, and the key
// to talk with. While the choice is the program's, nothing is sent.

const $ = id => document.getElementById(id);
const FIELDS = {
  // element: what it is called on the wire, and the modes in which it means something
  silence: ["silence_duration_ms", ["server_vad"]],
  eagerness: ["eagerness", ["semantic_vad"]],
  threshold: ["threshold", ["server_vad", "semantic_vad"]],
  idle: ["idle_timeout_ms", ["server_vad", "semantic_vad", "manual"]],
};
const SHOWN = { silence: value => `${value} ms`, threshold: value => Number(value).toFixed(2) };

export class TurnControls extends EventTarget {
  #mode = $("mode");
  #program = null;     // what the program has chosen, as the server says
  #inForce = null;     // what holds now

  constructor() {
    super();
    this.#mode.addEventListener("change", () => this.#changed());
    for (const name of Object.keys(FIELDS)) {
      $(name).addEventListener("input", () => this.#show());
      $(name).addEventListener("change", () => this.#changed());
    }
    this.#show();
  }

  get mode() { return this.#mode.value; }

  // The mode that holds in a call: the choice of the person, or else of the program.
  get modeInForce() { return this.mode || this.#inForce?.mode || ""; }

  // A call begins: nothing is known of its program.
  forget() {
    this.#program = this.#inForce = null;
    this.#show();
  }

  // The server says which rules hold.
  note(settings) {
    this.#inForce = settings;
    if (!this.mode || !this.#program) this.#program = settings;
    this.#show();
  }

  // What the server is asked for; null while the program decides.
  get request() {
    if (!this.mode) return this.#program;
    const request = { type: "turn_settings", mode: this.mode };
    for (const [name, [key, modes]] of Object.entries(FIELDS)) {
      if (!modes.includes(this.mode)) continue;
      const { value } = $(name);
      request[key] = name === "eagerness" ? value : value === "" ? null : Number(value);
    }
    return request;
  }

  #changed() {
    this.#show();
    this.dispatchEvent(new Event("change"));
  }

  #show() {
    for (const [name, [, modes]] of Object.entries(FIELDS)) {
      $(name).closest(".field").hidden = !modes.includes(this.mode);
      if (SHOWN[name]) $(`${name}-value`).textContent = SHOWN[name]($(name).value);
    }
    const shown = ["manual", "full_duplex"].includes(this.modeInForce) ? this.modeInForce : "";
    for (const word of document.querySelectorAll("[data-mode]")) word.hidden = word.dataset.mode !== shown;
    const chosen = [...this.#mode.options].find(option => option.value && option.value === this.#program?.mode);
    this.#mode.options[0].textContent = chosen ? `as the program chooses: ${chosen.textContent}` : "as the program chooses";
  }
}

// Calls `press(true)` while the button, or the space bar, is held down.
export class PushToTalkKey {
  #down = false;

  constructor(button, { wanted, press }) {
    this.button = button;
    this.press = press;
    button.addEventListener("pointerdown", event => {
      button.setPointerCapture(event.pointerId);
      this.#set(true);
    });
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(type, () => this.#set(false));
    button.addEventListener("contextmenu", event => event.preventDefault());   // a long press on a phone
    // The space bar talks wherever it does not write or choose; Enter still presses the button that has the focus.
    const ours = event => event.code === "Space" && wanted() && !event.target.closest?.("input, select, textarea, summary");
    document.addEventListener("keydown", event => {
      if (!ours(event)) return;
      event.preventDefault();
      if (!event.repeat) this.#set(true);
    });
    document.addEventListener("keyup", event => {
      if (event.code !== "Space" || !(this.#down || ours(event))) return;
      event.preventDefault();
      this.#set(false);
    });
    window.addEventListener("blur", () => this.#set(false));
  }

  #set(down) {
    if (down === this.#down) return;
    this.#down = down;
    this.button.setAttribute("aria-pressed", String(down));
    this.press(down);
  }
}
