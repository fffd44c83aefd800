// The tab Mix: two pictures and a slider, or three and four and a pad.

import * as api from "./api.js";
import { $, attempt, chooser, el, number, picture, save, show, zone } from "./dom.js";
import { Latest } from "./latest.js";
import { state } from "./state.js";

const MOST = 4;
let kept = [];
let x = 0.5;
let y = 0.5;
let parts = {};
let mixes;

export function start() {
  const panel = $("panel-mix");
  const image = el("img", { alt: "Mixed picture", hidden: true, draggable: false });
  const slider = (label, set) => {
    const range = el("input", { type: "range", min: 0, max: 100, value: 50, ariaLabel: label });
    range.addEventListener("input", () => { set(range.value / 100); blend(); });
    return range;
  };
  parts = {
    image,
    slots: el("div", { className: "slots" }),
    pad: el("div", { className: "pad", hidden: true }, el("i")),
    across: slider("From left to right", (value) => (x = value)),
    down: slider("From top to bottom", (value) => (y = value)),
    shares: el("p", { className: "measures" }),
    saving: el("button", { className: "button", disabled: true, onclick: keep }, "Save PNG"),
  };
  const random = el("button", { className: "button", onclick: (event) => attempt(() => add(), event.currentTarget) }, "Random picture");
  const clear = el("button", { className: "button quiet", onclick: () => { kept = []; draw(); } }, "Clear");
  panel.append(
    el("div", { className: "bar" }, chooser("Choose pictures", (files) => attempt(() => addAll(files)), { several: true, primary: true }), random, el("span", { className: "hint" }, "two to four"), el("span", { className: "spring" }), clear),
    el("div", { className: "mixer" },
      el("div", {}, parts.slots),
      el("div", { className: "blend" },
        el("div", { className: "frame", }, image, parts.pad),
        el("div", { className: "axes" }, parts.across, parts.down), parts.shares, el("div", { className: "bar" }, parts.saving))),
  );
  zone(panel, (files) => attempt(() => addAll(files)));
  mixes = new Latest(async (asked, signal) => {
    const answer = await api.blob("/api/mix", asked, signal);
    show(image, answer.blob);
    image.hidden = false;
    parts.saving.disabled = false;
  });
  follow(parts.pad);
  state.on("model", async () => {
    const sources = kept.map((one) => one.source);
    kept = [];
    draw();
    await attempt(async () => { for (const source of sources) await add(source); });
  });
  draw();
}

async function addAll(files) {
  for (const file of files.slice(0, MOST - kept.length)) await add({ file });
}

export async function add(source) {
  if (kept.length >= MOST) kept.shift();
  const opened = source ? await api.open(state.model.id, source) : await api.ask("/api/random", { model: state.model.id });
  kept.push({ opened, source: source ?? { picture: opened.picture, kind: opened.source } });
  draw();
  blend();
}

function weights() {
  if (kept.length < 2) return kept.map(() => 1);
  if (kept.length === 2) return [1 - x, x];
  const four = [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y];
  return kept.length === 4 ? four : [four[0], four[1], four[2] + four[3]];
}

function blend() {
  parts.pad.style.setProperty("--x", `${100 * x}%`);
  parts.pad.style.setProperty("--y", `${100 * y}%`);
  if (!kept.length) return;
  const shares = weights();
  parts.shares.textContent = kept.length < 2 ? "Add another picture to mix it with." : shares.map((w, i) => `${"ABCD"[i]} ${number(100 * w, 0)} %`).join("   ");
  attempt(() => mixes.ask({ pictures: kept.map((one) => one.opened.picture), weights: shares }));
}

function draw() {
  const slot = (one, i) =>
    el("figure", { className: "slot" }, picture(one.opened.image, `Picture ${"ABCD"[i]}`),
      el("figcaption", {}, el("b", {}, "ABCD"[i]), el("button", { className: "back", ariaLabel: `Remove picture ${"ABCD"[i]}`, onclick: () => { kept.splice(i, 1); draw(); blend(); } }, "×")));
  parts.slots.replaceChildren(...kept.map(slot), ...Array.from({ length: Math.max(0, 2 - kept.length) }, () => el("div", { className: "slot vacant" })));
  parts.pad.hidden = kept.length < 3;
  parts.down.hidden = kept.length < 3;
  parts.across.disabled = kept.length < 2;
  if (!kept.length) { parts.image.hidden = true; parts.saving.disabled = true; parts.shares.textContent = "Add two pictures, and slide from one to the other."; }
}

function follow(pad) {
  const move = (event) => {
    const box = pad.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    x = within((event.clientX - box.left) / box.width);
    y = within((event.clientY - box.top) / box.height);
    parts.across.value = 100 * x;
    parts.down.value = 100 * y;
    blend();
  };
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); move(event); });
  pad.addEventListener("pointermove", (event) => pad.hasPointerCapture(event.pointerId) && move(event));
}

const keep = () => attempt(async () => save((await api.blob("/api/mix", { pictures: kept.map((one) => one.opened.picture), weights: weights() })).blob, "mix.png"));
