// The REST API as its own description has it, without anything from elsewhere.

import { el } from "./dom.js";

const described = await (await fetch("/openapi.json")).json();
const schemas = described.components.schemas;

const resolve = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema);

function kind(schema) {
  if (!schema) return "anything";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.type === "array") return `[${kind(schema.items ?? schema.prefixItems?.[0])}]`;
  if (schema.type === "object" && schema.additionalProperties) return `{name: ${kind(schema.additionalProperties)}}`;
  if (schema.format === "binary") return "file";
  return schema.type ?? "anything";
}

function bounds(schema) {
  const said = [];
  const { minimum, maximum, minLength, maxLength, minItems, maxItems } = schema;
  if (minimum !== undefined || maximum !== undefined) said.push(`${minimum ?? "−∞"} … ${maximum ?? "∞"}`);
  if (maxLength !== undefined) said.push(`${minLength ?? 0} to ${maxLength} characters`);
  if (maxItems !== undefined) said.push(`${minItems ?? 0} to ${maxItems}`);
  if (schema.default !== undefined) said.push(`default ${JSON.stringify(schema.default)}`);
  return said.join("; ");
}

function fields(schema) {
  const found = resolve(schema);
  if (!found?.properties) return el("p", {}, el("code", {}, kind(schema)));
  const row = ([name, one]) =>
    el("tr", {}, el("th", { scope: "row" }, name, found.required?.includes(name) ? "" : el("small", {}, " optional")), el("td", {}, el("code", {}, kind(one))), el("td", {}, [bounds(one), one.description].filter(Boolean).join("; ")));
  return el("div", { className: "scroll" }, el("table", {}, el("tbody", {}, ...Object.entries(found.properties).map(row))), found.description ? el("p", { className: "hint" }, found.description) : "");
}

function route(path, method, one) {
  const [content, sent] = Object.entries(one.requestBody?.content ?? {})[0] ?? [];
  const answers = Object.entries(one.responses["200"].content ?? {});
  return el("article", { className: "route" }, el("h2", {}, el("span", { className: `method ${method}` }, method.toUpperCase()), el("code", {}, path)), el("p", {}, one.description ?? one.summary ?? ""),
    sent ? el("h3", {}, `Sent: ${content}`) : "", sent ? fields(sent.schema) : "", el("h3", {}, "Answer"),
    ...answers.map(([type, answer]) => (type.startsWith("image/") ? el("p", {}, el("code", {}, type)) : fields(answer.schema))));
}

document.getElementById("routes").append(
  el("p", { className: "lead" }, `${described.info.description} Where the studio has a token, requests bear it: `, el("code", {}, "Authorization: Bearer …"), "."),
  ...Object.entries(described.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, one]) => route(path, method, one))));
