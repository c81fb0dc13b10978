"use strict";
const packed = Uint8Array.from(atob(document.getElementById("data").textContent), letter => letter.charCodeAt(0));
const { now, former, left } = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
const WORDS = { passed: "passed", failed: "failed", known: "known fault", healed: "known fault is gone", unsupported: "unsupported",
  absent: "absent", untried: "not tried", broken: "harness failed" };
const SIGNS = { passed: "✓", failed: "✗", known: "≈", healed: "!", unsupported: "–", absent: "·", untried: "○", broken: "?" };
const RANK = ["broken", "failed", "healed", "known", "untried", "passed", "unsupported", "absent"];
// Drawings are as wide as their place, so that their words keep their size; the second column is narrower.
const isNarrow = matchMedia("(max-width: 46rem)").matches;
const WIDE = isNarrow ? 330 : 640, SIDE = isNarrow ? 330 : 430;
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  const element = tag in { svg: 1, line: 1, text: 1, rect: 1, path: 1, g: 1 } ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

// Cells of the same pair and scenario are repetitions: the worst of them stands for all.
function grouped(results) {
  const groups = new Map();
  for (const cell of results?.cells ?? []) {
    const key = `${cell.pair}\n${cell.scenario}`;
    groups.has(key) ? groups.get(key).push(cell) : groups.set(key, [cell]);
  }
  for (const cells of groups.values()) cells.sort((a, b) => RANK.indexOf(a.outcome) - RANK.indexOf(b.outcome));
  return groups;
}

const cells = grouped(now), before = grouped(former);
const at = (groups, pair, scenario) => groups.get(`${pair}\n${scenario}`);
const pairs = [...new Set(now.cells.map(cell => cell.pair))], scenarios = [...new Set(now.cells.map(cell => cell.scenario))];
const blame = cell => cell.blame ? ` (${cell.blame})` : "";
const isRed = outcome => ["failed", "healed", "broken"].includes(outcome);

function showHeader() {
  const seconds = now.seconds, length = seconds < 90 ? `${seconds.toFixed(0)} s` : `${(seconds / 60).toFixed(0)} min`;
  document.getElementById("about").textContent = `Version ${now.project}, ${now.made.slice(0, 16).replace("T", " ")} UTC, ${length}, ${now.machine}`
    + (left ? `. To keep this page small it is without ${left}` : "") + (former ? `; beside it the run of version ${former.project}, ${former.made.slice(0, 16).replace("T", " ")} UTC` : "");
  for (const outcome of [...RANK].sort((a, b) => (a === "passed" ? -1 : b === "passed" ? 1 : 0))) {
    const count = now.cells.filter(cell => cell.outcome === outcome).length;
    if (count) document.getElementById("counts").append(make("li", { class: outcome }, `${SIGNS[outcome]} ${count} ${WORDS[outcome]}${outcome === "known" && count > 1 ? "s" : ""}`));
  }
}

function item(cell, kind, words, title = `${cell.pair}: ${cell.scenario}`) {
  const open = cell.call ? make("button", { class: "link", type: "button", onclick: () => show(cell.pair, cell.scenario) }, "See the call") : null;
  return make("li", { class: kind }, make("b", {}, title), words, make("br"), open);
}

