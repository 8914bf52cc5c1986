// One review: what is written, the answer, and what each word and sentence adds to it.

import { Refusal, ask, model } from "./api.js";
import { capital, count, element, percent, signed } from "./show.js";

const PAUSE = 120; // ms without a key after which is asked; between two keys of a fast typist
const SPOKEN = 700; // ms after which a screen reader is told, so that it need not read every letter
const FULL = 1; // log-odds that get the full colour, unless a word of the text has more
const SHORT = 30; // words and marks: a sentence or two
const MANY = 0.2; // share of unknown words; of reviews it is 1%, of another language much more

export function verdict(prediction) {
  const positive = prediction.probability >= 0.5;
  const likely = percent(positive ? prediction.probability : 1 - prediction.probability);
  const side = positive ? "positive" : "negative";
  return {
    label: capital(prediction.label),
    chance: prediction.label === "uncertain"
      ? `${likely} likely to be ${side}: too close to call`
      : `${likely} likely`,
  };
}

// Fills `place` with a reader. `changed` is called with each new prediction, or with null.
export function mountReader(place, name, changed = () => {}) {
  const root = document.getElementById("reader").content.firstElementChild.cloneNode(true);
  place.append(root);
  const find = (selector) => root.querySelector(selector);
  const area = find("textarea");
  find(".reader-name").textContent = name;

  let written = ""; // the text that is explained
  let base = null; // its explanation
  let now = null; // that of what is left of it
  let out = new Set(); // places of the words that are taken out
  let words = []; // their buttons
  let columns = []; // the sentences'
  let inside = []; // places of the words of each sentence
  let added = []; // what each word adds now
  let running = new AbortController();
  let timer = 0;
  let speaking = 0;

  model().then(({ confidence }) => {
    const band = find(".band");
    band.style.left = `${100 * (1 - confidence)}%`;
    band.style.width = `${100 * (2 * confidence - 1)}%`;
    root.classList.toggle("decides", confidence <= 0.5);
  }, refuse);

  area.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(read, PAUSE);
  });
  rove(find(".words"), showWord);
  rove(find(".columns"), showSentence);
  find(".undo").addEventListener("click", () => {
    const first = words[out.values().next().value];
    toggle([...out]);
    first?.focus(); // the button that had it goes away
  });

  async function asked(text) {
    running.abort();
    running = new AbortController();
    const { signal } = running;
    root.setAttribute("aria-busy", "true");
    try {
      const found = await ask("/v1/explain", { text }, signal);
      find(".wrong").hidden = true;
      return found;
    } catch (error) {
      if (!signal.aborted) refuse(error);
      return null;
    } finally {
      if (!signal.aborted) root.removeAttribute("aria-busy");
    }
  }

  function refuse(error) {
    if (!(error instanceof Refusal)) throw error;
    find(".wrong").textContent = error.message;
    find(".wrong").hidden = false;
  }

  async function read() {
    clearTimeout(timer);
    const text = area.value;
    root.classList.toggle("empty", !text.trim());
    if (!text.trim()) {
      running.abort();
      base = now = null;
      find(".wrong").hidden = true;
      find(".said").textContent = "";
      changed(null);
      return;
    }
    const found = await asked(text);
    if (found === null) return;
    written = text;
    base = now = found;
    out = new Set();
    draw();
    update();
  }

  // Takes words out, or puts them back.
  async function toggle(places) {
    const back = places.every((place) => out.has(place));
    for (const place of places) back ? out.delete(place) : out.add(place);
    press();
    const found = out.size ? await asked(without(written, base.words, out)) : base;
    if (found === null) return;
    now = found;
    update();
  }

  function draw() {
    const points = Array.from(written); // offsets count characters, and JavaScript's strings half ones
    const pieces = [];
    let end = 0;
    words = base.words.map((word, place) => {
      pieces.push(points.slice(end, word.start).join(""));
      end = word.end;
      const button = element("button", { type: "button", class: "word" },
        points.slice(word.start, word.end).join(""));
      button.addEventListener("click", () => toggle([place]));
      pieces.push(button);
      return button;
    });
    pieces.push(points.slice(end).join(""));
    find(".words").replaceChildren(...pieces);
    let next = 0;
    inside = base.sentences.map(({ end: last }) => {
      const first = next;
      while (next < base.words.length && base.words[next].end <= last) next += 1;
      return Array.from({ length: next - first }, (_, at) => first + at);
    });
    columns = base.sentences.map((sentence, place) => {
      const button = element("button", { type: "button", class: "column" },
        element("span", { class: "bar" }));
      button.addEventListener("click", () => toggle(inside[place]));
      return button;
    });
    const line = element("svg:svg", { class: "sum", "aria-hidden": "true", preserveAspectRatio: "none" });
    find(".columns").style.gridTemplateColumns = `repeat(${columns.length}, minmax(0.75rem, 9rem))`;
    find(".columns").replaceChildren(...columns, line);
    for (const buttons of [words, columns]) {
      buttons.forEach((button, place) => { button.tabIndex = place ? -1 : 0; });
    }
  }

  function press() {
    words.forEach((button, place) => button.setAttribute("aria-pressed", out.has(place)));
    columns.forEach((button, place) => {
      const all = inside[place];
      button.setAttribute("aria-pressed", all.length > 0 && all.every((at) => out.has(at)));
    });
  }

  // What each word of the text adds now: nothing where it is taken out.
  function evidence() {
    const left = base.words.flatMap((_, place) => (out.has(place) ? [] : [place]));
    const same = left.length === now.words.length; // words that were apart may have come together
    const each = base.words.map((word, place) => (out.has(place) ? 0 : word.evidence));
    if (same) left.forEach((place, at) => { each[place] = now.words[at].evidence; });
    return each;
  }

  function update() {
    added = evidence();
    press();
    const full = added.reduce((most, value) => Math.max(most, Math.abs(value)), FULL);
    words.forEach((button, place) => {
      const value = added[place];
      mark(button, value, full);
      button.setAttribute("aria-label", `${button.textContent}, ${signed(value)}`);
    });
    drawArc(inside.map((places) => places.reduce((sum, place) => sum + added[place], 0)));
    drawVerdict();
    caption();
    changed(now.prediction);
  }

  function drawArc(sentences) {
    let sum = now.bias;
    const sums = [sum, ...sentences.map((value) => (sum += value))];
    const full = Math.max(FULL, ...sentences.map(Math.abs), ...sums.map(Math.abs));
    columns.forEach((button, place) => {
      const value = sentences[place];
      mark(button, value, full);
      const bar = button.firstElementChild;
      bar.style.height = `${50 * Math.abs(value) / full}%`;
      button.setAttribute("aria-label", `Sentence ${place + 1}, ${signed(value)}: ${base.sentences[place].text}`);
    });
    const line = find(".sum");
    line.setAttribute("viewBox", `0 ${-full} ${Math.max(1, columns.length)} ${2 * full}`);
    line.toggleAttribute("hidden", columns.length < 2); // one step is no story
    const path = sums.map((value, place) => `${place ? "L" : "M"}${place} ${-value}`).join("");
    line.replaceChildren(element("svg:path", { d: path }));
  }

  function drawVerdict() {
    const { prediction } = now;
    const said = verdict(prediction);
    root.dataset.label = prediction.label;
    find(".verdict-label").textContent = said.label;
    find(".verdict-chance").textContent = said.chance;
    find(".dot").style.left = `${100 * prediction.probability}%`;
    find(".ghost").style.left = `${100 * base.prediction.probability}%`;
    find(".ghost").hidden = find(".change").hidden = !out.size;
    find(".change-said").textContent = out.size ? changeSaid() : "";
    find(".notes").textContent = notes(base.prediction);
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      find(".said").textContent = `${said.label}, ${said.chance}. ${find(".change-said").textContent}`;
    }, SPOKEN);
  }

  function changeSaid() {
    const taken = [...out].sort((a, b) => a - b).map((place) => words[place].textContent);
    const what = taken.length > 3 ? count(taken.length, "word") : taken.map((word) => `“${word}”`).join(", ");
    const [before, after] = [base, now].map(({ prediction }) => percent(prediction.probability));
    return `Without ${what}: ${after} positive instead of ${before}.`;
  }

  function caption(text) {
    const way = `from ${signed(now.bias)}, where the model starts, to ${signed(now.logit)}, its answer.`;
    find(".caption").textContent = text ?? (columns.length < 2
      ? `In log-odds the sum goes ${way}` : `Bars: what each sentence adds, in log-odds; click one to take it out. Line: the sum so far, ${way}`);
  }

  function showWord(place) {
    root.querySelector(".tip")?.remove();
    if (place === null) return;
    const value = added[place];
    const side = value < 0 ? "negative" : "positive";
    const said = out.has(place) ? "taken out; click to put it back" : `${signed(value)} towards ${side}`;
    const tip = element("span", { class: "tip", "aria-hidden": "true" }, said);
    const part = find(".evidence");
    part.append(tip);
    const inner = part.getBoundingClientRect();
    const at = words[place].getClientRects()[0];
    const left = Math.min(at.left - inner.left, inner.width - tip.offsetWidth);
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${at.top - inner.top - tip.offsetHeight - 4}px`;
  }

  function showSentence(place) {
    const shown = new Set(place === null ? [] : inside[place]);
    words.forEach((button, at) => button.classList.toggle("inside", shown.has(at)));
    caption(place === null ? undefined : columns[place].getAttribute("aria-label"));
  }

  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") showWord(null);
  });
  root.classList.add("empty");

  return {
    write(text) {
      area.value = text;
      return read();
    },
    focus: () => area.focus(),
  };
}

function notes({ tokens, unknown, truncated }) {
  const said = [`${count(tokens, "word or mark", "words and marks")} read`];
  if (unknown > MANY) said.push(`${percent(unknown)} of them unknown to it, so its answer means little`);
  else if (unknown > 0) said.push(`${percent(unknown)} of them unknown to it`);
  if (truncated) said.push("the text is longer than it reads: the middle is left out");
  if (tokens < SHORT) said.push("so short a text is harder for it than a review");
  return `${said.join("; ")}.`;
}

function mark(button, value, full) {
  const strength = Math.min(1, Math.abs(value) / full);
  button.style.setProperty("--strength", strength.toFixed(3));
  button.classList.toggle("plus", value > 0);
  button.classList.toggle("minus", value < 0);
  button.classList.toggle("strong", strength >= 0.15);
}

// One stop of the Tab key for all buttons of a toolbar; arrows move among them. `show` is called
// with the place of the one that has the focus or is pointed at, or with null.
function rove(toolbar, show) {
  const buttons = () => [...toolbar.querySelectorAll("button")];
  const place = (event) => buttons().indexOf(event.target.closest("button"));
  toolbar.addEventListener("focusin", (event) => {
    buttons().forEach((button) => { button.tabIndex = button === event.target ? 0 : -1; });
    show(place(event));
  });
  toolbar.addEventListener("focusout", () => show(null));
  toolbar.addEventListener("mouseover", (event) => {
    const at = place(event);
    show(at < 0 ? null : at);
  });
  toolbar.addEventListener("mouseleave", () => show(null));
  toolbar.addEventListener("keydown", (event) => {
    const all = buttons();
    const at = place(event);
    const to = {
      ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1,
      Home: 0, End: all.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    all[Math.max(0, Math.min(all.length - 1, to))].focus();
  });
}

// The text with some of its words left out.
function without(text, words, out) {
  const points = Array.from(text);
  for (const place of out) points.fill("", words[place].start, words[place].end);
  return points.join("");
}
