// Asking the server: one function, which waits where the server is busy and says what went wrong.

export class Refusal extends Error {}

let token = sessionStorage.getItem("token") ?? "";

function pause(seconds, signal) {
  return new Promise((go, stop) => {
    const timer = setTimeout(go, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      stop(signal.reason);
    });
  });
}

let asking = null; // one dialog for all requests that wait for a token

function askForToken() {
  asking ??= new Promise((go) => {
    const dialog = document.getElementById("token");
    const field = dialog.querySelector("input");
    field.value = "";
    dialog.addEventListener("close", () => {
      asking = null;
      token = field.value.trim();
      sessionStorage.setItem("token", token);
      go();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function send(path, content, signal) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = { headers, signal, cache: "no-store" };
  if (content !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(content);
    headers["Content-Type"] = "application/json";
  }
  try {
    return await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal("The server does not answer. Is it still running?");
  }
}

// Returns the JSON of an answer. Raises Refusal, with words for people, or what `signal` aborts with.
export async function ask(path, content, signal) {
  for (;;) {
    const response = await send(path, content, signal);
    if (response.ok) return response.json();
    const { error } = await response.json().catch(() => ({}));
    const again = response.headers.get("Retry-After");
    if (response.status === 401) {
      await askForToken();
    } else if (again && error?.code !== "timeout") {
      await pause(Number(again), signal);
    } else {
      throw new Refusal(sentence(error?.message ?? `status ${response.status}`));
    }
  }
}

function sentence(message) {
  return `${message[0].toUpperCase()}${message.slice(1)}.`;
}

let card = null;

// Returns what the model is, asked for once.
export function model() {
  card ??= ask("/v1/model").catch((error) => {
    card = null;
    throw error;
  });
  return card;
}
