// What the page asks the server, and how a change gets there whatever happens to the server.

const token = location.hash.slice(1);
const RETRY_MS = 1000;
export const namesPage = `/preview?token=${encodeURIComponent(token)}`;

export class Refused extends Error {
  constructor(status, answer) {
    super(answer.problem || `the server answered ${status}`);
    this.status = status;
    this.last = answer.last;
  }
}

async function ask(path, options = {}) {
  const headers = {"X-Token": token, ...options.headers};
  const answer = await fetch(path, {...options, headers, cache: "no-store"});
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

export const session = async () => (await ask("/api/session")).json();
export const queue = async () => (await ask("/api/queue")).json();
export const image = async (name) =>
  (await ask(`/api/image?name=${encodeURIComponent(name)}`)).json();

const picture = async (name) => createImageBitmap(
  await (await ask(`/api/picture?name=${encodeURIComponent(name)}`)).blob());

const both = (name) => Promise.all([image(name), picture(name)]);
let ahead = {};

// What there is of an image, and its picture.
export function opened(name) {
  const found = ahead.name === name ? ahead.found : both(name);
  ahead = {};
  return found;
}

// Ask for an image that is likely to be opened next.
export function prepare(name) {
  if (name === null || ahead.name === name) return;
  ahead = {name, found: both(name)};
  ahead.found.catch(() => { if (ahead.name === name) ahead = {}; });
}

// Sends one image's changes in order, each until the server has it on the disk.
export class Saver {
  constructor(say) {
    this.say = say;  // told "saving", "saved", or "retrying" and why
    this.waiting = null;
    this.sending = null;
  }

  get busy() {
    return this.sending !== null;
  }

  // Resolves once all changes are on the disk; rejects with Refused where the server says no.
  save(state, what, seconds) {
    const before = this.waiting;
    this.waiting = {
      state, what: before ? `${before.what}; ${what}` : what,
      seconds: seconds + (before ? before.seconds : 0),
    };
    if (!this.sending) this.sending = this.sendAll().finally(() => { this.sending = null; });
    return this.sending;
  }

  async sendAll() {
    let revision;
    while (this.waiting) {
      const {state, what, seconds} = this.waiting;
      this.waiting = null;
      this.say("saving");
      const body = JSON.stringify({
        image: state.image, revision: revision ?? state.revision, accepted: state.accepted,
        regions: state.regions.map(({class_name, runs, origin, score}) => ({class_name, runs, origin, score})),
        what: what.slice(0, 2000), seconds,
      });
      revision = await this.send(body);
    }
    this.say("saved");
    return revision;
  }

  async send(body) {
    const headers = {"Content-Type": "application/json"};
    for (;;) {
      try {
        const answer = await ask("/api/save", {method: "POST", headers, body});
        return (await answer.json()).revision;
      } catch (error) {
        if (error instanceof Refused && error.status < 500) {
          this.waiting = null;
          throw error;
        }
        this.say("retrying", error instanceof Refused ? error.message : "");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }
}

// Seconds that a person looks at the page: visible, in front, and not left alone.
export class Clock {
  constructor(idleMs = 60000) {
    this.total = 0;
    this.since = this.touched = performance.now();
    this.idleMs = idleMs;
    this.running = true;
    for (const kind of ["pointerdown", "pointermove", "keydown", "wheel"]) {
      addEventListener(kind, () => this.tick(true), {passive: true, capture: true});
    }
    for (const kind of ["focus", "blur", "visibilitychange"]) {
      (kind === "visibilitychange" ? document : window).addEventListener(kind, () => this.tick());
    }
  }

  tick(touched = false) {
    const now = performance.now();
    if (this.running) this.total += Math.max(0, Math.min(now, this.touched + this.idleMs) - this.since);
    this.since = now;
    if (touched) this.touched = now;
    this.running = document.visibilityState === "visible" && document.hasFocus();
  }

  // Seconds since the last call.
  take() {
    this.tick();
    const seconds = this.total / 1000;
    this.total = 0;
    return Math.round(seconds * 10) / 10;
  }
}
