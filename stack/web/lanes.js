// Who speaks when: two lanes on one axis of time that ends now. `mark` puts a labelled line at a moment.

import { calm, fit, token } from "./canvas.js";
import { SILENCE } from "./levels.js";

const SPAN = 20_000;      // milliseconds on the axis
const COLUMN = 120;       // milliseconds in one bar
const AXIS = 20;          // pixels for the labels of time
const MARKS_KEPT = 100;

export class Lanes {
  #columns = [];          // {at, you, program}: the loudest of each COLUMN, as 0…1
  #marks = [];
  #running = false;
  #drawn = 0;

  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
  }

  start() {
    this.#columns = [];
    this.#marks = [];
    this.#running = true;
    requestAnimationFrame(now => this.#tick(now));
  }

  stop() { this.#running = false; this.#draw(); }

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
    if (this.#marks.length > MARKS_KEPT) this.#marks.shift();
  }

  #tick(now) {
    if (!this.#running) return;
    // For those who want less motion the axis moves on once a second.
    if (!calm.matches || now - this.#drawn > 1000) this.#draw(now);
    requestAnimationFrame(next => this.#tick(next));
  }

  #draw(now = this.#columns.at(-1)?.at ?? performance.now()) {
    this.#drawn = now;
    const { context, width, height } = fit(this.canvas);
    const colours = Object.fromEntries(["line", "ink-2", "you", "program", "ink"]
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
      for (const column of this.#columns) {
        const half = column[who] ** 1.5 * (lane / 2 - 6);
        if (half < 0.75) continue;
        context.beginPath();
        context.roundRect(x(column.at + COLUMN), middle - half, bar, 2 * half, bar / 2);
        context.fill();
      }
    }
    context.fillStyle = colours.ink;
    for (const { label, at } of this.#marks) {
      context.fillRect(x(at), 0, 1.5, height - AXIS);
      context.fillText(label, x(at) + 5, 11);
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
