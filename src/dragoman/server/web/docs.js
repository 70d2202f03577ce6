// The OpenAPI document for people.

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

const SHOWN = 8; // of the values that a field may have

function kind(schema) {
  if (schema.anyOf) return schema.anyOf.map(kind).filter((name) => name !== "null").join(" or ");
  if (schema.enum) {
    const rest = schema.enum.length - SHOWN;
    return schema.enum.slice(0, SHOWN).join(" | ") + (rest > 0 ? ` | … (${rest} more)` : "");
  }
  if (schema.type === "array") return `list of ${kind(schema.items ?? {})}`;
  return schema.format === "binary" ? "file" : (schema.type ?? "");
}

// A text with code between backticks.
function prose(tag, text) {
  const parts = text.split("`").map((part, place) => (place % 2 ? element("code", part) : part));
  return element(tag, "", ...parts);
}

function fields(body) {
  const [content] = Object.entries(body.content);
  const [, { schema }] = content;
  const rows = Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const needed = (schema.required ?? []).includes(name) ? "needed: " : "";
    const type = Object.assign(element("span", needed + kind(field)), { className: "faint" });
    return [element("dt", "", element("code", name)), element("dd", "", prose("span", field.description ?? ""), " ", type)];
  });
  const kinds = element("p", Object.keys(body.content).join(" or "));
  kinds.className = "faint";
  return [kinds, element("dl", "", ...rows)];
}

const found = await (await fetch("openapi.json")).json();
const groups = new Map();
for (const [path, methods] of Object.entries(found.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const tag = operation.tags?.[0] ?? "more";
    const parts = [element("h3", `${method.toUpperCase()} ${path}`), prose("p", operation.description ?? "")];
    if (operation.requestBody) parts.push(...fields(operation.requestBody));
    groups.set(tag, [...(groups.get(tag) ?? []), ...parts]);
  }
}
document.getElementById("operations").replaceChildren(
  ...[...groups].map(([tag, parts]) => element("section", "", element("h2", tag), ...parts)),
);
