// The tab Compare: the same picture and the same edit through every model, with time and error of each.

import * as api from "./api.js";
import { $, attempt, el, number, picture, said, show } from "./dom.js";
import * as edit from "./edit.js";
import { marked } from "./sliders.js";
import { state } from "./state.js";

let parts;
let opened = new Map();
let source = null;

export function start() {
  const shown = el("output", { htmlFor: "compare-strength" });
  parts = {
    name: el("select", { id: "compare-name" }),
    strength: el("input", { type: "range", id: "compare-strength" }),
    shown,
    cards: el("div", { className: "cards" }),
    hint: el("p", { className: "empty" }),
  };
  parts.strength.addEventListener("input", () => (parts.shown.textContent = number(Number(parts.strength.value))));
  parts.strength.addEventListener("change", () => attempt(apply));
  parts.name.addEventListener("change", () => { reach(); attempt(apply); });
  $("panel-compare").append(
    el("div", { className: "settings row" },
      el("div", { className: "field" }, el("label", { htmlFor: "compare-name" }, "Direction"), parts.name),
      el("div", { className: "field wide" }, el("div", { className: "slider-head" }, el("label", { htmlFor: "compare-strength" }, "Strength"), shown), parts.strength)),
    parts.hint, parts.cards);
}

export function enter() {
  attempt(async () => {
    if (!state.model) return;
    if (!edit.current.source) await edit.openRandom();
    names();
    await all();
  });
}

function names() {
  const known = new Map();
  for (const model of state.working()) {
    for (const direction of model.directions) known.set(direction.name, [...(known.get(direction.name) ?? []), marked(direction)]);
  }
  const chosen = Object.keys(edit.current.set).at(-1) ?? parts.name.value;
  parts.name.replaceChildren(...[...known.keys()].map((name) => el("option", { value: name, selected: name === chosen }, said(name))));
  parts.known = known;
  reach();
}

// As far as any of the models goes; at first as far as all of them go.
function reach() {
  const name = parts.name.value;
  const ranges = parts.known.get(name);
  parts.strength.disabled = !ranges;
  if (!ranges) return;
  const low = Math.min(...ranges.map((range) => range[0]));
  const highs = ranges.map((range) => range[1]);
  const high = Math.max(...highs);
  Object.assign(parts.strength, { min: low, max: high, step: (high - low) / 100 });
  parts.strength.value = edit.current.set[name] ?? Math.min(...highs);
  parts.shown.textContent = number(Number(parts.strength.value));
}

async function all() {
  if (source !== edit.current.source) opened = new Map();
  source = edit.current.source;
  const cards = state.working().map((model) => ({ model, ...card(model) }));
  parts.cards.replaceChildren(...cards.map((one) => one.element));
  parts.hint.textContent = "";
  for (const one of cards) {
    try {
      if (!opened.has(one.model.id)) opened.set(one.model.id, await api.open(one.model.id, source));
      const found = opened.get(one.model.id);
      one.again.replaceChildren(picture(found.reconstruction, `Reconstruction by ${one.model.id}`));
      one.error.textContent = `${number(found.rms, 1)} of 255`;
    } catch (error) {
      one.time.textContent = error.message;
    }
  }
  parts.all = cards;
  await apply();
}

async function apply() {
  const name = parts.name.value;
  for (const one of parts.all ?? []) {
    const found = opened.get(one.model.id);
    if (!found) continue;
    const known = one.model.directions.some((direction) => direction.name === name);
    if (!known) {
      one.edited.replaceChildren();
      one.time.textContent = name ? `has no direction ${said(name)}` : "has no directions";
      continue;
    }
    const answer = await api.blob("/api/edit", { picture: found.picture, set: { [name]: Number(parts.strength.value) } });
    const image = picture("", `Edit by ${one.model.id}`);
    show(image, answer.blob);
    one.edited.replaceChildren(image);
    one.time.textContent = `${number(answer.took, 0)} ms`;
  }
}

function card(model) {
  const again = el("div", { className: "frame" });
  const edited = el("div", { className: "frame" });
  const error = el("dd");
  const time = el("dd");
  const element = el("article", { className: "card" },
    el("h2", {}, model.id, el("small", {}, model.family)),
    el("div", { className: "pair" }, el("figure", {}, again, el("figcaption", {}, "Reconstruction")), el("figure", {}, edited, el("figcaption", {}, "Edit"))),
    el("dl", {}, el("dt", {}, "Error"), error, el("dt", {}, "Time"), time));
  return { element, again, edited, error, time };
}
