// Requests to the server, and the key that it may ask for.

const KEY = "dragoman.key";

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export const hasKey = () => Boolean(sessionStorage.getItem(KEY));

function headers(more) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function failure(response) {
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // what it says is no JSON
  }
  const wait = response.headers.get("Retry-After");
  return new Failure(response.status, wait ? `${message} (try again in ${wait} s)` : message);
}

export async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers ?? {}) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The server can't be reached.");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

export async function get(path) {
  return (await call(path)).json();
}

export function send(method, path, body, signal) {
  const json = { "Content-Type": "application/json" };
  return call(path, { method, headers: json, body: JSON.stringify(body), signal });
}

export const post = (path, body, signal) => send("POST", path, body, signal);

// Hands in a form; told: a function that is told the share that has been sent; signal: stops it.
export function upload(path, form, told, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers({}))) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => told(event.loaded / event.total));
    request.addEventListener("error", () => reject(new Failure(0, "The server can't be reached.")));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    request.addEventListener("load", async () => {
      const wait = request.getResponseHeader("Retry-After");
      const made = new Response(request.response, { status: request.status, headers: wait ? { "Retry-After": wait } : {} });
      if (made.ok) resolve(await made.json());
      else reject(await failure(made));
    });
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

// The events of a stream, as [name, data].
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const name = lines.find((line) => line.startsWith("event: ")).slice(7);
      const data = lines.find((line) => line.startsWith("data: ")).slice(6);
      yield [name, JSON.parse(data)];
    }
  }
}
