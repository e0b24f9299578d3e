// One image under review: its regions, what can be done to them, undo and redo.
// Regions are never changed, only replaced, so that a state is a list of them.

import {area, contains, owners, parts, runsOf, without} from "./runs.js";

const FIRST = 1e12;  // weight of what a person added: before everything else, the last one first
let added = 0;

const own = (one, weight) => ({...one, weight: weight ?? FIRST + ++added});

export class Sheet {
  constructor(answer) {
    Object.assign(this, {
      image: answer.image, sizeHw: answer.size_hw, revision: answer.revision,
      accepted: answer.accepted, changed: answer.changed, history: answer.history,
    });
    this.pixels = this.sizeHw[0] * this.sizeHw[1];
    this.regions = answer.regions;
    this.own();
    const seen = this.seenAreas();
    this.regions = answer.regions.map(
      (one, i) => own(one, (1 - (one.score ?? 1)) * seen[i + 1] + seen[i + 1] / this.pixels));
    this.pool = [...this.regions, ...answer.candidates.map((one) => own(one, 0))];
    this.before = [];
    this.after = [];
    this.chosen = null;  // a region, or a candidate
    this.place = null;  // the pixel that was touched last
  }

  own() {
    this.owner = owners(this.regions, this.pixels);
  }

  seenAreas() {
    const areas = new Array(this.regions.length + 1).fill(0);
    for (const one of this.owner) areas[one]++;
    return areas;
  }

  // Regions in the order in which they are shown and gone through: the most doubtful pixels first.
  listed() {
    return [...this.regions].sort((a, b) => b.weight - a.weight);
  }

  // Masks of stage 1 that are no region now, the smallest first.
  candidates() {
    const taken = new Set(this.regions.map((one) => one.runs));
    this.areas ??= new Map(this.pool.map((one) => [one.runs, area(one.runs)]));
    return this.pool.filter((one) => !taken.has(one.runs))
      .sort((a, b) => this.areas.get(a.runs) - this.areas.get(b.runs));
  }

  isRegion(one = this.chosen) {
    return this.regions.includes(one);
  }

  // Choose what lies at a pixel: its region; touched again, the next one below, then the dropped
  // masks. Where no region is, the smallest dropped mask.
  touch(place, dropped) {
    const again = place !== null && this.place !== null && this.chosen !== null &&
      contains(this.chosen.runs, place) && this.nearby(place, this.place);
    this.place = place;
    if (place === null) {
      this.chosen = null;
      return;
    }
    const here = (one) => contains(one.runs, place);
    const offered = this.candidates().filter(here);
    const regions = this.regions.filter(here);
    const order = dropped ? [...offered, ...regions] : [...regions, ...offered];
    const at = again ? order.indexOf(this.chosen) + 1 : 0;
    this.chosen = order.length ? order[at % order.length] : null;
  }

  nearby(a, b) {
    const [height, width] = this.sizeHw;
    const dx = Math.floor(a / height) - Math.floor(b / height), dy = a % height - b % height;
    return Math.hypot(dx, dy) <= Math.max(2, (height + width) / 400);
  }

  // The next or the previous of some masks; the first one where none of them is chosen.
  step(masks, by) {
    const at = masks.indexOf(this.chosen);
    this.place = null;
    this.chosen = masks.length === 0 ? null :
      masks[at < 0 ? (by > 0 ? 0 : masks.length - 1) : (at + by + masks.length) % masks.length];
  }

  // Each change returns in a few words what was done; null where there was nothing to do.
  setClass(name) {
    const one = this.chosen;
    if (!one) return null;
    const made = {...one, class_name: name, origin: "person", score: null};
    if (this.isRegion()) {
      if (one.class_name === name && one.origin === "person") return null;
      return this.put(this.regions.map((other) => other === one ? made : other), made,
        one.class_name === name ? `${name} confirmed` : `${name} instead of ${one.class_name}`);
    }
    const added = own(made);
    return this.put([added, ...this.regions], added, `${name} from a dropped mask`);
  }

  remove() {
    if (!this.isRegion()) return null;
    const one = this.chosen, order = this.listed();
    const next = order[order.indexOf(one) + 1] ?? null;
    return this.put(
      this.regions.filter((other) => other !== one), next, `${one.class_name} deleted`);
  }

  // The pixels that are seen of the region become none of the classes.
  toNone() {
    if (!this.isRegion()) return null;
    const one = this.chosen, at = this.regions.indexOf(one);
    const seen = runsOf(this.owner.map((number) => number === at + 1 ? 1 : 0));
    const left = this.regions.flatMap((other, i) => {
      if (i === at) return [];
      if (i < at) return [other];
      const runs = without(other.runs, seen, this.pixels);
      return runs === null ? [] : area(runs) === area(other.runs) ? [other] : [{...other, runs}];
    });
    return this.put(left, null, `${one.class_name} to none of the classes`);
  }

  // The connected part that was touched, or else the largest but one, becomes a region of its own.
  splitOff() {
    if (!this.isRegion()) return null;
    const one = this.chosen, at = this.regions.indexOf(one);
    const found = parts(this.owner, at + 1, this.sizeHw);
    if (found.length < 2) return null;
    const part = found.find((places) => places.includes(this.place)) ?? found[1];
    const inside = new Uint8Array(this.pixels);
    for (const place of part) inside[place] = 1;
    const split = own({...one, runs: runsOf(inside)}, one.weight + 1);
    const rest = without(one.runs, split.runs, this.pixels);
    const kept = rest === null ? [] : [{...one, runs: rest}];
    return this.put([...this.regions.slice(0, at), split, ...kept, ...this.regions.slice(at + 1)],
      split, `a part of ${one.class_name} split off`);
  }

  // Dropped masks take the pixels without a label, with the classes that stage 1 gave them.
  fillGaps() {
    const taken = new Set(this.regions.map((one) => one.runs));
    const every = [...this.regions, ...this.pool.filter((one) => !taken.has(one.runs))];
    const used = new Set(owners(every, this.pixels));
    const added = every.slice(this.regions.length)
      .filter((_, i) => used.has(this.regions.length + i + 1));
    if (!added.length) return null;
    return this.put([...this.regions, ...added.map((one) => own(one))], this.chosen,
      `gaps filled with ${added.length} dropped masks`);
  }

  accept() {
    return this.put(this.regions, this.chosen, "accepted", true);
  }

  put(regions, chosen, what, accepted = false) {
    this.before.push({regions: this.regions, accepted: this.accepted, what});
    this.after = [];
    this.set(regions, accepted, chosen);
    return what;
  }

  set(regions, accepted, chosen) {
    const same = regions === this.regions;
    this.regions = regions;
    this.accepted = accepted;
    if (!same) this.own();
    this.chosen = chosen;
  }

  undo() {
    return this.travel(this.before, this.after, "undone");
  }

  redo() {
    return this.travel(this.after, this.before, "done again");
  }

  travel(from, to, word) {
    if (!from.length) return null;
    const {regions, accepted, what} = from.pop();
    to.push({regions: this.regions, accepted: this.accepted, what});
    const back = regions.find((one) => !this.regions.includes(one)) ?? null;
    this.set(regions, accepted, back);
    return `${word}: ${what}`;
  }
}
