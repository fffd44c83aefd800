// Requests to the studio: the token, errors as one sentence, and pictures as object URLs.

import { state } from "./state.js";

export class Problem extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

let askToken = async () => null;

export function onToken(ask) {
  askToken = ask;
}

const known = () => sessionStorage.getItem("triptych-token");

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (known()) headers.Authorization = `Bearer ${known()}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The studio does not answer: is it still running?");
  }
  if (answer.status === 401) {
    sessionStorage.removeItem("triptych-token");
    const token = await askToken();
    if (token) {
      sessionStorage.setItem("triptych-token", token);
      return request(path, options);
    }
  }
  if (answer.status === 503) {
    const seconds = Number(answer.headers.get("Retry-After") || 1);
    if ((options.tries ?? 3) > 0) {
      await new Promise((done) => setTimeout(done, 1000 * seconds));
      options.signal?.throwIfAborted();
      return request(path, { ...options, tries: (options.tries ?? 3) - 1 });
    }
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Problem(answer.status, said.detail || `The studio answered ${answer.status}.`);
  }
  return answer;
}

export const get = async (path) => (await request(path)).json();

const post = (path, body, signal) =>
  request(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });

export const ask = async (path, body, signal) => (await post(path, body, signal)).json();

export async function blob(path, body, signal) {
  const answer = body ? await post(path, body, signal) : await request(path, { signal });
  const took = /dur=([\d.]+)/.exec(answer.headers.get("Server-Timing") || "");
  return { blob: await answer.blob(), took: took ? Number(took[1]) : null };
}

export async function form(path, fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null) body.append(name, one);
  }
  return (await request(path, { method: "POST", body })).json();
}

// A picture's source is a file of the visitor's, or the id of a picture that the studio has, or both: the file where the id
// is forgotten. face: which one of a photograph, or its centre, which a model that knows no faces takes.
export async function open(model, source) {
  const faces = state.models.find((one) => one.id === model)?.faces;
  const asked = { model, face: faces ? (source.face ?? "auto") : "centre" };
  if (source.picture) {
    try {
      return await form("/api/encode", { ...asked, picture: source.picture, source: source.kind });
    } catch (error) {
      if (error.status !== 404 || !source.file) throw error;
    }
  }
  return form("/api/encode", { ...asked, file: source.file });
}
