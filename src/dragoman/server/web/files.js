// Files that are dropped or chosen: handed in, watched, fetched.

import { call, get, upload } from "./api.js";

const list = document.getElementById("files");
const drop = document.getElementById("drop");
const input = document.getElementById("file");

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, attributes);
  made.append(...children);
  return made;
}

// What files may be, once the server says it.
export async function listFormats() {
  const { formats } = await get("v1/documents/formats");
  input.accept = formats.flatMap((format) => format.extensions).join(",");
  document.getElementById("formats").textContent = formats.map((format) => format.extensions[0]).join(" ");
}

// wanted: a function that says the languages and the model; fail: what to do with an error.
export function watchFiles(wanted, fail) {
  input.addEventListener("change", () => {
    [...input.files].forEach((file) => handIn(file, wanted(), fail));
    input.value = "";
  });
  let depth = 0;
  document.addEventListener("dragenter", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    depth += 1;
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) drop.classList.remove("over");
  });
  document.addEventListener("dragover", (event) => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    depth = 0;
    drop.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    [...event.dataTransfer.files].forEach((file) => handIn(file, wanted(), fail));
  });
}

// Those of this tab go on in the list when it is loaded again.
const OWN = "dragoman.files";
const own = () => JSON.parse(sessionStorage.getItem(OWN) ?? "[]");
const followed = new Set();
const keep = (ids) => sessionStorage.setItem(OWN, JSON.stringify(ids));

export async function listFiles() {
  const { documents } = await get("v1/documents");
  const mine = own().filter((id) => !followed.has(id));
  documents.filter((each) => mine.includes(each.id)).reverse().forEach((each) => show(each.name).begin(each));
}

async function handIn(file, { source, target, model, glossary }, fail) {
  const form = new FormData();
  form.append("target", target);
  if (source) form.append("source", source);
  if (model) form.append("model", model);
  if (glossary) form.append("glossary", glossary);
  form.append("file", file);
  const shown = show(file.name);
  try {
    const found = await upload("v1/documents", form, shown.sent, shown.signal);
    keep([...own(), found.id]);
    shown.begin(found);
  } catch (error) {
    shown.drop();
    if (error.name !== "AbortError") fail(error, `${file.name}: `);
  }
}

// A file in the list, which is being sent; `begin` follows it once the server has it.
function show(title) {
  const bar = element("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", `Progress of ${title}`);
  const state = element("span", { className: "faint" });
  state.setAttribute("role", "status");
  const remove = element("button", { type: "button", className: "quiet", textContent: "Cancel" });
  remove.setAttribute("aria-label", `Cancel ${title}`);
  const actions = element("span", { className: "actions" }, remove);
  const name = element("span", { className: "name" }, element("bdi", {}, title), " ", state);
  const item = element("li", {}, name, actions, bar);
  list.prepend(item);
  const sending = new AbortController();
  let id = null;
  remove.addEventListener("click", async () => {
    item.remove();
    sending.abort();
    if (!id) return;
    keep(own().filter((each) => each !== id));
    await call(`v1/documents/${id}`, { method: "DELETE" }).catch(() => {});
  });
  return {
    signal: sending.signal,
    sent: (share) => (state.textContent = `sending ${Math.round(100 * share)} %`),
    drop: () => item.remove(),
    begin: (found) => {
      id = found.id;
      followed.add(id);
      follow(id, { item, bar, state, actions, remove });
    },
  };
}

async function follow(id, parts) {
  while (parts.item.isConnected) {
    let found;
    try {
      found = await get(`v1/documents/${id}`);
    } catch (error) {
      parts.state.textContent = error.message;
      return;
    }
    parts.bar.value = found.progress;
    if (found.status === "done") return finish(found, parts);
    if (found.status === "error" || found.status === "cancelled") {
      parts.state.textContent = found.error;
      parts.bar.remove();
      parts.remove.textContent = "Remove";
      parts.remove.setAttribute("aria-label", `Remove ${found.name}`);
      return;
    }
    const left = found.seconds_left ? `, about ${found.seconds_left} s left` : "";
    parts.state.textContent = found.status === "queued" ? "waits" : `${Math.round(100 * found.progress)} %${left}`;
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

// The name in a Content-Disposition, in either of its spellings.
function saved(disposition) {
  const encoded = /filename\*=utf-8''([^;]+)/i.exec(disposition);
  if (encoded) return decodeURIComponent(encoded[1]);
  return /filename="?([^";]+)/.exec(disposition)?.[1];
}

function finish(found, { bar, state, actions, remove }) {
  const flagged = found.flagged ? `, ${found.flagged} to look at` : "";
  const segments = found.segments === 1 ? "1 segment" : `${found.segments} segments`;
  state.textContent = `done: ${segments}${flagged}`;
  bar.remove();
  const save = element("button", { type: "button", textContent: "Save" });
  save.setAttribute("aria-label", `Save the translation of ${found.name}`);
  save.addEventListener("click", async () => {
    const response = await call(`v1/documents/${found.id}/result`);
    const name = saved(response.headers.get("Content-Disposition") ?? "") ?? found.name;
    const url = URL.createObjectURL(await response.blob());
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
  actions.prepend(save);
  remove.textContent = "Remove";
  remove.setAttribute("aria-label", `Remove ${found.name}`);
}
