// Files that are dropped or chosen: handed in, watched, fetched.

import { call, get } from "./api.js";

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

async function handIn(file, { source, target, model }, fail) {
  const form = new FormData();
  form.append("file", file);
  form.append("target", target);
  if (source) form.append("source", source);
  if (model) form.append("model", model);
  try {
    const response = await call("v1/documents", { method: "POST", body: form });
    show(await response.json());
  } catch (error) {
    fail(error, `${file.name}: `);
  }
}

function show(found) {
  const bar = element("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", `Progress of ${found.name}`);
  const state = element("span", { className: "faint" });
  state.setAttribute("role", "status");
  const remove = element("button", { type: "button", className: "quiet", textContent: "Cancel" });
  remove.setAttribute("aria-label", `Cancel ${found.name}`);
  const actions = element("span", { className: "actions" }, remove);
  const name = element("span", { className: "name" }, `${found.name} `, state);
  const item = element("li", {}, name, actions, bar);
  list.prepend(item);
  remove.addEventListener("click", async () => {
    item.remove();
    await call(`v1/documents/${found.id}`, { method: "DELETE" }).catch(() => {});
  });
  follow(found.id, { item, bar, state, actions, remove });
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
    if (found.status === "error") {
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
  state.textContent = `done: ${found.segments} segments${flagged}`;
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
