// What the program reports: JSON objects `{type, …}`, one to a message of the data channel, shown and handed on by type.

const KEPT = 200;

export class Events {
  all = [];
  #handlers = new Map();
  #rows = [];            // that wait for the next frame: playback is muted before the page is laid out

  constructor(list, note) {
    this.list = list;
    this.note = note;
  }

  // Call `handler(event)` for every event of that type.
  on(type, handler) {
    this.#handlers.set(type, [...(this.#handlers.get(type) ?? []), handler]);
  }

  // Returns the event.
  receive(text, at) {
    const event = parse(text);
    this.all.push(event);
    if (this.all.length > KEPT) this.all.shift();
    for (const handler of this.#handlers.get(event.type) ?? []) handler(event);
    if (this.#rows.push(row(event, at)) === 1) requestAnimationFrame(() => this.#append());
    if (this.#rows.length > KEPT) this.#rows.shift();
    return event;
  }

  clear() {
    this.all = [];
    this.#rows = [];
    this.list.replaceChildren();
    this.note.hidden = false;
  }

  #append() {
    const list = this.list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    list.append(...this.#rows.splice(0));
    this.note.hidden = list.childElementCount > 0;
    while (list.childElementCount > KEPT) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }
}

function row({ type, ...rest }, at) {
  const element = document.createElement("div");
  for (const [className, text] of [["event-time", clock(at)], ["event-type", type], ["event-body", brief(rest)]]) {
    element.append(Object.assign(document.createElement("span"), { className, textContent: text }));
  }
  return element;
}

function parse(text) {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && typeof value.type === "string") return value;
  } catch { /* a program may send plain text too */ }
  return { type: "text", text };
}

const clock = at => `${(at / 1000).toFixed(2)} s`;
const brief = rest => Object.entries(rest)
  .map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`).join("   ");
