// Who speaks when: two lanes on one axis of time that ends now. Bars are how loud it was, measured here; the bands
// behind them are when the server took the person or the program to be speaking. `mark` puts a labelled line at a moment.

import { calm, fit, token } from "./canvas.js";
import { SILENCE } from "./levels.js";

const SPAN = 20_000;      // milliseconds on the axis
const COLUMN = 120;       // milliseconds in one bar
const AXIS = 20;          // pixels for the labels of time
const KEPT = 100;         // marks, and bands of each side
const STEP = 40;          // milliseconds from one drawing to the next: the axis moves a pixel or two in them
const CALM_STEP = 1000;   // for those who want less motion

export class Lanes {
  #columns = [];          // {at, you, program}: the loudest of each COLUMN, as 0…1
  #marks = [];
  #bands = { you: [], program: [] };   // {begin, end: null while it lasts}
  #running = false;
  #drawn = 0;
  #frame = 0;

  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
  }

  // What is drawn: `since` when, and when each side (`you`, `program`) was taken to be speaking, as [{begin, end}].
  get spans() { return { since: this.#columns[0]?.at ?? null, ...structuredClone(this.#bands) }; }

  // Begin anew.
  start() {
    this.#columns = [];
    this.#marks = [];
    this.#bands = { you: [], program: [] };
    this.resume();
  }

  // Go on after `stop` with what there is.
  resume() {
    cancelAnimationFrame(this.#frame);
    this.#running = true;
    this.#frame = requestAnimationFrame(now => this.#tick(now));
  }

  // Nothing is added any more: a side that was speaking has ended.
  stop(at = performance.now()) {
    for (const who of ["you", "program"]) this.end(who, at);
    this.#running = false;
    this.#draw();
  }

  add({ you, program }, at = performance.now()) {
    const height = level => (level === null ? 0 : Math.max(0, 1 - level / SILENCE));
    const slot = Math.floor(at / COLUMN) * COLUMN;
    const last = this.#columns.at(-1);
    if (last?.at === slot) {
      last.you = Math.max(last.you, height(you));
      last.program = Math.max(last.program, height(program));
    } else {
      this.#columns.push({ at: slot, you: height(you), program: height(program) });
      while (this.#columns[0].at < at - SPAN - COLUMN) this.#columns.shift();
    }
  }

  mark(label, at = performance.now()) {
    this.#marks.push({ label, at });
    if (this.#marks.length > KEPT) this.#marks.shift();
  }

  begin(who, at) {
    this.end(who, at);
    this.#bands[who].push({ begin: at, end: null });
    if (this.#bands[who].length > KEPT) this.#bands[who].shift();
  }

  end(who, at) {
    const last = this.#bands[who].at(-1);
    if (last?.end === null) last.end = Math.max(at, last.begin);
  }

  #tick(now) {
    if (!this.#running) return;
    if (now - this.#drawn >= (calm.matches ? CALM_STEP : STEP)) this.#draw(now);
    this.#frame = requestAnimationFrame(next => this.#tick(next));
  }

  #draw(now = this.#columns.at(-1)?.at ?? performance.now()) {
    this.#drawn = now;
    const { context, width, height } = fit(this.canvas);
    const colours = Object.fromEntries(["line", "ink-2", "you", "program", "ink", "stop", "card"]
      .map(name => [name, token(this.canvas, `--${name}`)]));
    const x = at => width - (now - at) / SPAN * width;
    const lane = (height - AXIS) / 2;
    context.clearRect(0, 0, width, height);
    this.#drawAxis(context, width, height, colours);
    const bar = Math.max(1.5, COLUMN / SPAN * width * 0.62);
    for (const [index, who] of ["you", "program"].entries()) {
      const middle = lane * (index + 0.5);
      context.fillStyle = colours.line;
      context.fillRect(0, middle - 0.5, width, 1);
      context.fillStyle = colours[who];
      context.globalAlpha = 0.16;
      for (const { begin, end } of this.#bands[who]) {
        const from = Math.max(-8, x(begin)), to = Math.min(width, x(end ?? now));
        if (to <= 0) continue;
        context.beginPath();
        context.roundRect(from, middle - lane / 2 + 4, Math.max(2, to - from), lane - 8, 6);
        context.fill();
      }
      context.globalAlpha = 1;
      for (const column of this.#columns) {
        const half = column[who] ** 1.5 * (lane / 2 - 6);
        if (half < 0.75) continue;
        context.beginPath();
        context.roundRect(x(column.at + COLUMN), middle - half, bar, 2 * half, bar / 2);
        context.fill();
      }
    }
    this.#drawMarks(context, x, width, height, colours);
  }

  #drawMarks(context, x, width, height, colours) {
    context.font = `600 11px ${token(document.body, "--font")}`;
    const taken = [-Infinity, -Infinity];   // up to where there are flags, in the upper row and in the lower one
    for (const { label, at } of this.#marks) {
      const left = x(at), room = context.measureText(label).width + 10;
      if (left < 0) continue;   // its line has left, and what is to be read would be cut off
      const beside = left + room > width ? left - room : left;   // at the right edge the flag flies to the left
      const row = beside < taken[0] && beside >= taken[1] ? 1 : 0;
      const middle = (height - AXIS) / 2 + 20 * row;
      taken[row] = beside + room;
      context.fillStyle = colours.stop;
      context.fillRect(left - 0.75, 0, 1.5, height - AXIS);
      context.beginPath();
      context.roundRect(beside, middle - 9, room, 18, 4);
      context.fill();
      context.fillStyle = colours.card;
      context.fillText(label, beside + 5, middle + 4);
    }
  }

  #drawAxis(context, width, height, colours) {
    context.font = `11px ${token(document.body, "--font")}`;
    context.textBaseline = "alphabetic";
    const step = width < 420 ? 10 : 5;
    for (let seconds = 0; seconds < SPAN / 1000; seconds += step) {
      const at = width - seconds * 1000 / SPAN * width;
      context.fillStyle = colours.line;
      context.fillRect(Math.min(at, width - 1), 0, 1, height - AXIS + 4);
      context.fillStyle = colours["ink-2"];
      context.textAlign = seconds ? "center" : "right";
      context.fillText(seconds ? `−${seconds} s` : "now", at, height - 2);
    }
    context.textAlign = "left";
  }
}
