// A small live plot: one minute of one number, filled below the line, on a scale that never shrinks below `least`.

import { fit, token } from "./canvas.js";

const POINTS = 60;

export class Plot {
  #values = [];

  constructor(canvas, least) {
    this.canvas = canvas;
    this.least = least;
    this.draw();
  }

  clear() { this.#values = []; this.draw(); }

  add(value) {
    this.#values.push(value);
    if (this.#values.length > POINTS) this.#values.shift();
    this.draw();
  }

  draw() {
    const { context, width, height } = fit(this.canvas);
    context.clearRect(0, 0, width, height);
    context.fillStyle = token(this.canvas, "--line");
    context.fillRect(0, height - 1, width, 1);
    const known = this.#values.filter(value => value !== null);
    if (!known.length) return;
    const top = Math.max(this.least, ...known) * 1.15;
    const right = width - 5;
    const x = index => right - (this.#values.length - 1 - index) * (right / (POINTS - 1));
    const y = value => height - 2 - (value / top) * (height - 8);
    const colour = token(this.canvas, "--accent");
    const points = this.#values.flatMap((value, index) => (value === null ? [] : [[x(index), y(value)]]));
    context.beginPath();
    for (const point of points) context.lineTo(...point);
    context.strokeStyle = colour;
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.stroke();
    context.lineTo(points.at(-1)[0], height - 1);
    context.lineTo(points[0][0], height - 1);
    context.globalAlpha = 0.12;
    context.fillStyle = colour;
    context.fill();
    context.globalAlpha = 1;
    context.beginPath();
    context.arc(...points.at(-1), 3, 0, 2 * Math.PI);
    context.fill();
  }
}
