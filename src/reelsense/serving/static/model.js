// What the model is, what it learned from, how good it is and what it gets wrong: from its card.

import { Refusal, ask, model } from "./api.js";
import { chart } from "./charts.js";
import { capital, count, element, percent, share } from "./show.js";

const TENTHS = [0, 0.2, 0.4, 0.6, 0.8, 1];

export async function mountModel(place) {
  try {
    const card = await model();
    const parts = [facts(card), worth(card), ...await curves(card), calibration(card), refusing(card),
      lengths(card), await mistakes(card)];
    place.replaceChildren(...parts.filter(Boolean));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    place.replaceChildren(element("p", { class: "wrong", role: "alert" }, error.message));
  }
  place.setAttribute("aria-busy", "false");
}

function part(title, ...children) {
  return element("section", { class: "part" }, element("h2", {}, title), ...children);
}

function interval([low, high]) {
  return `${share(low)} to ${share(high)}`;
}

function list(pairs) {
  return element("dl", { class: "facts" }, ...pairs.flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, value)]));
}

function facts(card) {
  const { recipe, trained_on: learned, variant } = card;
  const kind = recipe.arch === "bilstm"
    ? `A bidirectional LSTM, ${recipe.hidden} units a direction` : `A ${recipe.arch}, ${recipe.hidden} units`;
  const megabytes = `${(card.bytes / 1e6).toFixed(1)} MB`;
  const steps = [`${count(learned.reviews, "review")} with labels: ${learned.source}.`];
  if (learned.language_model) steps.push("Before that it read reviews without looking at a label, as a language model.");
  if (learned.texts_before) steps.push(`It goes on from a model that had learned ${count(learned.texts_before, "text")}.`);
  if (learned.teachers) {
    steps.push(`It also learned what ${learned.teachers === 1 ? "a larger network" : `${learned.teachers} larger networks`} `
      + "says of reviews without labels.");
  }
  return part("What it is",
    element("p", {}, `${kind}, over word vectors that began as ${recipe.embedding} (GloVe), with one sigmoid output. `
      + "It reads a review in both directions and adds up what it makes of each word."),
    list([
      ["Name", card.name], ["Words it knows", card.words.toLocaleString("en")],
      ["Longest text", count(card.longest, "word or mark", "words and marks")],
      ["Numbers", variant === "int8" ? "8-bit integers" : "32-bit floats"], ["Size", megabytes],
      ["Answers on", count(card.processes, "core")],
    ]),
    element("h3", {}, "What it was trained on"),
    element("ul", {}, ...steps.map((step) => element("li", {}, step))));
}

function worth({ figures, held_out: held, confidence }) {
  const { decided } = figures;
  const whose = held.own ? "" : " They are those of another run of the same recipe, which had not learned from these reviews.";
  const apart = held.films ? "No film is in both parts. " : "";
  const [[rightNegative, wrongNegative], [wrongPositive, rightPositive]] = figures.confusion;
  const cells = [["Negative", rightNegative, wrongNegative], ["Positive", wrongPositive, rightPositive]];
  return part("How good it is",
    element("p", {}, `Measured on ${count(figures.n, "review")} held out of the training. ${apart}`
      + `Intervals are of 95%.${whose}`),
    list([
      ["Right", `${share(figures.accuracy, 2)} (${interval(figures.accuracy_interval)})`],
      ["ROC AUC", figures.roc_auc.toFixed(4)],
      ["Gets a label", `${share(decided.coverage)}; the others are “uncertain”, under ${share(confidence)} either way`],
      ["Of these wrong", `${share(decided.error)} (${interval(decided.error_interval)})`],
    ]),
    element("div", { class: "table-place", tabindex: "0", role: "region", "aria-label": "Said against true" },
      element("table", { class: "confusion" },
        element("caption", {}, "What it said of reviews that are…"),
        element("thead", {}, element("tr", {}, element("td"),
          element("th", { scope: "col" }, "Said negative"), element("th", { scope: "col" }, "Said positive"))),
        element("tbody", {}, ...cells.map(([name, ...numbers]) => element("tr", {},
          element("th", { scope: "row" }, name),
          ...numbers.map((number) => element("td", { class: "figure" }, number.toLocaleString("en")))))))));
}

// The curves of the model's own training where its bundle has them; else those of `make train`.
async function curves(card) {
  let history = card.figures.curves;
  let said = "Accuracy and loss after each epoch. The test part is looked at only after the training.";
  if (!history) {
    const { about, epochs } = await ask("/curves.json");
    history = epochs;
    said = about;
  }
  const parts = [["train", "quiet"], ["validation", "accent dashed"], ["test", "accent"]];
  const draw = (what, name, y) => chart(`${name} by epoch: ${parts.map(([key]) =>
    history.at(-1)[key] && `${key} ${y.show(history.at(-1)[key][what])} at the end`).filter(Boolean).join(", ")}.`,
  {
    x: { name: "Epoch", from: 1, to: Math.max(2, history.length), ticks: history.map(({ epoch }) => epoch), show: String },
    y: { name, ...y },
  },
  parts.filter(([key]) => history[0][key]).map(([key, style]) =>
    ({ name: capital(key), style, points: history.map((record) => [record.epoch, record[key][what]]) })));
  const values = (what) => history.flatMap((record) => parts.flatMap(([key]) => (record[key] ? [record[key][what]] : [])));
  return [part("Training curves", element("p", {}, said), element("div", { class: "plots" },
    draw("accuracy", "Accuracy", axis(values("accuracy"), (value) => share(value))),
    draw("loss", "Loss", axis(values("loss"), (value) => value.toFixed(2)))))];
}

