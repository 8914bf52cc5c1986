// Shows /openapi.json. Everything goes in as text, never as HTML.

import { element } from "./show.js";

function resolved(whole, part) {
  let found = part;
  while (found && found.$ref) {
    found = found.$ref.slice(2).split("/").reduce((at, key) => at[key], whole);
  }
  return found;
}

// A schema with what it refers to written out, as far as `depth` goes.
function written(whole, schema, depth = 6) {
  const found = resolved(whole, schema);
  if (depth === 0 || typeof found !== "object" || found === null) return found;
  if (Array.isArray(found)) return found.map((item) => written(whole, item, depth));
  return Object.fromEntries(
    Object.entries(found).map(([key, value]) => [key, written(whole, value, depth - 1)]),
  );
}

function folded(title, value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return element("details", {}, element("summary", {}, title), element("pre", { tabindex: "0" }, text));
}

function jsonOf(part) {
  return part && part.content && part.content["application/json"];
}

function operation(whole, path, method, about) {
  const badge = element("span", { class: "method" }, method.toUpperCase());
  const made = element("section", { class: "part" }, element("h2", {}, badge, " ", element("code", {}, path)));
  made.append(element("p", {}, element("strong", {}, about.summary)));
  if (about.description) made.append(element("p", {}, about.description));
  const body = jsonOf(about.requestBody);
  if (body) {
    const sent = JSON.stringify(body.example).replaceAll("'", "'\\''");
    const address = location.origin + path.replace(/\{\w+\}/, "reelsense");
    made.append(element("pre", { tabindex: "0" }, `curl ${address} -H 'Content-Type: application/json' -d '${sent}'`));
    made.append(folded("Schema of the request", written(whole, body.schema)));
  }
  const rows = element("tbody");
  for (const [status, reference] of Object.entries(about.responses)) {
    const response = resolved(whole, reference);
    const cell = element("td", {}, response.description);
    const json = jsonOf(response);
    if (json && json.example) cell.append(folded("Example", json.example));
    if (json && status === "200") cell.append(folded("Schema", written(whole, json.schema)));
    rows.append(element("tr", {}, element("th", { scope: "row" }, status), cell));
  }
  made.append(element("div", { class: "table-place" }, element("table", {}, rows)));
  return made;
}

async function show() {
  const place = document.getElementById("document");
  try {
    const whole = await (await fetch("/openapi.json")).json();
    place.append(
      element("h1", {}, `${whole.info.title} ${whole.info.version}`),
      element("p", { class: "lead" }, whole.info.description),
      element("p", {}, "An answer that is no answer: ", element("code", {}, '{"error": {"code": "...", "message": "..."}}')),
    );
    for (const [path, methods] of Object.entries(whole.paths)) {
      for (const [method, about] of Object.entries(methods)) {
        if (about.responses) place.append(operation(whole, path, method, about));
      }
    }
  } catch (error) {
    place.append(element("p", { class: "wrong", role: "alert" }, `The document cannot be read (${error.message}); reload this page.`));
  }
  place.setAttribute("aria-busy", "false");
}

show();
