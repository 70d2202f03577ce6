// Glossaries that the server keeps: chosen, written, changed, forgotten.

import { call, get, send } from "./api.js";

const at = (id) => document.getElementById(id);
const picker = at("glossary");
const form = at("glossary-form");
const CHOSEN = "dragoman.glossary";

let known = [];
let edited = null; // the one in the form; null for a new one
let languages = new Map();

export const glossary = () => picker.value;

// spoken: the server's languages; pair: source (empty if it is not known) and target.
export async function listGlossaries(spoken, pair) {
  languages = spoken;
  known = (await get("v1/glossaries")).glossaries;
  offerGlossaries(pair);
}

export function offerGlossaries({ source, target }) {
  const wanted = picker.value || localStorage.getItem(CHOSEN) || "";
  const fitting = known.filter((each) => each.target === target && (!source || each.source === source));
  const name = (code) => languages.get(code)?.name ?? code;
  picker.replaceChildren(
    new Option("No glossary", ""),
    ...fitting.map((each) => new Option(`${each.name} (${name(each.source)} to ${name(each.target)})`, each.id)),
  );
  picker.value = fitting.some((each) => each.id === wanted) ? wanted : "";
  at("glossary-edit").hidden = !picker.value;
}

// One term a line, with a tab or an equals sign before its translation; a term alone stays as it is.
function read(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  return Object.fromEntries(
    lines.map((line) => {
      const [term, ...rest] = line.split(/\t|\s=\s/);
      return [term.trim(), rest.join(" = ").trim() || term.trim()];
    }),
  );
}

function tell(error) {
  at("glossary-error").hidden = !error;
  at("glossary-error").textContent = error ? error.message : "";
}

function open(found, { source, target }) {
  edited = found;
  const options = [...languages.values()].map((language) => new Option(language.name, language.code));
  for (const [select, code] of [[at("glossary-source"), found?.source ?? source], [at("glossary-target"), found?.target ?? target]]) {
    select.replaceChildren(...options.map((option) => option.cloneNode(true)));
    if (code) select.value = code;
    select.disabled = Boolean(found);
  }
  at("glossary-name").value = found?.name ?? "";
  at("glossary-entries").value = Object.entries(found?.entries ?? {})
    .map(([term, made]) => `${term} = ${made}`)
    .join("\n");
  at("glossary-delete").hidden = !found;
  tell(null);
  form.hidden = false;
  at("glossary-name").focus();
}

function close() {
  form.hidden = true;
  at(edited ? "glossary-edit" : "glossary-new").focus();
}

// pair: a function that says the languages; changed: called when translations may come out otherwise.
export function watchGlossaries(pair, changed) {
  picker.addEventListener("change", () => {
    localStorage.setItem(CHOSEN, picker.value);
    at("glossary-edit").hidden = !picker.value;
    changed();
  });
  at("glossary-new").addEventListener("click", () => open(null, pair()));
  at("glossary-edit").addEventListener("click", async () => {
    try {
      open(await get(`v1/glossaries/${picker.value}`), pair());
    } catch (error) {
      await listGlossaries(languages, pair()).catch(() => {});
      changed(error);
    }
  });
  at("glossary-cancel").addEventListener("click", close);
  at("glossary-delete").addEventListener("click", () => save("DELETE", pair, changed));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save(edited ? "PUT" : "POST", pair, changed);
  });
}

async function save(method, pair, changed) {
  try {
    const body = { name: at("glossary-name").value.trim(), entries: read(at("glossary-entries").value) };
    if (method === "DELETE") await call(`v1/glossaries/${edited.id}`, { method });
    else if (method === "PUT") await send(method, `v1/glossaries/${edited.id}`, body);
    else {
      const both = { source: at("glossary-source").value, target: at("glossary-target").value };
      const made = await (await send(method, "v1/glossaries", { ...body, ...both })).json();
      localStorage.setItem(CHOSEN, made.id);
    }
    picker.value = "";
    if (method === "DELETE") localStorage.removeItem(CHOSEN);
    else if (edited) localStorage.setItem(CHOSEN, edited.id);
    await listGlossaries(languages, pair());
  } catch (error) {
    tell(error);
    return;
  }
  close();
  changed();
}
