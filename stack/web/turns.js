// How long each answer took, from the person's last sound to the program's first, and what the time went into.

const SHOWN = 6;
const LEAST = 800;       // milliseconds that the longest bar stands for, at least
const PARTS = [
  // key, what it is called: in the order in which they pass
  ["network", "network"],
  ["endpointing", "end of turn"],
  ["program", "program"],
  ["playback", "playback"],
];

export const total = turn => PARTS.reduce((sum, [key]) => sum + (turn[key] ?? 0), 0);

export class Turns {
  #turns = [];

  constructor(list, note) {
    this.list = list;
    this.note = note;
  }

  // `turn` has milliseconds by the names of PARTS, null where they are unknown, and perhaps `work`: [[what, milliseconds]].
  add(turn) {
    this.#turns.push(turn);
    if (this.#turns.length > SHOWN) this.#turns.shift();
    this.note.hidden = true;
    const longest = Math.max(LEAST, ...this.#turns.map(total));
    this.list.replaceChildren(...this.#turns.toReversed().map(each => row(each, longest)));
  }

  clear() {
    this.#turns = [];
    this.list.replaceChildren();
    this.note.hidden = false;
  }
}

function row(turn, longest) {
  const element = document.createElement("li");
  const bar = Object.assign(document.createElement("span"), { className: "bar" });
  bar.setAttribute("aria-hidden", "true");
  for (const [key] of PARTS) {
    const piece = Object.assign(document.createElement("i"), { className: key });
    piece.style.width = `${(turn[key] ?? 0) / longest * 100}%`;
    bar.append(piece);
  }
  const words = Object.assign(document.createElement("span"), { className: "parts" });
  for (const [key, name] of PARTS) {
    const value = turn[key];
    const label = Object.assign(document.createElement("span"), { className: key });
    label.textContent = `${name} ${value === null || value === undefined ? "–" : Math.round(value)}`;
    words.append(label);
  }
  if (turn.work?.length) {
    // Part of it may have been done while the person was still pausing: so it is no piece of the bar.
    const did = turn.work.map(([name, value]) => `${name} ${Math.round(value)}`).join(" · ");
    words.append(Object.assign(document.createElement("span"), { className: "work", textContent: `the program: ${did}` }));
  }
  const sum = Object.assign(document.createElement("b"), { textContent: `${Math.round(total(turn))} ms` });
  element.append(bar, sum, words);
  return element;
}
