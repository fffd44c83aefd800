// Work on the newest value only: one request at a time, the next takes whatever is newest by then, and one that takes too
// long for a value that is no longer wanted is aborted.

export class Latest {
  constructor(work, patience = 120) {
    this.work = work;
    this.patience = patience;
    this.running = null;
    this.waiting = null;
  }

  ask(value) {
    this.waiting = { value };
    if (!this.running) return this.run();
    if (performance.now() - this.running.began > this.patience) this.running.control.abort();
    return this.running.done;
  }

  run() {
    const control = new AbortController();
    const running = { began: performance.now(), control };
    this.running = running;
    running.done = (async () => {
      while (this.waiting) {
        const { value } = this.waiting;
        this.waiting = null;
        running.began = performance.now();
        running.control = new AbortController();
        try {
          await this.work(value, running.control.signal);
        } catch (error) {
          if (error.name !== "AbortError") {
            this.running = null;
            throw error;
          }
        }
      }
      this.running = null;
    })();
    return running.done;
  }

  stop() {
    this.waiting = null;
    this.running?.control.abort();
  }
}
