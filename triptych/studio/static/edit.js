// The tab Edit: a picture beside its reconstruction, sliders, a wipe, undo and redo, what it costs in bits, and files.

import * as api from "./api.js";
import { $, attempt, el, live, number, picture, pictures, said, save, show } from "./dom.js";
import { Latest } from "./latest.js";
import * as photograph from "./photograph.js";
import { marked, Sliders } from "./sliders.js";
import { state } from "./state.js";

const RESTED = 350; // milliseconds after which bits are asked for
const KEYS = { z: "undo", y: "redo" };

let sliders;
let edits;
let past = [{}];
let at = 0;
let resting;
let edited;

export const current = { source: null, opened: null, get set() { return sliders.values; } };

const body = (values) => ({ picture: current.opened.picture, set: values, taught: state.taughtIds() });

export function start() {
  sliders = new Sliders($("sliders"), { input: (values) => move(values), settled: (values) => settle(values) });
  edits = new Latest(async (values, signal) => {
    const answer = await again(() => api.blob("/api/edit", body(values), signal));
    show(edited, answer.blob);
    edited.dataset.count = Number(edited.dataset.count || 0) + 1;
  });
  $("edit-file").addEventListener("change", (event) => {
    const [file] = pictures(event.target.files);
    event.target.value = "";
    if (file) open({ file });
  });
  $("edit-random").addEventListener("click", (event) => attempt(openRandom, event.currentTarget));
  $("undo").addEventListener("click", () => travel(-1));
  $("redo").addEventListener("click", () => travel(1));
  $("reset").addEventListener("click", () => { sliders.set({}); move({}); settle({}); });
  $("save-png").addEventListener("click", (event) => attempt(savePicture, event.currentTarget));
  $("save-gif").addEventListener("click", (event) => attempt(saveFilm, event.currentTarget));
  $("save-recipe").addEventListener("click", (event) => attempt(saveRecipe, event.currentTarget));
  $("save-original").addEventListener("click", () => attempt(async () => save(await (await fetch(current.opened.image)).blob(), "original.png")));
  photograph.start({ choose: (face) => open({ ...current.source, face }, sliders.values), paste });
  wipe();
  document.addEventListener("keydown", (event) => {
    const what = KEYS[event.key.toLowerCase()];
    if (!what || !(event.ctrlKey || event.metaKey) || $("panel-edit").hidden || event.target.matches("input[type=text]")) return;
    event.preventDefault();
    travel(what === "redo" || event.shiftKey ? 1 : -1);
  });
  state.on("model", () => (current.source ? open(current.source, sliders.values) : blank()));
  state.on("taught", () => (current.opened ? attempt(async () => { await project(); fill(sliders.values); }) : blank()));
  blank();
}

function blank() {
  for (const id of ["frame-original", "frame-again", "frame-edited"]) $(id).replaceChildren();
  photograph.show(null);
  sliders.fill(state.directions(), null);
  if (!state.directions().length) $("sliders").append(el("p", { className: "empty" }, state.model?.note || "No model to edit with."));
}

export async function openRandom() {
  const opened = await api.ask("/api/random", { model: state.model.id });
  await project(opened);
  take(opened, { picture: opened.picture, kind: opened.source }, {});
}

// Opens a source for the model that is chosen; an edit is kept where the new model knows its names.
export function open(source, values = {}) {
  return attempt(async () => {
    document.body.classList.add("opening");
    try {
      const opened = await api.open(state.model.id, source);
      await project(opened);
      take(opened, source, values);
    } finally {
      document.body.classList.remove("opening");
    }
  });
}

// Where a picture lies along directions that were taught here, which the model does not know itself.
async function project(opened = current.opened) {
  if (!state.taughtIds().length) return;
  opened.projections = (await api.ask("/api/project", { picture: opened.picture, taught: state.taughtIds() })).projections;
}

function take(opened, source, values) {
  const face = opened.photograph ? (opened.photograph.face ?? "centre") : undefined;
  current.source = opened.photograph ? { ...source, picture: opened.picture, kind: "file", face } : source;
  current.opened = opened;
  photograph.show(opened.photograph);
  const what = opened.source === "drawn face" ? "a drawn face" : opened.source === "sample" ? "a sample" : opened.photograph?.face ? "a face of your photograph" : "your picture";
  $("frame-original").replaceChildren(picture(opened.image, `Original: ${what}`));
  $("frame-again").replaceChildren(picture(opened.reconstruction, "Reconstruction by the model"));
  edited = picture(opened.reconstruction, "Edited picture");
  const before = picture(opened.image, "");
  before.className = "before";
  $("frame-edited").replaceChildren(edited, before);
  $("said-original").textContent = what;
  $("said-again").textContent = `off by ${number(opened.rms, 1)} of 255`;
  $("wipe").disabled = false;
  for (const id of ["save-png", "save-recipe", "save-original"]) $(id).disabled = false;
  fill(Object.fromEntries(Object.entries(values).filter(([name]) => state.directions().some((d) => d.name === name))));
  past = [sliders.values];
  at = 0;
  buttons();
  if (Object.keys(sliders.values).length) move(sliders.values);
  live(`Opened ${what}. The reconstruction is off by ${number(opened.rms, 1)} of 255.`);
  measure();
  kindest(opened, current.source);
}

