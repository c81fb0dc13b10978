// What was said, line by line; what the program meant to say and the person did not hear is struck out.

import { cut, KEPT } from "./conversation.js";

const NAMES = { user: "You", agent: "Program" };

export class Transcript {
  #rows = new Map();      // entry → its row

  constructor(list, note) {
    this.list = list;
    this.note = note;
  }

  show(entry) {
    const { role, outcome, segments } = entry;
    if (segments && !segments.length && !["interrupted", "held"].includes(outcome)) return;   // sound without words
    const list = this.list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    const row = this.#rows.get(entry) ?? this.#addRow(entry);
    this.note.hidden = true;
    row.className = role === "user" ? "you" : "program";
    row.classList.toggle("open", entry.final === false);
    row.replaceChildren(part("span", "who", NAMES[role] ?? role), this.#words(entry));
    const remark = said(entry);
    if (remark) row.append(part("span", entry.typed ? "remark typed" : "remark", remark));
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  #addRow(entry) {
    const row = this.list.appendChild(document.createElement("div"));
    this.#rows.set(entry, row);
    for (const [oldest, itsRow] of this.#rows) {
      if (this.#rows.size <= KEPT) break;
      this.#rows.delete(oldest);
      itsRow.remove();
    }
    return row;
  }

  clear() {
    this.#rows.clear();
    this.list.replaceChildren();
    this.note.hidden = false;
  }

  #words(entry) {
    if (!entry.segments) return part("span", "words", entry.text);
    const stopped = ["interrupted", "held"].includes(entry.outcome);
    const [heard, unheard] = cut(entry.segments, stopped ? entry.heardMs : Infinity);
    const words = part("span", "words", heard);
    if (unheard) {
      const struck = part("s", "", `${heard ? " " : ""}${unheard}`);
      struck.setAttribute("aria-label", `not heard: ${unheard}`);
      words.append(struck);
    }
    return words;
  }
}

function said({ typed, outcome, heardMs, stopMs }) {
  if (typed) return "typed";
  const heard = `${(heardMs / 1000).toFixed(1)} s heard`;
  if (outcome === "held") return `holding, silent after ${Math.round(stopMs)} ms`;
  if (outcome !== "interrupted") return "";
  return stopMs === null ? `cut off, ${heard}` : `you interrupted: silent after ${Math.round(stopMs)} ms, ${heard}`;
}

function part(tag, className, text) {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}
