// The page: tabs, the choice of a model, dropping pictures, the token.

import * as api from "./api.js";
import * as compare from "./compare.js";
import { $, attempt, el, pictures } from "./dom.js";
import * as edit from "./edit.js";
import * as mix from "./mix.js";
import * as sample from "./sample.js";
import * as score from "./score.js";
import { state } from "./state.js";
import * as teach from "./teach.js";
import * as train from "./train.js";

const rooms = { edit, mix, sample, compare, teach, score, train };
const tabs = [...document.querySelectorAll("[role=tab]")];
const nameOf = (tab) => tab.id.replace("tab-", "");

// On a phone the row of tabs scrolls. scrollIntoView would do, but moves where the next Tab key begins (Chromium 150).
function reveal(tab) {
  const row = tab.parentElement;
  const left = tab.offsetLeft - row.offsetLeft;
  row.scrollLeft = Math.min(left, Math.max(row.scrollLeft, left + tab.offsetWidth - row.clientWidth));
}

export function turn(name, focus = false) {
  for (const tab of tabs) {
    const chosen = nameOf(tab) === name;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    $(`panel-${nameOf(tab)}`).hidden = !chosen;
    if (chosen && focus) tab.focus();
    if (chosen) reveal(tab);
  }
  history.replaceState(null, "", `#${name}`);
  for (const [key, room] of Object.entries(rooms)) (key === name ? room.enter : room.leave)?.();
}

for (const [i, tab] of tabs.entries()) {
  tab.addEventListener("click", () => turn(nameOf(tab)));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    turn(nameOf(tabs.at(to % tabs.length)), true);
  });
}

api.onToken(
  () =>
    new Promise((done) => {
      const dialog = $("token-dialog");
      dialog.addEventListener("close", () => done($("token").value), { once: true });
      if (!dialog.open) dialog.showModal();
    }),
);

// A picture dropped outside of a zone is edited.
let depth = 0;
const carries = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => carries(event) && (depth++, ($("dropping").hidden = $("panel-edit").hidden)));
addEventListener("dragleave", (event) => carries(event) && --depth <= 0 && ($("dropping").hidden = true));
addEventListener("dragover", (event) => carries(event) && event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  $("dropping").hidden = true;
  const [file] = pictures(event.dataTransfer.files);
  if (file && state.model) {
    turn("edit");
    edit.open({ file });
  }
});

function listModels() {
  const choice = $("model");
  const option = (model) => el("option", { value: model.id, disabled: Boolean(model.problem) }, model.problem ? `${model.id} (did not load)` : `${model.id} · ${model.event_shape.slice(1).join("×")}`);
  choice.replaceChildren(...state.models.map(option));
  choice.addEventListener("change", () => state.choose(choice.value));
  state.on("model", () => {
    choice.value = state.model.id;
    say();
  });
}

function say() {
  const broken = state.models.filter((model) => model.problem).map((model) => `${model.id} did not load: ${model.problem}.`);
  const note = $("model-note");
  note.textContent = [state.model?.note && `${state.model.id}: ${state.model.note}.`, ...broken].filter(Boolean).join(" ");
  note.hidden = !note.textContent;
}

attempt(async () => {
  state.models = (await api.get("/api/models")).models;
  listModels();
  state.model = state.working()[0] ?? null;
  for (const room of Object.values(rooms)) room.start({ turn });
  if (state.model) state.tell("model");
  else say();
  const wanted = location.hash.slice(1);
  turn(wanted in rooms ? wanted : "edit");
  document.body.classList.add("ready");
});
