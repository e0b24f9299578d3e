// Beside the picture: the classes with their keys, and the image's masks.

const KEYS = [..."123456789", ..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"];

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function swatch(colour) {
  const made = element("span", "swatch");
  made.style.background = `rgb(${colour.join(" ")})`;
  return made;
}

export class Classes {
  constructor(list, field, picked, left) {
    Object.assign(this, {list, field, picked, left, names: []});
    field.addEventListener("input", () => this.filter());
    field.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) picked(this.names[Number(button.dataset.at)]);
    });
  }

  fill(names, colours) {
    this.names = names;
    this.list.replaceChildren(...names.map((name, at) => {
      const button = element("button", "class"), key = element("kbd", "", KEYS[at] ?? "");
      button.type = "button";
      button.dataset.at = at;
      button.title = name;
      button.append(swatch(colours[at]), element("span", "name", name), key);
      if (KEYS[at]) button.setAttribute("aria-keyshortcuts", at < 9 ? KEYS[at] : `Shift+${KEYS[at]}`);
      return button;
    }));
  }

  named(key) {
    return this.names[KEYS.indexOf(key)];
  }

  current(name) {
    this.pressed?.setAttribute("aria-pressed", false);
    this.pressed = this.list.children[this.names.indexOf(name)];
    this.pressed?.setAttribute("aria-pressed", true);
    this.pressed?.scrollIntoView({block: "nearest"});
  }

  filter() {
    const words = this.field.value.trim().toLowerCase();
    for (const button of this.list.children) {
      button.hidden = !this.names[Number(button.dataset.at)].toLowerCase().includes(words);
    }
    this.mark(this.matches()[0]);
  }

  // What Enter takes: names that begin with the words come first.
  matches() {
    const words = this.field.value.trim().toLowerCase();
    if (!words) return [];
    const begins = (button) => this.names[button.dataset.at].toLowerCase().startsWith(words) ? 0 : 1;
    return [...this.list.children].filter((button) => !button.hidden)
      .sort((a, b) => begins(a) - begins(b));
  }

  mark(button) {
    for (const one of this.list.children) one.classList.toggle("match", one === button);
    button?.scrollIntoView({block: "nearest"});
  }

  key(event) {
    const matches = this.matches(), at = matches.findIndex((one) => one.classList.contains("match"));
    const by = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (by && matches.length) {
      this.mark(matches[(at + by + matches.length) % matches.length]);
    } else if (event.key === "Enter") {
      if (matches.length) this.picked(this.names[matches[Math.max(0, at)].dataset.at]);
      this.clear();
    } else if (event.key === "Escape") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  clear() {
    this.field.value = "";
    this.filter();
    this.left();
  }
}

export class Masks {
  constructor(list, chosen) {
    this.list = list;
    list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) chosen(this.shown[Number(button.dataset.at)]);
    });
  }

  // Regions, then (where they are asked for) the dropped masks.
  fill(regions, candidates, chosen, colourOf) {
    this.shown = [...regions, ...candidates];
    this.list.replaceChildren(...this.shown.map((one, at) => {
      const button = element("button", at < regions.length ? "mask" : "mask dropped");
      button.type = "button";
      button.dataset.at = at;
      const who = {person: "by hand", prediction: "model"}[one.origin] ?? `stage ${one.origin}`;
      const sure = one.score === null ? "" : one.score.toFixed(2);
      button.append(swatch(colourOf(one.class_name)), element("span", "name", one.class_name),
        element("span", "origin", at < regions.length ? who : "dropped"),
        element("span", "score", sure));
      button.setAttribute("aria-pressed", one === chosen);
      return button;
    }));
    this.list.querySelector("[aria-pressed=true]")?.scrollIntoView({block: "nearest"});
  }
}
