// The tab Teach: two piles of pictures become a slider, with its held-out accuracy and what it drags along.

import * as api from "./api.js";
import { $, attempt, chooser, el, live, number, picture, said, toast, zone } from "./dom.js";
import { state } from "./state.js";

const LEAST = 13;
const DEALT = 8;
let piles = { shown: [], lacking: [] };
let tray = [];
let parts;
let page;

export function start(pages) {
  page = pages;
  const pile = (key, title) => {
    const pictures = el("div", { className: "thumbs" });
    const count = el("span", { className: "count" });
    const take = (files) => attempt(() => openAll(files, key));
    const element = el("section", { className: "pile" }, el("header", {}, el("h2", {}, title), count), pictures, chooser("Add pictures", take, { several: true }));
    element.setAttribute("aria-label", title);
    zone(element, take);
    return { element, pictures, count };
  };
  parts = {
    shown: pile("shown", "With it"),
    lacking: pile("lacking", "Without it"),
    name: el("input", { type: "text", id: "teach-name", maxLength: 40, placeholder: "smile, hat, my style …", autocomplete: "off" }),
    go: el("button", { className: "button primary", disabled: true, onclick: (event) => attempt(teach, event.currentTarget) }, "Teach"),
    tray: el("div", { className: "thumbs tray" }),
    result: el("div", { className: "result", hidden: true }),
  };
  parts.name.addEventListener("input", draw);
  parts.result.setAttribute("role", "status");
  const deal = el("button", { className: "button", onclick: (event) => attempt(dealOut, event.currentTarget) }, "Deal pictures to sort");
  $("panel-teach").append(
    el("p", { className: "lead" }, `Sort pictures into two piles, at least ${LEAST} each. Their difference becomes a slider of this model.`),
    el("div", { className: "settings row" }, el("div", { className: "field wide" }, el("label", { htmlFor: "teach-name" }, "What the first pile shows"), parts.name), parts.go, deal),
    parts.tray, el("div", { className: "piles" }, parts.shown.element, parts.lacking.element), parts.result);
  state.on("model", () => { piles = { shown: [], lacking: [] }; tray = []; parts.result.hidden = true; draw(); });
  draw();
}

async function openAll(files, key) {
  const waiting = [...files].slice(0, 200 - piles[key].length);
  const failed = [];
  const one = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      try {
        const opened = await api.open(state.model.id, { file });
        piles[key].push({ id: opened.picture, image: opened.image });
        draw();
      } catch (error) {
        failed.push(`${file.name}: ${error.message}`);
      }
    }
  };
  await Promise.all([one(), one(), one()]);
  if (failed.length) toast(failed.length === 1 ? failed[0] : `${failed.length} files were left aside: ${failed[0]}`);
}

async function dealOut() {
  const opened = await Promise.all(Array.from({ length: DEALT }, () => api.ask("/api/random", { model: state.model.id })));
  tray.push(...opened.map((one) => ({ id: one.picture, image: one.image })));
  draw();
  parts.tray.querySelector("button")?.focus();
}

function sort(one, key) {
  tray = tray.filter((other) => other !== one);
  piles[key].push(one);
  draw();
  parts.tray.querySelector("button")?.focus();
}

function draw() {
  parts.tray.replaceChildren(...tray.map((one, i) => el("figure", {}, picture(one.image, `Picture ${i + 1} to sort`),
    el("div", { className: "pick" },
      el("button", { ariaLabel: `Picture ${i + 1}: with it`, onclick: () => sort(one, "shown") }, "with"),
      el("button", { ariaLabel: `Picture ${i + 1}: without it`, onclick: () => sort(one, "lacking") }, "without")))));
  for (const key of ["shown", "lacking"]) {
    const { pictures, count } = parts[key];
    const title = key === "shown" ? "with it" : "without it";
    pictures.replaceChildren(...piles[key].map((one, i) => el("button", { className: "thumb", ariaLabel: `Remove picture ${i + 1} from the pile ${title}`, title: "Remove", onclick: () => { piles[key].splice(i, 1); draw(); } }, el("img", { src: one.image, alt: "" }))));
    const n = piles[key].length;
    count.textContent = n < LEAST ? `${n} of ${LEAST}` : `${n}`;
    count.classList.toggle("enough", n >= LEAST);
  }
  parts.go.disabled = piles.shown.length < LEAST || piles.lacking.length < LEAST || !parts.name.value.trim();
}

async function teach() {
  const model = state.model;
  const ids = (pile) => pile.map((one) => one.id);
  const found = await api.ask("/api/teach", { model: model.id, name: parts.name.value.trim(), shown: ids(piles.shown), lacking: ids(piles.lacking) });
  state.teach(model, found);
  const most = Object.entries(found.drags).slice(0, 4);
  const drags = most.length
    ? el("p", {}, "From one pile to the other it drags along: ", most.map(([name, share]) => `${said(name)} ${share > 0 ? "+" : "−"}${number(Math.abs(100 * share), 0)} %`).join(", "), " of their spread.")
    : null;
  const chance = found.accuracy - 2 * found.stderr <= found.majority;
  parts.result.replaceChildren(
    el("h2", {}, `${said(found.direction.name)} is a slider now`),
    el("p", {}, "It reads ", el("b", {}, `${number(100 * found.accuracy, 0)} % ± ${number(100 * found.stderr, 0)} %`), ` of ${found.n} pictures rightly that it was not learned from; one answer for all would be right for ${number(100 * found.majority, 0)} %.`),
    chance ? el("p", { className: "warn" }, "That is hardly more than chance: give more pictures, or clearer piles.") : null ?? "",
    drags ?? "", el("button", { className: "button", onclick: () => page.turn("edit", true) }, "Edit with it"));
  parts.result.hidden = false;
  live(`${found.direction.name} is a slider now`);
}