// An axis around values: five ticks at round places.
function axis(values, show) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const rough = Math.max(high - low, 1e-3) / 4;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((size) => size * ten >= rough);
  const from = Math.max(0, step * Math.floor(low / step));
  const ticks = [];
  for (let tick = from; tick < high + step; tick += step) ticks.push(Number(tick.toFixed(6)));
  return { from, to: ticks.at(-1), ticks, show };
}

function calibration({ figures }) {
  const points = (bins) => bins.filter(({ n }) => n > 0).map((bin) => [bin.mean_probability, bin.share_positive]);
  const show = (value) => share(value, 0);
  return part("When it says 80%, is it right 80 times of 100?",
    element("p", {}, `On ${count(figures.fitted_on, "held-out review")} its probabilities are off by ${share(figures.calibration_error, 2)} in the mean; `
      + `perfect ones would seem off by ${share(figures.calibration_noise, 2)}, by chance alone. Before they were fitted it was ${share(figures.before.calibration_error, 2)}.`),
    chart("Said probability against the share that is positive, before and after calibration; the closer to the diagonal, the better.",
      {
        x: { name: "Said probability of positive", from: 0, to: 1, ticks: TENTHS, show },
        y: { name: "Share that is positive", from: 0, to: 1, ticks: TENTHS, show },
      },
      [
        { name: "Perfect", style: "faint", points: [[0, 0], [1, 1]] },
        { name: "Before", style: "quiet dashed", points: points(figures.before.reliability) },
        { name: "After", style: "accent", points: points(figures.reliability) },
      ]));
}

function refusing({ figures }) {
  const { coverage, risk } = figures.risk_coverage;
  const show = (value) => share(value, 0);
  const highest = Math.max(...risk, 0.01);
  return part("What not answering buys",
    element("p", {}, "Leave the reviews that it is least sure of to a person: the fewer it answers, the fewer are wrong. "
      + `As it is set, it answers ${share(figures.decided.coverage)} and gets ${share(figures.decided.error)} of these wrong.`),
    chart("Share of mistakes against the share of reviews that get a label.",
      {
        x: { name: "Share that gets a label", from: 0, to: 1, ticks: TENTHS, show },
        y: { name: "Of these wrong", ...axis([0, highest], show) },
      },
      [
        { name: "Mistakes", style: "accent", points: coverage.map((value, place) => [value, risk[place]]) },
        { name: "As it is set", style: "mark", points: [[figures.decided.coverage, figures.decided.error]] },
      ]));
}

function lengths({ figures }) {
  const rows = figures.by_length.filter(({ n }) => n > 0).map(({ from, to, n, accuracy, accuracy_interval: range }) =>
    element("tr", {},
      element("th", { scope: "row" }, to ? `${from.toLocaleString("en")} to ${to.toLocaleString("en")}` : `${from.toLocaleString("en")} and more`),
      element("td", { class: "figure" }, n.toLocaleString("en")),
      element("td", { class: "figure" }, share(accuracy)),
      element("td", { class: "figure" }, range ? interval(range) : "")));
  return part("Short and long reviews",
    element("div", { class: "table-place", tabindex: "0", role: "region", "aria-label": "Accuracy by length" },
      element("table", {},
        element("thead", {}, element("tr", {}, ...["Words and marks", "Reviews", "Right", "95% interval"].map((name) =>
          element("th", { scope: "col" }, name)))),
        element("tbody", {}, ...rows))));
}

// Sentences that are hard for it, answered now.
async function mistakes({ hard }) {
  const { predictions } = await ask("/v1/predict", { texts: hard.map(({ text }) => text) });
  const rows = hard.map(({ text, kind, label }, place) => {
    const { label: says, probability } = predictions[place];
    const verdict = says === "uncertain" ? "undecided" : says === label ? "right" : "wrong";
    return element("tr", {},
      element("td", {}, text, element("span", { class: "kind" }, kind)),
      element("td", {}, label),
      element("td", {}, `${says}, ${percent(probability)} positive`),
      element("td", {}, element("span", { class: `tag ${verdict}` }, verdict)));
  });
  return part("What it gets wrong",
    element("p", {}, "It adds up words in their context and does not reason: irony, and praise that turns, go wrong often. "
      + "Products, tweets and other languages it has not seen. These sentences are hard; the answers are given now, by this model."),
    element("div", { class: "table-place", tabindex: "0", role: "region", "aria-label": "Hard sentences" },
      element("table", { class: "hard" },
        element("thead", {}, element("tr", {}, ...["Sentence", "Should be", "Says", ""].map((name) =>
          name ? element("th", { scope: "col" }, name) : element("td")))),
        element("tbody", {}, ...rows))));
}
