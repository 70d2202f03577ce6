// What was translated, in this browser and nowhere else.

const ENTRIES = "dragoman.history";
const WANTED = "dragoman.remember";
const MOST = 50;

export function isWanted() {
  return localStorage.getItem(WANTED) !== "no";
}

export function want(yes) {
  localStorage.setItem(WANTED, yes ? "yes" : "no");
  if (!yes) forget();
}

export function entries() {
  try {
    const found = JSON.parse(localStorage.getItem(ENTRIES) ?? "[]");
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}

// A text that continues the one before takes its place.
export function add(entry) {
  if (!isWanted()) return;
  const others = entries().filter(
    (each) => !(each.target === entry.target && entry.text.startsWith(each.text)),
  );
  try {
    localStorage.setItem(ENTRIES, JSON.stringify([entry, ...others].slice(0, MOST)));
  } catch {
    // the browser has no room for it
  }
}

export function forget() {
  localStorage.removeItem(ENTRIES);
}
