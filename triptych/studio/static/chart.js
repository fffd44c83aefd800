// A curve as SVG: one line, its axes' ends, and the value under the pointer.

import { number } from "./dom.js";

const SPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, EDGE] = [320, 120, 6];

function shape(kind, attributes) {
  const made = document.createElementNS(SPACE, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export const short = (value) => {
  const size = Math.abs(value);
  if (value !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(1).replace("-", "−");
  return number(value, size >= 100 ? 0 : size >= 1 ? 2 : 3);
};

export function curve(name, points) {
  const known = points.filter(([, value]) => value !== null);
  const steps = known.map(([step]) => step);
  const values = known.map(([, value]) => value).sort((a, b) => a - b);
  // the first records of a training are often far off: the axis shows the middle 98 % and the last value
  const low = values[Math.floor(0.01 * values.length)];
  const high = values[Math.ceil(0.99 * values.length) - 1];
  const [first, last] = [steps[0], steps.at(-1)];
  const x = (step) => EDGE + ((WIDTH - 2 * EDGE) * (step - first)) / (last - first || 1);
  const y = (value) => HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * (Math.min(high, Math.max(low, value)) - low)) / (high - low || 1);
  const drawn = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" });
  drawn.setAttribute("aria-label", `${name}: from ${short(known[0][1])} at step ${first} to ${short(known.at(-1)[1])} at step ${last}`);
  drawn.append(shape("path", { d: known.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join(""), "vector-effect": "non-scaling-stroke" }));
  return { drawn, low, high, last: known.at(-1)[1], first, end: last };
}
