// A slider for a direction: it starts at the picture's own coordinate. Marked is where its edits were seen to do what they
// say, or where that was not measured, or is nowhere, the range that training has shown.

import { el, number, said } from "./dom.js";

const FAR = 0.5; // of the range's width, past its ends, that a slider reaches

// Where its edits were seen to do what they say; where that was not measured, or is nowhere, what training has shown.
export const marked = (direction) => direction.safe ?? direction.range;

function doubt(direction) {
  if (direction.worthless) return "reads no better than chance";
  return direction.swept && !direction.safe ? "nowhere seen to do what it says" : null;
}

export class Sliders {
  // input: while a slider moves; settled: when it rests; both get the whole edit {name: value}.
  constructor(place, { input, settled }) {
    this.place = place;
    this.input = input;
    this.settled = settled;
    this.rows = new Map();
    this.values = {};
  }

  fill(directions, projections) {
    this.rows.clear();
    this.values = {};
    this.place.replaceChildren(...directions.map((direction) => this.row(direction, projections?.[direction.name])));
  }

  row(direction, own) {
    const { name } = direction;
    const [low, high] = direction.range;
    const width = high - low || 1;
    const start = own ?? (low + high) / 2;
    const least = Math.min(low - FAR * width, start);
    const most = Math.max(high + FAR * width, start);
    const place = (value) => String((value - least) / (most - least));
    const id = `slider-${this.rows.size}`;
    const range = el("input", { type: "range", id, disabled: own === undefined });
    Object.assign(range, { min: least, max: most, step: width / 200, value: start });
    const [from, to] = marked(direction);
    range.style.setProperty("--low", place(from));
    range.style.setProperty("--high", place(to));
    range.title = direction.safe
      ? "Marked: where its edits were seen to do what they say"
      : "Marked: the range that training has shown";
    const shown = el("output", { htmlFor: id });
    const reset = el("button", { className: "back", title: `Back to the picture’s own`, disabled: true }, "↺");
    reset.setAttribute("aria-label", `Reset ${said(name)}`);
    const mark = el("i", { className: "own", style: { "--own": place(start) }, hidden: own === undefined });
    const doubted = doubt(direction);
    const warning = doubted ? el("small", { className: "warn" }, doubted) : null;
    const tag = direction.taught ? el("small", { className: "tag" }, "taught") : null;
    const row = el(
      "div",
      { className: "slider" },
      el("div", { className: "slider-head" }, el("label", { htmlFor: id }, said(name)), tag, shown, reset),
      el("div", { className: "track" }, mark, range),
      warning,
    );
    const entry = { direction, own: start, range, shown, reset, row };
    range.addEventListener("input", () => {
      this.values = { ...this.values, [name]: Number(range.value) };
      this.draw(entry);
      this.input(this.values);
    });
    range.addEventListener("change", () => this.settled(this.values));
    reset.addEventListener("click", () => {
      const { [name]: _, ...rest } = this.values;
      this.set(rest);
      range.focus();
      this.input(this.values);
      this.settled(this.values);
    });
    this.rows.set(name, entry);
    this.draw(entry);
    return row;
  }

  draw(entry) {
    const { direction, range, shown, reset, row } = entry;
    const value = Number(range.value);
    const [low, high] = marked(direction);
    const far = value < low || value > high;
    const touched = direction.name in this.values;
    shown.textContent = number(value);
    row.classList.toggle("far", far);
    row.classList.toggle("touched", touched);
    reset.disabled = !touched;
    range.setAttribute("aria-valuetext", `${number(value)}, ${far ? "beyond" : "within"} what ${direction.safe ? "was seen to work" : "training has shown"}`);
  }

  set(values) {
    this.values = { ...values };
    for (const entry of this.rows.values()) {
      entry.range.value = this.values[entry.direction.name] ?? entry.own;
      this.draw(entry);
    }
  }
}
