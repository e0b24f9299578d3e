// What is shown of an image under review: the picture, its masks, what can be done.

import {Classes, Masks} from "./panel.js";
import {at} from "./shell.js";
import {View} from "./view.js";

const UNKNOWN = [150, 150, 150], GAP = [0, 0, 0, 0.9], DIMMED = 0.15;
export const DOUBTFUL = 0.7;

export class Display {
  // Told: the place of the pixel that was touched; the name of a class, or the mask, that was chosen.
  constructor(touched, classChosen, maskChosen) {
    this.view = new View(at("picture"), touched);
    this.classes = new Classes(at("classes"), at("search"), classChosen, () => at("picture").focus());
    this.masks = new Masks(at("masks"), maskChosen);
    this.colours = new Map();
    this.dropped = this.doubtful = this.hidden = false;
    at("opacity").addEventListener("input", () => {
      this.hidden = false;
      this.fade();
    });
  }

  name(classes, colours) {
    this.colours = new Map(classes.map((name, i) => [name, colours[i]]));
    this.classes.fill(classes, colours);
  }

  colourOf(name) {
    return this.colours.get(name) ?? UNKNOWN;
  }

  // Whether a region is shown in full, and gone through with the arrows.
  seen(one, chosen) {
    return !this.doubtful || (one.score ?? 1) < DOUBTFUL || one === chosen;
  }

  listed(sheet) {
    return sheet.listed().filter((one) => this.seen(one, sheet.chosen));
  }

  // Masks through which the arrows go.
  choice(sheet) {
    return this.dropped ? sheet.candidates() : this.listed(sheet);
  }

  // painted: whether more than the chosen mask is another one than before.
  show(sheet, painted = true) {
    const one = sheet.chosen, region = sheet.isRegion(), {regions, owner} = sheet;
    if (painted) {
      this.view.paint(owner, [GAP, ...regions.map(
        (other) => [...this.colourOf(other.class_name), this.seen(other, one) ? 1 : DIMMED])]);
    }
    const number = region ? regions.indexOf(one) + 1 : 0;
    this.view.select(one?.runs, owner, number, one !== null && !region);
    const candidates = sheet.candidates();
    this.masks.fill(this.listed(sheet), this.dropped || (one && !region) ? candidates : [], one,
      (name) => this.colourOf(name));
    this.classes.current(one?.class_name);
    at("label").hidden = !one;
    at("label").textContent = !one ? "" : region ? one.class_name : `dropped mask: ${one.class_name}?`;
    at("masks-title").textContent = `${regions.length} masks, ${candidates.length} dropped`;
    const state = sheet.accepted ? "accepted" : sheet.revision ? "draft" : "";
    at("state").textContent = state || "not reviewed";
    at("state").className = state;
    for (const name of ["dropped", "doubtful"]) {
      document.querySelector(`[data-do=${name}]`).setAttribute("aria-pressed", this[name]);
    }
    const able = {undo: sheet.before.length, redo: sheet.after.length,
      split: region, remove: region, none: region};
    for (const [name, on] of Object.entries(able)) {
      document.querySelector(`[data-do=${name}]`).disabled = !on;
    }
  }

  fade(by = 0) {
    const range = at("opacity");
    if (by) this.hidden = false;
    range.value = Number(range.value) + by;
    this.view.opacity = this.hidden ? 0 : Number(range.value) / 100;
    this.view.draw();
  }

  clear() {
    this.view.bitmap = null;
    this.view.draw();
  }
}
