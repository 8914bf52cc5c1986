// The page: which view is shown, and what its parts have to do with each other.

import { mountFile } from "./file.js";
import { mountModel } from "./model.js";
import { mountReader } from "./review.js";
import { capital, element } from "./show.js";

const EXAMPLES = [
  {
    name: "mixed",
    text: "The plot is as thin as a ticket stub, and I saw the ending coming from the first reel. "
      + "The middle hour drags, and the villain is a bore. And yet I could not look away. The two leads "
      + "are wonderful together, the music lifts every scene, and the last ten minutes are the most "
      + "moving that I have seen this year.",
  },
  {
    name: "rave",
    text: "I laughed, I cried, and I went back the next evening with my parents. A small, perfect film "
      + "about a town that the railway forgot, told with warmth and without a false note. The cast is "
      + "superb. See it on a big screen if you can.",
  },
  {
    name: "pan",
    text: "Two hours of people shouting in corridors. The script explains everything twice, the effects "
      + "look unfinished, and nobody on the screen seems to want to be there. I wanted to like it. "
      + "It is dull, and it is far too long.",
  },
  {
    name: "irony",
    text: "Oh great, another two hours of my life that I will never get back.",
  },
  {
    name: "change of mind",
    text: "I expected to hate it. My sister dragged me along, the poster is awful and the first scene is "
      + "worse. I was wrong about all of it.",
  },
];

const views = [...document.querySelectorAll(".view")];
const view = (name) => views.find(({ dataset }) => dataset.view === name);

const reader = mountReader(view("review").querySelector(".reader-place"), "Your review");
for (const { name, text } of EXAMPLES) {
  const button = element("button", { type: "button", class: "quiet" }, capital(name));
  button.addEventListener("click", () => reader.write(text));
  view("review").querySelector(".examples").append(button);
}

const sides = { left: null, right: null }; // the two predictions
const [left, right] = view("two").querySelectorAll(".reader-place");
const readers = [
  mountReader(left, "First text", (prediction) => compare({ left: prediction })),
  mountReader(right, "Second text", (prediction) => compare({ right: prediction })),
];

function compare(changed) {
  Object.assign(sides, changed);
  const said = view("two").querySelector(".difference");
  if (!sides.left || !sides.right) {
    said.textContent = "";
    return;
  }
  const points = Math.round(100 * (sides.right.probability - sides.left.probability));
  const labels = sides.left.label === sides.right.label ? "the label stays" : "the label changes";
  said.textContent = points === 0
    ? `Both are equally positive; ${labels}.`
    : `The second is ${Math.abs(points)} points ${points > 0 ? "more" : "less"} positive; ${labels}.`;
}

mountFile(view("file"), EXAMPLES, (text) => {
  delete first.review;
  location.hash = "review";
  reader.write(text);
});

const first = {
  review: () => reader.write(EXAMPLES[0].text),
  two: () => {
    readers[0].write("The film is slow, but I was never bored.");
    readers[1].write("The film is slow, and I was often bored.");
  },
  model: () => mountModel(view("model").querySelector(".model-place")),
};

// Shows the view that the address names. One is filled when it is first looked at.
function show(moved) {
  const name = location.hash.slice(1);
  const shown = view(name) ?? (moved && name ? null : view("review"));
  if (!shown) return; // the link to skip to the content
  for (const one of views) one.hidden = one !== shown;
  const { view: mine, title } = shown.dataset;
  document.title = `${title} · Reelsense`;
  for (const link of document.querySelectorAll("nav a")) {
    link.hash === `#${mine}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  if (moved) {
    scrollTo(0, 0);
    shown.querySelector("h1").focus({ preventScroll: true });
  }
  first[mine]?.();
  delete first[mine];
}

addEventListener("hashchange", () => show(true));
show(false);
