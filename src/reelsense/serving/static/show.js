// Elements and figures, as every part of the page writes them. Text goes in as text, never as HTML.

export function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

// A probability in words: never 0 or 100%, which no model can promise.
export function percent(share) {
  if (share > 0.999) return "over 99.9%";
  if (share < 0.001) return "under 0.1%";
  const digits = share > 0.99 || share < 0.01 ? 1 : 0;
  return `${(100 * share).toFixed(digits)}%`;
}

export function share(value, digits = 1) {
  return `${(100 * value).toFixed(digits)}%`;
}

// Evidence with its sign; a true minus, which screen readers read and which is as wide as a plus.
export function signed(value) {
  const shown = Math.abs(value).toFixed(2);
  return `${Number(shown) === 0 ? "±" : value < 0 ? "−" : "+"}${shown}`;
}

export function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}