function fill(values) {
  const directions = state.directions();
  sliders.fill(directions, current.opened.projections);
  sliders.set(values);
  $("film").replaceChildren(...directions.map((d) => el("option", { value: d.name }, said(d.name))));
  $("film").disabled = $("save-gif").disabled = !directions.length;
  if (!directions.length) $("sliders").append(el("p", { className: "empty" }, state.model.note));
}

function move(values) {
  const names = Object.keys(values);
  $("said-edited").textContent = names.length ? names.map((name) => `${said(name)} ${number(values[name])}`).join(", ") : "move a slider";
  attempt(() => edits.ask(values));
}

function settle(values) {
  past = [...past.slice(0, at + 1), { ...values }];
  at = past.length - 1;
  buttons();
  measure();
}

function travel(steps) {
  if (!past[at + steps]) return;
  at += steps;
  sliders.set(past[at]);
  move(past[at]);
  buttons();
  measure();
  live(steps < 0 ? "Undone" : "Redone");
}

function buttons() {
  $("undo").disabled = at === 0;
  $("redo").disabled = at === past.length - 1;
  $("reset").disabled = !Object.keys(sliders.values).length;
}

// A picture that the studio has forgotten is opened again, where the visitor still has its file.
async function again(work) {
  try {
    return await work();
  } catch (error) {
    if (error.status !== 404 || !current.source?.file) throw error;
    current.opened = await api.open(state.model.id, current.source);
    return work();
  }
}

function measure() {
  clearTimeout(resting);
  const box = $("measures");
  if (!state.model.bound) {
    box.textContent = "This model has no density: what an edit costs in bits is not known.";
    return;
  }
  const opened = current.opened;
  resting = setTimeout(async () => {
    try {
      const found = await again(() => api.ask("/api/likelihood", body(sliders.values)));
      if (opened !== current.opened) return;
      const upper = found.bound === "lower" ? " (upper bounds)" : "";
      box.replaceChildren(
        el("b", {}, number(found.before, 3)), ` ${found.unit} before, `, el("b", {}, number(found.after, 3)), ` after${upper}`,
      );
    } catch (error) {
      box.textContent = error.message;
    }
  }, RESTED);
}

// The model that reconstructs this picture best is proposed where it is another one.
async function kindest(opened, source) {
  const box = $("kindest");
  box.hidden = true;
  const others = state.models.filter((model) => model.id !== state.model.id && !model.problem && !model.note.startsWith("it has no encoder"));
  const found = await Promise.all(others.map((model) => api.open(model.id, source).catch(() => null)));
  const best = found.filter(Boolean).sort((a, b) => a.rms - b.rms)[0];
  if (opened !== current.opened || !best || best.rms >= opened.rms) return;
  const take = el("button", { className: "link", onclick: () => state.choose(best.model) }, `Edit with ${best.model}`);
  box.replaceChildren(el("b", {}, best.model), ` keeps more of this picture: off by ${number(best.rms, 1)} instead of ${number(opened.rms, 1)}. `, take);
  box.hidden = false;
}

function wipe() {
  const frame = $("frame-edited");
  const slider = $("wipe");
  const set = (value) => {
    slider.value = value;
    frame.style.setProperty("--wipe", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} percent before, the rest after`);
  };
  slider.addEventListener("input", () => set(slider.value));
  frame.addEventListener("pointerdown", (event) => {
    if (slider.disabled) return;
    frame.setPointerCapture(event.pointerId);
    const follow = (e) => {
      const box = frame.getBoundingClientRect();
      set(Math.round((100 * (e.clientX - box.left)) / box.width));
    };
    follow(event);
    frame.addEventListener("pointermove", follow);
    frame.addEventListener("pointerup", () => frame.removeEventListener("pointermove", follow), { once: true });
    frame.addEventListener("pointercancel", () => frame.removeEventListener("pointermove", follow), { once: true });
  });
  set(0);
}

// Alone: to the bit what the command line gives.
const savePicture = async () => save((await again(() => api.blob("/api/edit", { ...body(sliders.values), alone: true }))).blob, "edited.png");

// The whole photograph with the edit in it.
const paste = async () => save((await again(() => api.blob("/api/paste", { ...body(sliders.values), alone: true }))).blob, "photograph.png");

async function saveFilm() {
  const direction = state.directions().find((one) => one.name === $("film").value);
  const { name } = direction;
  const [low, high] = marked(direction);
  const { [name]: _, ...values } = sliders.values;
  const asked = { ...body(values), name, low, high, count: 24, format: "gif" };
  save((await again(() => api.blob("/api/sweep", asked))).blob, `${name}.gif`);
}

async function saveRecipe() {
  const recipe = await again(() => api.ask("/api/recipe", body(sliders.values)));
  save(new Blob([JSON.stringify(recipe, null, 2) + "\n"], { type: "application/json" }), "edit.json");
}
