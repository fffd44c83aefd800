// What the tabs share: the models, which one is chosen, and directions that this visitor has taught.

const listeners = {};

export const state = {
  models: [],
  model: null,
  taught: [],
  on(what, listen) {
    (listeners[what] ??= []).push(listen);
  },
  tell(what) {
    for (const listen of listeners[what] ?? []) listen();
  },
  choose(id) {
    const found = this.models.find((model) => model.id === id && !model.problem);
    if (!found || found === this.model) return;
    this.model = found;
    this.tell("model");
  },
  working() {
    return this.models.filter((model) => !model.problem);
  },
  // The model's own directions, then those that were taught to it here.
  directions(model = this.model) {
    if (!model) return [];
    return [...model.directions, ...this.taught.filter((t) => t.model === model.id).map((t) => t.direction)];
  },
  taughtIds(model = this.model) {
    return this.taught.filter((t) => t.model === model.id).map((t) => t.taught);
  },
  teach(model, found) {
    this.taught = this.taught.filter((t) => t.model !== model.id || t.direction.name !== found.direction.name);
    this.taught.push({ model: model.id, taught: found.taught, direction: { ...found.direction, taught: true } });
    this.tell("taught");
  },
};
