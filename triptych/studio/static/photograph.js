// The photograph that a picture was taken from: its faces, the choice among them or the centre, and the edit pasted back.

import { $, attempt, el, live } from "./dom.js";

let place;
let actions;

// choose: called with a face's number, or "centre"; paste: saves the whole photograph.
export function start({ choose, paste }) {
  actions = { choose };
  place = $("photograph");
  $("paste").addEventListener("click", (event) => attempt(paste, event.currentTarget));
  $("use-centre").addEventListener("click", () => actions.choose("centre"));
  $("find-faces").addEventListener("click", () => actions.choose("auto"));
}

export function show(found) {
  place.hidden = !found;
  if (!found) return;
  const several = found.faces?.length > 1;
  const shown = el("img", { src: found.image, alt: "Your photograph", draggable: false });
  const centre = found.face === null ? [outline(found.taken, "taken")] : [];
  $("photograph-shown").replaceChildren(shown, ...centre, ...(found.faces ?? []).map((face, i) => box(face, i + 1, found)));
  $("photograph-said").textContent = words(found, several);
  $("use-centre").hidden = found.face === null;
  $("find-faces").hidden = found.face !== null || !found.faces?.length;
  if (found.faces || found.note) live($("photograph-said").textContent);
}

function words(found, several) {
  if (found.note) return `${found.note.charAt(0).toUpperCase()}${found.note.slice(1)}.`;
  if (!found.faces) return "The centre is edited.";
  if (!found.faces.length) return "No face was found, so the centre is edited. A larger or more upright face may be found.";
  const which = found.face === null ? "the centre is edited" : several ? `number ${found.face} is edited` : "it is edited";
  return `${several ? `${found.faces.length} faces` : "One face"} found; ${which}.${several ? " Choose another in the picture." : ""}`;
}

// A face in the picture, as a button that chooses it.
function box(face, number, found) {
  const chosen = found.face === number;
  const made = el("button", { type: "button", className: "face", title: `Edit face ${number}`, onclick: () => actions.choose(String(number)) });
  made.setAttribute("aria-label", `Face ${number} of ${found.faces.length}`);
  made.setAttribute("aria-pressed", chosen);
  const [x, y] = [0, 1].map((i) => face.corners.map((corner) => corner[i]));
  const [left, top] = [Math.min(...x), Math.min(...y)];
  const share = (value) => `${(100 * value).toFixed(2)}%`;
  Object.assign(made.style, { left: share(left), top: share(top), width: share(Math.max(...x) - left), height: share(Math.max(...y) - top) });
  if (found.faces.length > 1) made.append(el("span", {}, String(number)));
  return made;
}

function outline(corners, className) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
  shape.setAttribute("points", corners.map((corner) => corner.join(",")).join(" "));
  svg.append(shape);
  return svg;
}
