// Small helpers: elements, pictures, messages, files.

export const $ = (id) => document.getElementById(id);

export function el(kind, properties = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) made.style.setProperty(key, one);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export const said = (name) => name.replaceAll("_", " ");

export const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));

export function picture(source, description) {
  return el("img", { src: source, alt: description, draggable: false });
}

// Shows a blob in an image, and frees the one before.
export function show(image, blob) {
  const before = image.src;
  image.src = URL.createObjectURL(blob);
  if (before.startsWith("blob:")) image.addEventListener("load", () => URL.revokeObjectURL(before), { once: true });
}

let hiding;
export function toast(sentence) {
  const box = $("toast");
  box.textContent = sentence.charAt(0).toUpperCase() + sentence.slice(1);
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (box.hidden = true), 8000);
}

export function live(sentence) {
  $("live").textContent = sentence;
}

// Runs what a visitor asked for, and says what goes wrong.
export async function attempt(work, button) {
  if (button) button.setAttribute("aria-busy", "true");
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") {
      toast(error.message);
      if (error.status === undefined) console.error(error);
    }
    return undefined;
  } finally {
    if (button) button.removeAttribute("aria-busy");
  }
}

export function save(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const pictures = (files) => [...files].filter((file) => file.type.startsWith("image/") || !file.type);

// A button that opens files, and takes what is dropped on its zone.
export function chooser(text, take, { several = false, primary = false } = {}) {
  const input = el("input", { type: "file", accept: "image/*", multiple: several });
  input.addEventListener("change", () => {
    const files = pictures(input.files);
    input.value = "";
    if (files.length) take(files);
  });
  return el("label", { className: `button file${primary ? " primary" : ""}` }, input, text);
}

export function zone(element, take) {
  element.dataset.zone = "";
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    element.classList.remove("over");
    $("dropping").hidden = true;
    const files = pictures(event.dataTransfer.files);
    if (files.length) take(files);
  });
}
