// The page: a text is translated as it is typed.

import { Failure, events, get, hasKey, post, useKey } from "./api.js";
import { listFiles, listFormats, watchFiles } from "./files.js";
import { glossary, listGlossaries, offerGlossaries, watchGlossaries } from "./glossary.js";
import * as history from "./history.js";

const at = (id) => document.getElementById(id);
const source = at("source");
const target = at("target");
const from = at("source-language");
const to = at("target-language");

const PATIENCE = 250; // milliseconds after the last key
const CHOICES = "dragoman.choices";

let languages = new Map();
let models = [];
let most = 0;
let running = null;
let timer = 0;
let detected = null;

// ---- the server's languages and models ----

async function begin() {
  try {
    const [spoken, served, settings] = await Promise.all([
      get("v1/languages"),
      get("v1/models"),
      get("frontend/settings"),
    ]);
    languages = new Map(spoken.languages.map((language) => [language.code, language]));
    models = served.data;
    most = settings.charLimit;
  } catch (error) {
    fail(error);
    return;
  }
  at("key-form").hidden = true;
  offer();
  count();
  listFormats().catch(fail);
  listFiles().catch(fail);
  await listGlossaries(languages, pair()).catch(fail);
  translate();
}

function offer() {
  const sorted = [...languages.values()].sort((a, b) => a.name.localeCompare(b.name));
  const options = sorted.map((language) => {
    const own = language.own_name.toLowerCase() === language.name.toLowerCase() ? "" : ` – ${language.own_name}`;
    return new Option(language.name + own, language.code);
  });
  from.replaceChildren(new Option("Detect the language", ""), ...options);
  to.replaceChildren(...options.map((option) => option.cloneNode(true)));
  at("model").replaceChildren(
    new Option("chosen by languages", ""),
    ...models.map((each) => new Option(each.id, each.id)),
  );
  at("model-label").hidden = models.length < 2;
  const known = JSON.parse(localStorage.getItem(CHOICES) ?? "{}");
  choose(from, known.from ?? "");
  choose(to, known.to ?? likely());
  choose(at("model"), known.model ?? "");
  tellLicence();
}

function choose(select, value) {
  if ([...select.options].some((option) => option.value === value)) select.value = value;
}

// What the browser's reader speaks, unless that is English, which most texts are in.
function likely() {
  const found = [...languages.values()];
  for (const wanted of navigator.languages) {
    const language = found.find((each) => each.short === wanted.split("-")[0]);
    if (language && language.short !== "en") return language.code;
  }
  return (found.find((each) => each.short !== "en") ?? found[0]).code;
}

const model = () => at("model").value;
const pair = () => ({ source: from.value || detected || "", target: to.value });

function tellLicence() {
  const shown = models.filter((each) => !model() || each.id === model());
  at("licence").textContent = shown
    .map((each) => `${each.id}: ${each.licence || "licence unknown"}${each.non_commercial ? " – not for commercial use" : ""}`)
    .join("; ");
}

// ---- translating ----

function later() {
  clearTimeout(timer);
  timer = setTimeout(translate, PATIENCE);
}

async function translate() {
  clearTimeout(timer);
  running?.abort();
  const text = source.value;
  remember();
  if (!text.trim() || text.length > most) {
    show("");
    detect(null);
    fail(text.length > most ? new Failure(413, `The text has more than ${most} characters; hand it in as a file.`) : null);
    return;
  }
  const mine = (running = new AbortController());
  target.classList.add("old");
  busy(true);
  try {
    await read(text, mine.signal);
    fail(null);
  } catch (error) {
    if (error.name === "AbortError") return;
    show("");
    fail(error);
  } finally {
    if (running === mine) busy(false);
  }
}

async function read(text, signal) {
  const body = { text, target: to.value, stream: true };
  if (from.value) body.source = from.value;
  if (model()) body.model = model();
  if (glossary()) body.glossary = glossary();
  let shown = "";
  for await (const [name, data] of events(await post("v1/translate", body, signal))) {
    if (signal.aborted) return;
    if (name === "piece") show((shown += data.text));
    else if (name === "error") throw new Failure(500, data.message);
    else if (name === "translation") {
      show(data.text, data);
      detect(data.detected && data);
      const memory = data.origin === "memory" ? " from the translation memory" : "";
      at("said").textContent = `Translated to ${languages.get(data.target).name}${memory}.`;
      at("origin").textContent = memory.trim();
      history.add({ text, made: data.text, source: data.source, target: data.target });
      listHistory();
      if (data.text.trim()) others(body, signal);
    }
  }
}

