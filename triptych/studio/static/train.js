// The tab Train: a run's curves, its samples over time and the doctor's verdict, while it trains elsewhere.

import * as api from "./api.js";
import { curve, short } from "./chart.js";
import { $, attempt, el, said, show } from "./dom.js";

const EVERY = 3000;
const FIRST = ["loss", "elbo", "bits_per_dim", "loss_generator", "loss_discriminator"];
let parts;
let timer;
let sheets = [];
let follows = true;
let seen = "";

export function start() {
  parts = {
    run: el("select", { id: "run" }),
    bar: el("progress", { max: 1, value: 0 }),
    how: el("p", { className: "measures" }),
    verdicts: el("ul", { className: "verdicts" }),
    curves: el("div", { className: "curves" }),
    sheet: el("img", { alt: "Samples", hidden: true }),
    time: el("input", { type: "range", id: "sheet", min: 0, max: 0, value: 0, step: 1 }),
    when: el("output", { htmlFor: "sheet" }),
  };
  parts.bar.setAttribute("aria-label", "Progress of the training");
  parts.run.addEventListener("change", () => { seen = ""; sheets = []; follows = true; look(); });
  parts.time.addEventListener("input", () => { follows = Number(parts.time.value) === sheets.length - 1; turnTo(); });
  parts.samples = el("section", { className: "over-time", hidden: true }, el("h2", {}, "Samples over time"), el("div", { className: "frame" }, parts.sheet), el("div", { className: "slider-head" }, el("label", { htmlFor: "sheet" }, "Step"), parts.when), parts.time);
  $("panel-train").append(
    el("div", { className: "settings row" }, el("div", { className: "field wide" }, el("label", { htmlFor: "run" }, "Run"), parts.run), el("div", { className: "field wide" }, parts.how, parts.bar)),
    el("section", { className: "verdict" }, el("h2", {}, "The doctor’s verdict on its records"), parts.verdicts),
    el("div", { className: "training" }, el("section", {}, el("h2", {}, "Curves"), parts.curves), parts.samples));
}

export function enter() {
  look();
  clearInterval(timer);
  timer = setInterval(() => document.hidden || look(), EVERY);
}

export function leave() {
  clearInterval(timer);
}

function look() {
  return attempt(async () => {
    const { runs } = await api.get("/api/runs");
    const chosen = parts.run.value || runs.find((run) => run.step)?.id || runs[0]?.id;
    const names = runs.map((run) => run.id).join("\n");
    if (parts.run.dataset.names !== names) {
      parts.run.dataset.names = names;
      parts.run.replaceChildren(...runs.map((run) => el("option", { value: run.id }, [run.id, run.family, run.data].filter(Boolean).join(" · "))));
      parts.run.value = chosen;
    }
    if (!chosen) return void (parts.how.textContent = "No runs yet: triptych train … makes one.");
    draw(await api.get(`/api/runs/${encodeURIComponent(chosen)}`));
  });
}

function draw(run) {
  const whole = `${run.id} ${run.step} ${run.samples.length}`;
  if (whole === seen) return;
  seen = whole;
  parts.how.textContent = run.steps ? `Step ${run.step.toLocaleString()} of ${run.steps.toLocaleString()}` : `Step ${run.step.toLocaleString()}`;
  parts.bar.hidden = !run.steps;
  parts.bar.value = run.steps ? Math.min(1, run.step / run.steps) : 0;
  parts.verdicts.replaceChildren(...run.verdicts.map((v) => el("li", {}, el("b", {}, v.name), `: ${v.evidence}`, v.remedy ? el("span", { className: "remedy" }, v.remedy) : "")));
  const rank = (name) => (FIRST.indexOf(name) + 1 || FIRST.length + 1);
  const names = Object.keys(run.curves).filter((name) => run.curves[name].length > 1).sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  const drawn = names.map((name) => [name, curve(said(name), run.curves[name])]);
  const constant = drawn.filter(([, found]) => found.low === found.high).map(([name, found]) => `${said(name)} ${short(found.last)}`);
  parts.curves.replaceChildren(...drawn.filter(([, found]) => found.low !== found.high).map(line));
  if (constant.length) parts.curves.append(el("p", { className: "constant" }, `Constant: ${constant.join(", ")}.`));
  if (!names.length) parts.curves.replaceChildren(el("p", { className: "empty" }, "No records yet."));
  sheets = run.samples.map((sheet) => ({ step: Number(sheet.match(/\d+/)[0]), path: `/api/runs/${encodeURIComponent(run.id)}/samples/${sheet}` }));
  parts.samples.hidden = !sheets.length;
  parts.time.max = Math.max(0, sheets.length - 1);
  parts.time.disabled = sheets.length < 2;
  if (follows) parts.time.value = parts.time.max;
  turnTo();
}

const line = ([name, found]) =>
  el("figure", { className: "curve" }, el("figcaption", {}, el("b", {}, said(name)), el("span", {}, short(found.last))), found.drawn,
    el("div", { className: "ends", ariaHidden: "true" }, el("span", {}, short(found.low)), el("span", {}, short(found.high))));

function turnTo() {
  const sheet = sheets[Number(parts.time.value)];
  if (!sheet) return;
  parts.when.textContent = sheet.step.toLocaleString();
  parts.time.setAttribute("aria-valuetext", `step ${sheet.step}`);
  if (parts.sheet.dataset.path === sheet.path) return;
  parts.sheet.dataset.path = sheet.path;
  attempt(async () => {
    const { blob } = await api.blob(sheet.path);
    show(parts.sheet, blob);
    parts.sheet.alt = `Samples at step ${sheet.step}`;
    parts.sheet.hidden = false;
  });
}