// Cells of which the same is said are one entry, which shows the first of their calls.
function showAttention() {
  const section = document.getElementById("attention"), list = section.querySelector("ol"), alike = new Map();
  for (const group of cells.values())
    if (isRed(group[0].outcome)) {
      const times = group.length > 1 ? ` [${group.filter(cell => isRed(cell.outcome)).length} of ${group.length} times]` : "";
      const words = `${WORDS[group[0].outcome]}${blame(group[0])}${times}: ${group[0].sentence}`;
      alike.has(words) ? alike.get(words).push(group[0]) : alike.set(words, [group[0]]);
    }
  for (const [words, red] of alike) {
    const names = red.slice(0, 4).map(cell => `${cell.pair}: ${cell.scenario}`).join(" · ");
    list.append(item(red[0], "", words, names + (red.length > 4 ? ` · and ${red.length - 4} more` : "")));
  }
  // What was not tried for the same reason is one entry.
  const untried = now.cells.filter(cell => cell.outcome === "untried");
  for (const why of new Set(untried.map(cell => cell.sentence))) {
    const left = untried.filter(cell => cell.sentence === why);
    const of = [...new Set(left.map(cell => cell.pair))], about = of.length > 3 ? `${of.length} pairs` : of.join(", ");
    list.append(make("li", { class: "untried" }, make("b", {}, `${about}: ${left.length} not tried`), `${why[0].toUpperCase()}${why.slice(1)}.`.replace("..", ".")));
  }
  section.hidden = !list.children.length;
}

function showChanges() {
  const section = document.getElementById("changes"), list = section.querySelector("ol");
  for (const group of cells.values()) {
    const then = at(before, group[0].pair, group[0].scenario)?.[0];
    if (then && then.outcome !== group[0].outcome && ![then.outcome, group[0].outcome].includes("untried"))
      list.append(item(group[0], "changed", `${WORDS[then.outcome]} → ${WORDS[group[0].outcome]}: ${group[0].sentence}`));
  }
  section.hidden = !list.children.length;
}

// Paper has no scroll bar: there the matrix is in several tables, whose columns have numbers.
const ON_PAPER = 14;
function showOnPaper() {
  const place = document.getElementById("paper"), tables = Math.ceil(pairs.length / ON_PAPER), many = Math.ceil(pairs.length / tables);
  for (let begin = 0; begin < pairs.length; begin += many) {
    const part = pairs.slice(begin, begin + many);
    const head = make("tr", {}, make("th", { scope: "col" }, "Scenario"), ...part.map((_, index) => make("th", { scope: "col" }, String(begin + index + 1))));
    const rows = scenarios.map(scenario => make("tr", {}, make("th", { scope: "row" }, scenario), ...part.map(pair => {
      const cell = at(cells, pair, scenario)?.[0];
      return make("td", { class: cell?.outcome }, cell ? SIGNS[cell.outcome] : "");
    })));
    place.append(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)),
      make("p", {}, part.map((pair, index) => `${begin + index + 1}\u00a0${pair.replaceAll(" ", "\u00a0")}`).join("   ")));
  }
}

function showMatrix() {
  const table = document.getElementById("matrix"), head = make("tr", {}, make("th", { scope: "col" }, "Scenario"));
  for (const pair of pairs) {
    const [client, server] = pair.split(" → ");
    const version = now.cells.find(cell => cell.pair === pair).version;
    head.append(make("th", { scope: "col", title: version ? `version ${version}` : null }, make("b", {}, client), make("br"), "→ ", make("b", {}, server)));
  }
  const body = make("tbody");
  for (const scenario of scenarios) {
    const row = make("tr", {}, make("th", { scope: "row", title: now.scenarios[scenario]?.sentence }, scenario));
    for (const pair of pairs) {
      const group = at(cells, pair, scenario);
      if (!group) { row.append(make("td")); continue; }
      const cell = group[0], then = at(before, pair, scenario)?.[0];
      const changed = then && then.outcome !== cell.outcome;
      const sign = changed ? `${SIGNS[then.outcome]}→${SIGNS[cell.outcome]}` : SIGNS[cell.outcome];
      row.append(make("td", {}, make("button", { type: "button", class: cell.outcome + (changed ? " changed" : ""), title: `${WORDS[cell.outcome]}${blame(cell)}: ${cell.sentence}`,
        "aria-label": `${pair}, ${scenario}: ${WORDS[cell.outcome]}`, "data-cell": `${pair}\n${scenario}`, onclick: () => show(pair, scenario) }, sign)));
    }
    body.append(row);
  }
  table.append(make("thead", {}, head), body);
}