async function others(body, signal) {
  if (body.text.length > 300) return;
  try {
    const response = await post("v1/translate", { ...body, stream: false, n_best: 4 }, signal);
    const [made] = (await response.json()).translations;
    const found = [...new Set(made.alternatives)].filter((each) => each !== target.textContent);
    at("alternatives").querySelector("ul").replaceChildren(
      ...found.map((each) => {
        const item = document.createElement("li");
        item.textContent = each;
        item.lang = target.lang;
        item.dir = target.dir;
        return item;
      }),
    );
    at("alternatives").hidden = !found.length;
  } catch {
    // one translation is enough
  }
}

function show(text, made = null) {
  const language = languages.get(to.value);
  target.textContent = text;
  target.classList.remove("old");
  target.lang = language ? language.short.replace("_", "-") : "";
  target.dir = language?.right_to_left ? "rtl" : "ltr";
  at("copy").hidden = !text;
  at("origin").textContent = "";
  at("alternatives").hidden = true;
  const warnings = made?.warnings ?? [];
  at("warnings").hidden = !warnings.length;
  at("warnings").replaceChildren(
    ...warnings.map((warning) => {
      const item = document.createElement("li");
      item.textContent = warning.message;
      return item;
    }),
  );
}

function detect(made) {
  detected = made ? made.source : null;
  const language = languages.get(detected);
  from.options[0].textContent = language ? `Detected: ${language.name}` : "Detect the language";
  offerGlossaries(pair());
}

function busy(yes) {
  at("state").textContent = yes ? "translating …" : "";
  target.setAttribute("aria-busy", String(yes));
}

function count() {
  const length = source.value.length;
  at("count").textContent = `${length.toLocaleString("en")} / ${most.toLocaleString("en")}`;
  at("clear").hidden = !length;
}

function fail(error, before = "") {
  const asks = error?.status === 401 && !hasKey(); // which the form says by itself
  at("error").hidden = !error || asks;
  at("error").textContent = error && !asks ? before + error.message : "";
  if (error?.status === 401) {
    at("key-form").hidden = false;
    at("key").focus();
  }
}

function remember() {
  localStorage.setItem(CHOICES, JSON.stringify({ from: from.value, to: to.value, model: model() }));
}

// ---- history ----

function listHistory() {
  at("remember").checked = history.isWanted();
  at("history").replaceChildren(
    ...history.entries().map((entry) => {
      const button = document.createElement("button");
      button.type = "button";
      for (const text of [entry.text, entry.made]) {
        const line = document.createElement("span");
        line.dir = "auto";
        line.textContent = text.slice(0, 120);
        button.append(line);
      }
      button.addEventListener("click", () => {
        source.value = entry.text;
        choose(to, entry.target);
        count();
        translate();
        source.focus();
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

// ---- what people do ----

source.addEventListener("input", () => {
  count();
  later();
});
for (const select of [from, to, at("model")]) {
  select.addEventListener("change", () => {
    if (select === from) detect(null);
    offerGlossaries(pair());
    tellLicence();
    translate();
  });
}
at("swap").addEventListener("click", swap);
document.addEventListener("keydown", (event) => {
  if (event.altKey && event.key.toLowerCase() === "s") {
    event.preventDefault();
    swap();
  }
});
function swap() {
  const spoken = from.value || detected;
  const made = target.textContent;
  choose(from, to.value);
  if (spoken && spoken !== to.value) choose(to, spoken);
  else choose(to, [...languages.keys()].find((code) => code !== from.value));
  if (made) source.value = made;
  detect(null);
  count();
  translate();
}
at("clear").addEventListener("click", () => {
  source.value = "";
  count();
  translate();
  source.focus();
});
at("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(target.textContent);
  } catch {
    getSelection().selectAllChildren(target); // where the page is not trusted with the clipboard
    document.execCommand("copy");
  }
  at("said").textContent = "Copied.";
  at("copy").textContent = "Copied";
  setTimeout(() => (at("copy").textContent = "Copy"), 1500);
});
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value.trim());
  fail(null);
  begin();
});
at("forget").addEventListener("click", () => {
  history.forget();
  listHistory();
});
at("remember").addEventListener("change", (event) => {
  history.want(event.target.checked);
  listHistory();
});

// ---- colours ----

const THEMES = [["", "as the system has them"], ["light", "light"], ["dark", "dark"]];
function paint(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  at("theme").setAttribute("aria-label", `Colours: ${THEMES.find(([name]) => name === theme)[1]}`);
}
at("theme").addEventListener("click", () => {
  const place = THEMES.findIndex(([name]) => name === (localStorage.getItem("dragoman.theme") ?? ""));
  const [next] = THEMES[(place + 1) % THEMES.length];
  localStorage.setItem("dragoman.theme", next);
  paint(next);
});
paint(localStorage.getItem("dragoman.theme") ?? "");

watchFiles(() => ({ source: from.value, target: to.value, model: model(), glossary: glossary() }), fail);
watchGlossaries(pair, (error) => (error ? fail(error) : translate()));
listHistory();
begin();
