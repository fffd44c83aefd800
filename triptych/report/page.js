// Strips become panels under a slider, and pairs of pictures are laid over one another; without this file both are read as they are.
"use strict";

for (const figure of document.querySelectorAll(".frames")) {
  const rows = [...figure.querySelectorAll("tbody tr")].map((row) => ({
    label: row.querySelector("th")?.textContent ?? "",
    frames: [...row.querySelectorAll("img")],
  }));
  const labels = [...figure.querySelectorAll("thead tr > *")].slice(-rows[0].frames.length).map((head) => head.textContent);
  const slider = figure.querySelector(".slider");
  const input = slider.querySelector("input");
  const output = slider.querySelector("output");
  const panels = document.createElement("div");
  panels.className = "panels";
  const shown = rows.map(({ label, frames }) => {
    const panel = document.createElement("div");
    const picture = frames[0].cloneNode();
    panel.className = "panel";
    panel.append(picture);
    if (label) panel.append(Object.assign(document.createElement("span"), { textContent: label }));
    panels.append(panel);
    return { picture, frames };
  });
  const show = () => {
    const place = Number(input.value);
    for (const { picture, frames } of shown) {
      picture.src = frames[place].src;
      picture.alt = frames[place].alt;
    }
    output.textContent = labels[place];
    input.setAttribute("aria-valuetext", labels[place]);
  };
  input.addEventListener("input", show);
  figure.prepend(panels);
  figure.classList.add("live");
  slider.hidden = false;
  show();
}

for (const figure of document.querySelectorAll(".wipe")) {
  const sides = figure.querySelector(".sides");
  const slider = figure.querySelector(".slider");
  const input = slider.querySelector("input");
  const show = () => {
    sides.style.setProperty("--wipe", `${input.value}%`);
    input.setAttribute("aria-valuetext", `${input.value} %`);
  };
  const follow = (event) => {
    const box = sides.getBoundingClientRect();
    input.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    show();
  };
  sides.addEventListener("pointerdown", (event) => {
    sides.setPointerCapture(event.pointerId);
    follow(event);
  });
  sides.addEventListener("pointermove", (event) => event.buttons && follow(event));
  input.addEventListener("input", show);
  figure.classList.add("live");
  slider.hidden = false;
  show();
}