function waterfall(call) {
  // The set-up is over when both stand and both speak; what a scenario hears seconds later would squeeze it.
  const stands = side => call.waterfall[`${side} connected`];
  const isUp = stands("client") !== undefined && stands("server") !== undefined;
  const late = Object.entries(call.waterfall).filter(([name]) => name.endsWith("connected") || name.startsWith("first RTP"));
  const over = isUp ? Math.max(...late.map(([, time]) => time)) : 30;
  const steps = Object.entries(call.waterfall).filter(([, time]) => time <= over);
  if (!steps.length) return null;
  const last = Math.max(...steps.map(([, time]) => time), 0.001), row = 22, left = 165, width = SIDE;
  const drawing = make("svg", { viewBox: `0 0 ${width} ${steps.length * row + 4}`, role: "img", "aria-label": "Set-up, step by step" });
  let from = 0;
  steps.forEach(([name, time], index) => {
    const y = index * row, scale = (width - left - 70) / last;
    drawing.append(make("text", { x: 0, y: y + 14 }, name),
      make("rect", { x: left + from * scale, y: y + 5, width: Math.max(1.5, (time - from) * scale), height: 11, rx: 2 }),
      make("text", { x: left + time * scale + 6, y: y + 14, class: "faint" }, time < 10 ? `${(1000 * time).toFixed(0)} ms` : `${time.toFixed(1)} s`));
    from = time;
  });
  return drawing;
}

function sequence(call) {
  if (!call.first.length) return null;
  const row = 25, width = WIDE, margin = isNarrow ? 34 : 100, x = { client: margin, server: width - margin }, letters = isNarrow ? 34 : 60;
  const drawing = make("svg", { viewBox: `0 0 ${width} ${call.first.length * row + 34}`, role: "img", "aria-label": "The first packets" });
  for (const side of ["client", "server"])
    drawing.append(make("text", { x: isNarrow ? (side === "client" ? 0 : width) : x[side], y: 12, "text-anchor": isNarrow ? (side === "client" ? "start" : "end") : "middle", "font-weight": 600 }, call.client === call.server ? `${call[side]} (${side})` : call[side]),
      make("line", { x1: x[side], x2: x[side], y1: 20, y2: call.first.length * row + 30, class: "rule" }));
  call.first.forEach((packet, index) => {
    const y = 42 + index * row, goes = packet.side === "client", from = x[packet.side];
    const to = packet.fate === "passed" ? (goes ? x.server : x.client) : width / 2 + (goes ? 60 : -60), tip = goes ? -7 : 7;
    drawing.append(make("line", { x1: from, x2: to, y1: y, y2: y, class: `${packet.side}${packet.fate === "passed" ? "" : " lost"}`, "stroke-width": 1.5 }),
      make("path", { d: packet.fate === "passed" ? `M${to + tip} ${y - 4}L${to} ${y}L${to + tip} ${y + 4}` : `M${to - 4} ${y - 4}l8 8m0 -8l-8 8`, class: packet.side }),
      make("text", { x: width / 2, y: y - 5, "text-anchor": "middle" }, packet.what.length > letters ? packet.what.slice(0, letters - 1) + "…" : packet.what),
      make("text", { x: goes ? 0 : width, y: y + 4, class: "faint", "text-anchor": goes ? "start" : "end" }, isNarrow ? `#${packet.number}` : `#${packet.number}  ${(1000 * packet.at).toFixed(0)} ms`));
  });
  return drawing;
}

