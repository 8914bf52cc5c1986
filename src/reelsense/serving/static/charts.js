// Pictures out of figures, as SVG: no library, and none of their figures is only a picture.

import { element } from "./show.js";

const WIDE = 560;
const HIGH = 300;
const LEFT = 74;
const RIGHT = 16;
const TOP = 14;
const BOTTOM = 44;

// Returns a figure with lines or points over two axes, and its figures as a table to unfold.
//
// axes: {x, y}, each {name, from, to, ticks, show}. series: [{name, style, points: [[x, y]]}], where
// style is a class of page.css. said: what the picture shows, in a sentence.
export function chart(said, axes, series) {
  const { x, y } = axes;
  const across = (value) => LEFT + (WIDE - LEFT - RIGHT) * (value - x.from) / (x.to - x.from);
  const up = (value) => HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * (value - y.from) / (y.to - y.from);
  const drawn = element("svg:svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": said, class: "chart" });
  for (const value of y.ticks) {
    drawn.append(
      element("svg:line", { class: "grid", x1: LEFT, x2: WIDE - RIGHT, y1: up(value), y2: up(value) }),
      element("svg:text", { class: "tick", x: LEFT - 8, y: up(value) + 4, "text-anchor": "end" }, y.show(value)),
    );
  }
  for (const value of x.ticks) {
    drawn.append(element("svg:text", { class: "tick", x: across(value), y: HIGH - BOTTOM + 20, "text-anchor": "middle" }, x.show(value)));
  }
  drawn.append(
    element("svg:text", { class: "axis", x: (LEFT + WIDE - RIGHT) / 2, y: HIGH - 4, "text-anchor": "middle" }, x.name),
  );
  for (const { style, points } of series) {
    const path = points.map(([a, b], place) => `${place ? "L" : "M"}${across(a).toFixed(1)} ${up(b).toFixed(1)}`);
    drawn.append(element("svg:path", { class: `line ${style}`, d: path.join("") }));
    if (points.length <= 20) {
      for (const [a, b] of points) {
        drawn.append(element("svg:circle", { class: `point ${style}`, cx: across(a), cy: up(b), r: 3.5 }));
      }
    }
  }
  return element("figure", { class: "plot" },
    element("figcaption", {}, y.name), drawn, keys(series), figures(axes, series));
}

function keys(series) {
  return element("p", { class: "keys" }, ...series.map(({ name, style }) =>
    element("span", {},
      element("svg:svg", { class: "key", viewBox: "0 0 28 8", "aria-hidden": "true" },
        element("svg:path", { class: `line ${style}`, d: "M0 4L28 4" })),
      name)));
}

function figures({ x, y }, series) {
  const rows = series.flatMap(({ name, points }) => points.map(([a, b]) =>
    element("tr", {}, element("td", {}, name), element("td", {}, x.show(a)), element("td", {}, y.show(b)))));
  const head = ["", x.name, y.name].map((name) => element("th", { scope: "col" }, name || "Line"));
  return element("details", {},
    element("summary", {}, "The figures"),
    element("div", { class: "table-place", tabindex: "0", role: "region", "aria-label": `The figures: ${y.name}` },
      element("table", {},
        element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))));
}

// Returns bars of how many probabilities lie where. zones: from which probability on a bar is
// uncertain, and from which positive.
export function histogram(said, counts, [uncertain, positive]) {
  const most = Math.max(1, ...counts);
  const wide = (WIDE - 2 * RIGHT) / counts.length;
  const high = 120;
  const drawn = element("svg:svg", { viewBox: `0 0 ${WIDE} ${high + 26}`, role: "img", "aria-label": said, class: "chart" });
  counts.forEach((number, place) => {
    const middle = (place + 0.5) / counts.length;
    const zone = middle < uncertain ? "minus" : middle < positive ? "between" : "plus";
    const tall = number ? Math.max(2, high * number / most) : 0;
    drawn.append(element("svg:rect", {
      class: `bin ${zone}`, x: RIGHT + place * wide + 1, y: high - tall, width: wide - 2, height: tall,
    }));
  });
  drawn.append(element("svg:line", { class: "grid", x1: RIGHT, x2: WIDE - RIGHT, y1: high, y2: high }));
  for (const [value, anchor, name] of [[0, "start", "0% positive"], [0.5, "middle", "50%"], [1, "end", "100%"]]) {
    drawn.append(element("svg:text", {
      class: "tick", x: RIGHT + value * (WIDE - 2 * RIGHT), y: high + 20, "text-anchor": anchor,
    }, name));
  }
  return drawn;
}
