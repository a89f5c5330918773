// What openapi.json says, as a page: each route with its parameters, fields of its body and answers.

import { h } from "./dom.js";

const api = await (await fetch("openapi.json")).json();
const here = new URL(".", location.href).href.replace(/\/$/, "");

function named(schema) {
  if (schema.$ref) return api.components.schemas[schema.$ref.split("/").pop()];
  return schema.anyOf ? named(schema.anyOf[0]) : schema;
}

function said(schema) {
  const { type, title, enum: choices, minimum, maximum, description } = { ...named(schema), ...schema };
  const range = minimum === undefined ? "" : `${minimum} to ${maximum ?? "..."}`;
  return [type ?? title, choices?.join(", "), range, description].filter(Boolean).join("; ");
}

function table(title, rows) {
  return rows.length > 0 && h("table", {}, h("caption", {}, title),
    rows.map(([name, text]) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), h("td", {}, text))));
}

function route(path, method, operation) {
  const parameters = (operation.parameters ?? []).map((one) => [`${one.name} (${one.in})`, said(one.schema)]);
  const bodies = Object.entries(operation.requestBody?.content ?? {}).map(([kind, { schema }]) =>
    table(kind, Object.entries(named(schema).properties ?? {}).map(([name, field]) => [name, said(field)])));
  const answers = Object.entries(operation.responses).map(([status, one]) => [status, one.description]);
  return h("section", { class: "route" }, h("h2", {}, h("code", {}, `${method.toUpperCase()} ${path}`)),
    h("p", {}, operation.summary ?? ""), operation.description && h("p", {}, operation.description),
    table("Parameters", parameters), bodies, table("Answers", answers),
    (operation["x-codeSamples"] ?? []).map(({ source }) => h("pre", {}, source.replace(/http:\/\/127\.0\.0\.1:8000/g, here))));
}

document.getElementById("routes").append(...Object.entries(api.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => route(path, method, operation))));