function levels(call) {
  const all = [...call.levels.client, ...call.levels.server];
  if (!all.length) return null;
  const width = SIDE, height = 110, last = Math.max(...all.map(([time]) => time), 0.1), first = Math.min(...all.map(([time]) => time));
  const drawing = make("svg", { viewBox: `0 0 ${width} ${height + 22}`, role: "img", "aria-label": "Levels over time" });
  const place = ([time, rms]) => [40 + (time - first) / (last - first || 1) * (width - 50), -Math.max(-60, 20 * Math.log10(rms + 1e-6)) / 60 * height];
  for (const decibels of [0, -20, -40, -60])
    drawing.append(make("line", { x1: 40, x2: width, y1: -decibels / 60 * height, y2: -decibels / 60 * height, class: "rule" }),
      make("text", { x: 34, y: -decibels / 60 * height + 4, class: "faint", "text-anchor": "end" }, String(decibels)));
  for (const side of ["client", "server"]) {
    const points = call.levels[side].map(place);
    if (points.length) drawing.append(make("path", { class: side, d: "M" + points.map(point => point.map(n => n.toFixed(1)).join(" ")).join("L") }));
  }
  drawing.append(make("text", { x: 40, y: height + 18, class: "faint" }, `${first.toFixed(1)} s`),
    make("text", { x: width, y: height + 18, class: "faint", "text-anchor": "end" }, `${last.toFixed(1)} s`));
  return make("div", {}, drawing, make("p", { class: "key" }, make("span", {}, "heard by the client"), make("span", {}, "heard by the server")));
}

function parts(call) {
  const titled = (title, drawing) => drawing ? [make("h3", {}, title), drawing] : [];
  const listed = table => {
    const list = make("dl");
    for (const [name, value] of Object.entries(table ?? {})) list.append(make("dt", {}, name), make("dd", {}, value));
    return list.children.length ? list : null;
  };
  return make("div", {},
    make("div", { class: "columns" },
      make("div", {}, ...titled(`The first packets, of ${call.packets}`, sequence(call))),
      make("div", {}, ...titled("Set-up", waterfall(call)), ...titled("Negotiated", listed(call.negotiated)), ...titled("Measured", listed(call.measured)), ...titled("Level over time, dBFS", levels(call)))),
    ...["offer", "answer"].filter(name => call[name]).map(name => make("details", {}, make("summary", {}, `The ${name}`), make("pre", {}, call[name]))));
}

function show(pair, scenario, scroll = true) {
  const section = document.getElementById("call"), group = at(cells, pair, scenario), cell = group[0], then = at(before, pair, scenario)?.[0];
  for (const button of document.querySelectorAll("td button")) button.setAttribute("aria-pressed", button.dataset.cell === `${pair}\n${scenario}`);
  const words = group.map(each => make("p", { class: "verdict" }, make("span", { class: `word ${each.outcome}` }, WORDS[each.outcome] + blame(each)), each.sentence,
    ...each.further.map(line => make("span", { class: "hint" }, make("br"), "also: " + line))));
  section.replaceChildren(...[make("h2", {}, `${pair}: ${scenario}`),
    make("p", { class: "hint" }, `${now.scenarios[scenario].sentence} ${now.scenarios[scenario].cites}. ${cell.version ? `${cell.peer} ${cell.version}, ` : ""}${cell.seconds.toFixed(1)} s`),
    ...words,
    then ? make("p", { class: "hint" }, `In the former run: ${WORDS[then.outcome]}${blame(then)}. ${then.sentence}`) : null,
    cell.kept ? make("p", { class: "hint" }, `Capture, key log, descriptions and statistics are kept in ${cell.kept}`) : null,
    cell.call ? parts(cell.call) : null,
    then?.call ? make("details", {}, make("summary", {}, "The call of the former run"), parts(then.call)) : null].filter(Boolean));
  section.hidden = false;
  if (scroll) section.scrollIntoView({ behavior: "instant", block: "start" });
}

showHeader();
showAttention();
showChanges();
showMatrix();
showOnPaper();
const shown = [...cells.values()].find(group => isRed(group[0].outcome) && group[0].call) ?? [...cells.values()].find(group => group[0].call);
if (shown) show(shown[0].pair, shown[0].scenario, false);
