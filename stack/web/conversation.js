// What is known of the conversation: who speaks, what became of each reply, how long each turn took. From the events
// on the data channel, in which the server speaks of speech, turns and replies, and the program of words. Draws nothing.
//
// Events: "span" ({who, begin} or {who, end}), "entry" ({entry}: a line of the transcript is new or changed),
// "stop" ({reply, stopMs}), "mute" ({reply, last}: the RTP timestamp of its last packet, or null) and "unmute" (the program's voice is to be silent now, or not any more), "turn" ({turn}),
// "state" (this.state), "reply" (this.speaking may have changed).

export const KEPT = 200;          // entries and turns
const MILLISECONDS_PER_CHARACTER = 65;   // of speech, where the program does not say how long a text takes

export class Conversation extends EventTarget {
  state = "listening";
  entries = [];                   // {role, text, final} and {role: "agent", reply, segments, outcome, heardMs, stopMs}
  turns = [];                     // {endpointing, program, work}
  stops = [];                     // {reply, stopMs, at}
  takesTurns = false;             // the program asks for whole turns: one that is typed reaches it
  speaking = null;                // number of the reply that is being spoken
  prefixMs = 300;                 // of sound before the speech, which `speech_started` counts in
  #asked = null;                  // the turn of the person that waits for its reply
  #speech = null;                 // {begin, media}
  #typed = [];                    // texts that the program may still tell once as what the person said
  #work = {};                     // reply → [[what, milliseconds]]: how its program says that the time was spent

