// The tab Score: files sorted by how unlike the training data they are.

import * as api from "./api.js";
import { $, attempt, chooser, el, live, number, picture, zone } from "./dom.js";
import * as edit from "./edit.js";
import { state } from "./state.js";

const AT_ONCE = 32;
let parts;
let page;
let files = [];

export function start(pages) {
  page = pages;
  const panel = $("panel-score");
  const take = (chosen) => { files = chosen; attempt(run); };
  const folder = el("input", { type: "file", multiple: true, webkitdirectory: true });
  folder.addEventListener("change", () => { const found = [...folder.files].filter((file) => file.type.startsWith("image/")); if (found.length) take(found); });
  parts = { said: el("p", { className: "lead" }, "Choose or drop pictures: those that are least like the training data come first."), list: el("ol", { className: "scores" }), bar: el("progress", { hidden: true, max: 1, value: 0 }) };
  parts.bar.setAttribute("aria-label", "Scoring");
  panel.append(el("div", { className: "bar" }, chooser("Choose pictures", take, { several: true, primary: true }), el("label", { className: "button file" }, folder, "Choose a folder")), parts.said, parts.bar, parts.list);
  zone(panel, take);
  state.on("model", () => { parts.list.replaceChildren(); if (files.length && !panel.hidden) attempt(run); });
}

async function run() {
  const rows = [];
  const refused = {};
  let by = "";
  parts.list.replaceChildren();
  parts.bar.hidden = false;
  try {
    for (let start = 0; start < files.length; start += AT_ONCE) {
      parts.bar.value = start / files.length;
      const some = files.slice(start, start + AT_ONCE);
      const found = await api.form("/api/score", { model: state.model.id, files: some });
      by = found.by;
      rows.push(...found.scores.map((row) => ({ ...row, file: some.find((file) => file.name === row.name) })));
      Object.assign(refused, found.refused);
    }
  } finally {
    parts.bar.hidden = true;
  }
  rows.sort((a, b) => b.score - a.score);
  const left = Object.keys(refused).length ? ` ${Object.keys(refused).length} could not be read.` : "";
  parts.said.textContent = `${rows.length} pictures by ${by}, the least likely first.${left}`;
  parts.list.replaceChildren(...rows.map(line));
  live(parts.said.textContent);
}

function line(row) {
  const numbers = [
    ["score", number(row.score, 3)],
    row.p === null ? null : ["p", number(row.p, 3)],
    row.bits_per_dim === null ? null : ["bits/dim", number(row.bits_per_dim, 3)],
    row.reconstruction === null ? null : ["error", number(255 * row.reconstruction, 1)],
  ].filter(Boolean);
  const unusual = row.p !== null && row.p <= 0.05;
  return el("li", { className: unusual ? "unusual" : "" }, picture(row.image, ""),
    el("div", {}, el("b", {}, row.name), unusual ? el("small", { className: "warn" }, "unusual (p ≤ 0.05)") : "",
      el("dl", {}, ...numbers.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]))),
    row.file ? el("button", { className: "button quiet", ariaLabel: `Edit ${row.name}`, onclick: () => { page.turn("edit", true); edit.open({ file: row.file }); } }, "Edit") : "");
}
