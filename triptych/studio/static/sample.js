// The tab Sample: new pictures by temperature, seed and condition; any of them goes on to Edit or Mix.

import * as api from "./api.js";
import { $, attempt, el, live, number } from "./dom.js";
import * as edit from "./edit.js";
import * as mix from "./mix.js";
import { state } from "./state.js";

let parts;
let page;

export function start(pages) {
  page = pages;
  const shown = el("output", { htmlFor: "temperature" }, "0.80");
  parts = {
    temperature: el("input", { type: "range", id: "temperature", min: 0, max: 1.5, step: 0.05, value: 0.8 }),
    seed: el("input", { type: "number", id: "seed", min: 0, max: 2 ** 31, step: 1, value: 0 }),
    count: el("select", { id: "count" }, ...[4, 9, 16, 36, 64].map((n) => el("option", { value: n, selected: n === 16 }, String(n)))),
    given: el("input", { type: "text", id: "given", placeholder: "glasses=yes, smile=1", maxLength: 500 }),
    grid: el("div", { className: "samples", role: "group" }),
  };
  parts.grid.setAttribute("aria-label", "Samples");
  parts.condition = el("div", { className: "field" }, el("label", { htmlFor: "given" }, "Given"), parts.given);
  parts.temperature.addEventListener("input", () => (shown.textContent = number(Number(parts.temperature.value))));
  parts.temperature.addEventListener("change", () => draw());
  parts.count.addEventListener("change", () => draw());
  const another = el("button", { type: "button", className: "button", onclick: () => { parts.seed.value = Math.floor(Math.random() * 2 ** 31); draw(); } }, "Another seed");
  const form = el("form", { className: "settings" },
    el("div", { className: "field" }, el("div", { className: "slider-head" }, el("label", { htmlFor: "temperature" }, "Temperature"), shown), parts.temperature),
    el("div", { className: "field" }, el("label", { htmlFor: "seed" }, "Seed"), parts.seed),
    el("div", { className: "field" }, el("label", { htmlFor: "count" }, "Pictures"), parts.count),
    parts.condition, el("div", { className: "bar" }, el("button", { className: "button primary", id: "draw" }, "Draw"), another));
  form.addEventListener("submit", (event) => { event.preventDefault(); draw(); });
  $("panel-sample").append(el("div", { className: "sampler" }, form, parts.grid));
  state.on("model", () => { parts.grid.replaceChildren(); condition(); if (!$("panel-sample").hidden) draw(); });
  condition();
}

function condition() {
  parts.condition.hidden = !state.model?.given.length;
}

export function enter() {
  if (state.model && !parts.grid.children.length) draw();
}

function draw() {
  return attempt(async () => {
    const asked = { model: state.model.id, n: Number(parts.count.value), temperature: Number(parts.temperature.value), seed: Number(parts.seed.value) };
    if (!parts.condition.hidden && parts.given.value.trim()) asked.given = parts.given.value.trim();
    const found = (await api.ask("/api/sample", asked)).pictures;
    const columns = Math.ceil(Math.sqrt(found.length));
    parts.grid.style.setProperty("--columns", columns);
    parts.grid.replaceChildren(...found.map((one, i) => el("button", { className: "sample", ariaLabel: `Edit sample ${i + 1}`, title: "Edit this one (with Shift: mix it)", onclick: (event) => take(one, event.shiftKey) }, el("img", { src: one.image, alt: "" }))));
    live(`${found.length} samples drawn`);
  }, $("draw"));
}

function take(one, mixed) {
  const source = { picture: one.picture, kind: "sample" };
  page.turn(mixed ? "mix" : "edit", true);
  return mixed ? attempt(() => mix.add(source)) : edit.open(source);
}
