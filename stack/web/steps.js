// How the call came up: one row for each step, a bar from the step that it waited for to the moment it was done.
//
// The bars begin when the microphone is granted, because how long a person thinks about that is not the call's doing.

const ROWS = [
  // name, what it is called, the step that it waits for
  ["microphone", "Microphone granted", null],
  ["offer", "Offer made", "microphone"],
  ["answer", "Answer received", "offer"],
  ["ice", "Path found (ICE)", "answer"],
  ["dtls", "Secured (DTLS)", "ice"],
  ["first_packet", "First sound packet", "dtls"],
  ["channel", "Data channel open", "dtls"],
];

const milliseconds = value => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
// Within a machine what both ends compute takes longer than the way: there is nothing to be counted.
const MIN_ROUND_TRIP = 5;
const roundTrips = (time, roundTrip) => (time > 0 && roundTrip >= MIN_ROUND_TRIP ? (time / roundTrip).toFixed(1) : null);
const seconds = value => (value < 1000 ? milliseconds(value) : `${(value / 1000).toFixed(1)} s`);

export class Steps {
  #rows = new Map();

  constructor(list, note) {
    this.note = note;
    this.invitation = note.textContent;
    for (const [name, title, after] of ROWS) {
      const row = document.createElement("li");
      row.dataset.step = name;
      row.innerHTML = `<span class="step-name"></span><span class="track" aria-hidden="true"><i></i></span><span class="step-time">–</span>`;
      row.querySelector(".step-name").textContent = title;
      list.append(row);
      this.#rows.set(name, { row, after });
    }
  }

  // `roundTrip` in milliseconds, once it is known: what follows the answer is told in round trips, too.
  show(timings, skipped = [], roundTrip = null) {
    const zero = timings.microphone ?? 0;
    const end = Math.max(...Object.values(timings).map(at => at - zero), 1);
    for (const [name, { row, after }] of this.#rows) {
      const at = timings[name];
      const done = at !== undefined;
      row.classList.toggle("done", done);
      row.classList.toggle("skipped", skipped.includes(name));
      const time = row.querySelector(".step-time");
      time.textContent = skipped.includes(name) ? "not offered" : "–";
      row.querySelector("i").style.cssText = "";
      if (!done) continue;
      if (name === "microphone") {
        time.textContent = `after ${seconds(at)}`;
        continue;
      }
      const from = Math.max(0, (timings[after] ?? zero) - zero) / end;
      const to = (at - zero) / end;
      row.querySelector("i").style.cssText = `left:${Math.min(from, to) * 100}%;width:${Math.abs(to - from) * 100}%`;
      time.textContent = milliseconds(at - zero);
      const trips = roundTrips(at - timings.answer, roundTrip);
      row.title = trips === null ? "" : `${trips} round trips after the answer`;
    }
    const said = timings.first_packet;
    this.note.textContent = said === undefined ? this.invitation : `From the microphone to the first sound of the program: ${milliseconds(said - zero)}.`;
    const trips = roundTrips(said - timings.answer, roundTrip);
    if (trips !== null) this.note.textContent += ` From the answer on: ${trips} round trips of ${milliseconds(roundTrip)}.`;
  }

  clear() { this.show({}); }
}
