// The list of images: only the rows that are seen are in the page, however many there are.

const ROW_PX = 36;
const MARKS = {accepted: "✓", draft: "✎", changed: "!"};
const TODO = (state) => state !== "accepted";

export class Queue {
  // Told: the name of the image that was chosen; that the person leaves the list for it.
  constructor(list, opened, left) {
    this.list = list;
    this.rows = list.firstElementChild;
    Object.assign(this, {opened, left});
    this.images = [];
    this.states = {};
    this.current = null;
    this.only = () => true;
    list.addEventListener("scroll", () => this.draw(), {passive: true});
    list.addEventListener("keydown", (event) => this.key(event));
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest("[data-at]");
      if (!row) return;
      left();
      opened(this.shown[Number(row.dataset.at)][0]);
    });
    new ResizeObserver(() => this.draw()).observe(list);
  }

  fill({images, states, waiting}) {
    Object.assign(this, {images, states, waiting});
    this.filter();
  }

  // Show the images of some state whose names hold some words.
  filter(only = this.only, words = this.words ?? "") {
    Object.assign(this, {only, words});
    const folded = words.toLowerCase();
    this.shown = this.images.filter(
      ([name]) => only(this.states[name]) && name.toLowerCase().includes(folded));
    this.places = new Map(this.images.map(([name], at) => [name, at]));
    this.rows.style.height = `${this.shown.length * ROW_PX}px`;
    this.drawn = null;
    this.draw();
  }

  mark(name, state) {
    this.states[name] = state;
    this.drawn = null;
    this.draw();
  }

  select(name) {
    this.current = name;
    const at = this.shown.findIndex(([one]) => one === name);
    if (at >= 0) {
      const top = at * ROW_PX, {scrollTop, clientHeight} = this.list;
      if (top < scrollTop || top + ROW_PX > scrollTop + clientHeight) {
        this.list.scrollTop = Math.max(0, top - clientHeight / 2);
      }
    }
    this.drawn = null;
    this.draw();
  }

  // Name of the next image in that direction, round the end; null where there is none.
  next(by, todo = false) {
    const from = this.places.get(this.current) ?? (by > 0 ? -1 : 0), number = this.images.length;
    for (let i = 1; i <= number; i++) {
      const name = this.images[(from + by * i + number * 2) % number][0];
      if (name !== this.current && (!todo || TODO(this.states[name]))) return name;
    }
    return null;
  }

  counts() {
    const states = Object.values(this.states);
    return {
      all: this.images.length, accepted: states.filter((one) => one === "accepted").length,
      draft: states.filter((one) => one !== "accepted").length, waiting: this.waiting,
    };
  }

  key(event) {
    const by = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!by && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    if (!by) return this.left();
    const next = this.shown[this.shown.findIndex(([one]) => one === this.current) + by];
    if (next) this.opened(next[0]);
  }

  draw() {
    const {scrollTop, clientHeight} = this.list;
    const first = Math.max(0, Math.floor(scrollTop / ROW_PX) - 4);
    const last = Math.min(this.shown?.length ?? 0, Math.ceil((scrollTop + clientHeight) / ROW_PX) + 4);
    if (this.drawn === `${first}-${last}`) return;
    this.drawn = `${first}-${last}`;
    const rows = [];
    for (let at = first; at < last; at++) rows.push(this.row(at, ...this.shown[at]));
    this.rows.replaceChildren(...rows);
    const selected = rows.find((row) => row.getAttribute("aria-selected") === "true");
    if (selected) this.list.setAttribute("aria-activedescendant", selected.id);
    else this.list.removeAttribute("aria-activedescendant");
  }

  row(at, name, doubt) {
    const row = document.createElement("div"), state = this.states[name];
    row.id = `image-${at}`;
    row.className = `row ${state ?? ""}`;
    row.style.top = `${at * ROW_PX}px`;
    row.dataset.at = at;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", name === this.current);
    row.setAttribute("aria-setsize", this.shown.length);
    row.setAttribute("aria-posinset", at + 1);
    row.title = name;
    const parts = {mark: MARKS[state] ?? "", name, doubt: doubt === null ? "" : doubt.toFixed(2)};
    for (const [kind, text] of Object.entries(parts)) {
      const part = document.createElement("span");
      part.className = kind;
      part.textContent = text;
      row.append(part);
    }
    row.children[0].setAttribute("aria-label", state ?? "to do");
    if (doubt !== null) row.style.setProperty("--doubt", doubt);
    return row;
  }
}