  // The person has typed a turn.
  type(text) {
    const entry = { role: "user", text, final: true, typed: true };
    keep(this.entries, entry);
    this.#asked = { endpointing: 0 };
    keep(this.#typed, text);
    this.#emit("entry", { entry });
  }

  receive(event, at = performance.now()) {
    if (Object.hasOwn(this.#handlers, event.type)) this.#handlers[event.type](event, at);
  }

  #handlers = {
    speech_started: (event, at) => {
      const begin = at - (event.decided_ms ?? 0);
      this.#speech = { begin, media: event.media_ms + this.prefixMs };
      this.#emit("span", { who: "you", begin });
    },
    speech_stopped: (event, at) => {
      if (!this.#speech) return;
      const spoken = Math.max(0, event.media_ms - this.#speech.media);
      this.#emit("span", { who: "you", end: Math.min(at, this.#speech.begin + spoken) });
      this.#speech = null;
    },
    turn: (event) => {
      this.state = event.state;
      this.#emit("state");
    },
    utterance: (event) => {
      this.#asked = { endpointing: event.waited_ms };
      if (event.duration_ms > 0) this.#typed = [];   // what is told next was spoken; a typed turn lasts no time
    },
    reply_started: (event, at) => {
      this.#startReply(event.reply, at);
      if (event.response_ms !== null && this.#asked) {
        const turn = { ...this.#asked, program: event.response_ms, work: this.#work[event.reply] ?? [] };
        keep(this.turns, turn);
        this.#emit("turn", { turn });
      }
      this.#asked = null;
      this.#work = {};
    },
    timing: ({ type, reply, ...rest }) => {
      const parts = Object.entries(rest).filter(([name, value]) => name.endsWith("_ms") && Number.isFinite(value));
      this.#work = { [reply]: parts.map(([name, value]) => [name.slice(0, -3).replaceAll("_", " "), value]) };
    },
    reply_held: (event, at) => {
      const stop = { reply: event.reply, stopMs: event.stop_ms, at };
      keep(this.stops, stop);
      this.#emit("stop", stop);
      this.#stopReply(event, at);
      this.#update(event.reply, { outcome: "held", heardMs: event.heard_ms, stopMs: event.stop_ms });
    },
    reply_resumed: (event, at) => {
      this.#startReply(event.reply, at);
      this.#update(event.reply, { outcome: "speaking", heardMs: null, stopMs: null });
    },
    reply_interrupted: (event, at) => {
      this.speaking = null;
      // One that was held has been silent since; by now another may be speaking.
      if (this.#entryOf(event.reply).outcome !== "held") this.#stopReply(event, at);
      this.#update(event.reply, { outcome: "interrupted", heardMs: event.heard_ms });
      this.#emit("reply");
    },
    reply_heard: (event) => { this.#update(event.reply, { heardMs: event.heard_ms }); },
    reply_finished: (event, at) => {
      this.speaking = null;
      this.#emit("span", { who: "program", end: at });
      this.#update(event.reply, { outcome: "finished", heardMs: event.heard_ms });
      this.#emit("reply");
    },
    takes_turns: () => {
      this.takesTurns = true;
      this.#emit("state");
    },
    transcript: (event) => {
      if (event.role === "agent" && event.reply !== undefined) this.#addSegment(event);
      else this.#addWords(event);
    },
  };

  #startReply(reply, at) {
    this.speaking = reply;
    this.#emit("unmute");
    this.#emit("span", { who: "program", begin: at });
    this.#emit("reply");
  }

  // Without a timestamp it was before the channel was open, and nothing of it is left.
  #stopReply({ reply, rtp_timestamp: last }, at) {
    if (last !== undefined) this.#emit("mute", { reply, last });
    this.#emit("span", { who: "program", end: at });
  }

  // A line of words that belongs to no reply. What is not final yet is replaced by what comes next of the same side.
  #addWords({ role, text, final = true }) {
    const typed = role === "user" && final ? this.#typed.indexOf(text) : -1;
    if (typed >= 0) {
      this.#typed.splice(0, typed + 1);
      return;   // it stands there already
    }
    const open = this.entries.findLast(entry => entry.role === role && entry.final === false);
    const entry = open ?? { role };
    Object.assign(entry, { text: String(text ?? ""), final });
    if (!open) keep(this.entries, entry);
    this.#emit("entry", { entry });
  }

  #addSegment({ text, reply, words, start_ms, duration_ms, delta = false }) {
    const entry = this.#entryOf(reply);
    const last = entry.segments.at(-1);
    // Pieces of one text, of which nothing was said in between.
    if (delta && last?.delta && last.start_ms === start_ms && last.duration_ms === null) {
      Object.assign(last, { text: last.text + text, duration_ms });
    } else {
      entry.segments.push({ text: String(text ?? ""), words, start_ms, duration_ms, delta });
    }
    this.#emit("entry", { entry });
  }

  #update(reply, changes) {
    const entry = this.#entryOf(reply);
    Object.assign(entry, changes);
    this.#emit("entry", { entry });
  }

  #entryOf(reply) {
    const known = this.entries.findLast(entry => entry.reply === reply);
    if (known) return known;
    const entry = { role: "agent", reply, segments: [], outcome: "speaking", heardMs: null, stopMs: null };
    keep(this.entries, entry);
    return entry;
  }

  #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}

function keep(list, item) {
  list.push(item);
  if (list.length > KEPT) list.shift();
}

// Where a reply was cut: [what was heard, what was not]. Where a text begins and how long it takes is said by the
// program, or told by where the next one begins. `words` say when each begins, counted from the beginning of
// the reply; without them the share of the characters decides, and the cut falls between two words.
export function cut(segments, heardMs) {
  let end = 0, heard = "", unheard = "";
  for (const [index, segment] of segments.entries()) {
    const start = segment.start_ms ?? end;
    const next = segments[index + 1]?.start_ms ?? 0;
    const guessed = next > start ? next - start : segment.text.length * MILLISECONDS_PER_CHARACTER;
    const length = segment.duration_ms ?? guessed;
    end = start + length;
    const at = segment.words?.length ? byWords(segment, heardMs) : byShare(segment.text, (heardMs - start) / length);
    heard = join(heard, segment.text.slice(0, at), segment.delta);
    unheard = join(unheard, segment.text.slice(at), segment.delta);
  }
  return [heard.trim(), unheard.trim()];
}

// Pieces of a reply bring their own spaces; sentences that a program tells one by one do not.
function join(before, text, asItIs) {
  if (asItIs) return before + text;
  return [before.trim(), text.trim()].filter(Boolean).join(" ");
}

function byWords({ text, words }, heardMs) {
  let at = 0;
  for (const { text: word, start_ms } of words) {
    const found = text.indexOf(word, at);
    if (start_ms >= heardMs) return found < 0 ? at : found;
    if (found >= 0) at = found + word.length;
  }
  return text.length;
}

function byShare(text, share) {
  if (!(share > 0)) return 0;
  if (share >= 1) return text.length;
  return text.lastIndexOf(" ", Math.round(text.length * share)) + 1;
}
