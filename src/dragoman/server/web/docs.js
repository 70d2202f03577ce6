// The OpenAPI document for people.

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function kind(schema) {
  if (schema.anyOf) return schema.anyOf.map(kind).filter((name) => name !== "null").join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${kind(schema.items ?? {})}`;
  return schema.format === "binary" ? "file" : (schema.type ?? "");
}

function fields(body) {
  const [content] = Object.entries(body.content);
  const [, { schema }] = content;
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => {
    const needed = (schema.required ?? []).includes(name) ? " (needed)" : "";
    return element("tr", "", element("td", "", element("code", name)), element("td", kind(field) + needed),
      element("td", field.description ?? ""));
  });
  const head = ["field", "type", ""].map((title) => Object.assign(element("th", title), { scope: "col" }));
  const kinds = element("p", Object.keys(body.content).join(" or "));
  kinds.className = "faint";
  return [kinds, element("table", "", element("thead", "", element("tr", "", ...head)), element("tbody", "", ...rows))];
}

const found = await (await fetch("openapi.json")).json();
const groups = new Map();
for (const [path, methods] of Object.entries(found.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const tag = operation.tags?.[0] ?? "more";
    const parts = [element("h3", `${method.toUpperCase()} ${path}`), element("p", operation.description ?? "")];
    if (operation.requestBody) parts.push(...fields(operation.requestBody));
    groups.set(tag, [...(groups.get(tag) ?? []), ...parts]);
  }
}
document.getElementById("operations").replaceChildren(
  ...[...groups].map(([tag, parts]) => element("section", "", element("h2", tag), ...parts)),
);
