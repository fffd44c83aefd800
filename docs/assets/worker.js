// A page that is opened from a disk may not start a worker: its search then runs in a frame of its own, with a worker's manners.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = (...urls) => Promise.all(urls.map((each) => script(inside, each)));
      this.ready = script(inside, url).then(() => inside);
    }

    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }

    terminate() {}
  };

  const script = (inside, url) =>
    new Promise((loaded, failed) => {
      const element = inside.document.createElement("script");
      Object.assign(element, { src: url, onload: loaded, onerror: failed });
      inside.document.body.append(element);
    });
}
