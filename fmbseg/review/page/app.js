// The page: what keys and buttons do to the image under review, and to the queue of images.

import {Display, DOUBTFUL} from "./display.js";
import {explain, listen} from "./keyboard.js";
import {Queue} from "./queue.js";
import {Sheet} from "./sheet.js";
import {Clock, Refused, Saver} from "./server.js";
import * as server from "./server.js";
import {at, counted, drawer, filters, notice, said} from "./shell.js";

let sheet = null, opening = 0;  // the image under review; none while another one is fetched
const clock = new Clock(), saver = new Saver(said);
const queue = new Queue(at("images"), open, leaveList);
const display = new Display(
  (place) => (drawer(false), choose(() => sheet.touch(place, display.dropped))), assign,
  (one) => choose(() => Object.assign(sheet, {place: null, chosen: one})));

// Key (or keys) of every command, what the help says, what it does.
const COMMANDS = {
  accept: ["Enter", "accept the image and go to the next one to do", accept],
  skip: ["x", "next image to do, without accepting", () => go(1, true)],
  next: ["n PageDown", "next image", () => go(1)],
  previous: ["p PageUp", "previous image", () => go(-1)],
  forward: ["ArrowRight ArrowDown", "next mask, the most doubtful first", () => step(1)],
  back: ["ArrowLeft ArrowUp", "previous mask", () => step(-1)],
  search: ["/", "type a class", () => (at("search").focus(), at("search").select())],
  split: ["s", "split off the part that was touched, or the largest but one",
    () => change(() => sheet.splitOff(), "the mask is one part; nothing was split off")],
  remove: ["Delete Backspace", "delete the mask; what lies below it shows",
    () => change(() => sheet.remove())],
  none: ["0", "its pixels belong to none of the classes", () => change(() => sheet.toNone())],
  dropped: ["c", "dropped masks: choose among them with arrows or touch", () => {
    display.dropped = !display.dropped;
    display.show(sheet);
  }],
  take: [" ", "take the dropped mask with the class that stage 1 gave it", () => {
    if (sheet.chosen && !sheet.isRegion()) assign(sheet.chosen.class_name);
  }],
  gaps: ["g", "dropped masks fill the pixels without a label",
    () => change(() => sheet.fillGaps(), "no dropped mask lies where a label is missing")],
  undo: ["z", "undo", () => change(() => sheet.undo(), "nothing to undo here")],
  redo: ["y", "redo", () => change(() => sheet.redo(), "nothing to redo")],
  doubtful: ["d", `show masks with confidence below ${DOUBTFUL} only`, () => {
    display.doubtful = !display.doubtful;
    display.show(sheet);
  }],
  hide: ["h", "hide the masks, show them again", () => {
    display.hidden = !display.hidden;
    display.fade();
  }],
  paler: ["[", "paler masks", () => display.fade(-10)],
  stronger: ["]", "stronger masks", () => display.fade(10)],
  larger: ["+ =", "zoom in", () => display.view.zoom(1.4)],
  smaller: ["-", "zoom out", () => display.view.zoom(1 / 1.4)],
  fit: ["f", "the whole picture", () => display.view.fit()],
  queue: ["q", "the list of images, and back",
    () => document.activeElement === at("images") ? leaveList() : drawer(true)],
  deselect: ["Escape", "choose no mask", () => {
    sheet.chosen = null;
    drawer(false);
    display.show(sheet);
  }],
  help: ["?", "this list", () => at("help").showModal()],
  dismiss: ["", "", () => notice("")],
};
const NEEDS_NO_IMAGE = ["help", "queue", "dismiss", "next", "previous", "skip"];

function run(name) {
  if (sheet || NEEDS_NO_IMAGE.includes(name)) COMMANDS[name][2]();
}

listen(COMMANDS, run, (key) => {
  const name = display.classes.named(key);
  if (name !== undefined) assign(name);
  return name !== undefined;
}, at("help"));
filters(queue);
document.addEventListener("click", ({detail, target}) => {
  if (detail && target.closest("button")) at("picture").focus();  // keys go on after a click
});
addEventListener("focus", () => refresh());

function leaveList() {
  drawer(false);
  at("picture").focus();
}

function choose(make) {
  if (!sheet) return;
  make();
  display.show(sheet, false);
}

function step(by) {
  choose(() => sheet.step(display.choice(sheet), by));
}

function assign(name) {
  if (sheet && !sheet.chosen) notice("Choose a mask first: an arrow key, or a touch.");
  else if (sheet) change(() => sheet.setClass(name));
}

function change(make, nothing = "") {
  const what = make();
  display.show(sheet);
  if (what === null) {
    if (nothing) notice(nothing);
    return Promise.resolve(false);
  }
  notice("");
  return save(what);
}

// True once the image is on the disk as it is shown.
async function save(what) {
  const mine = sheet;
  try {
    mine.revision = await saver.save(mine, what, clock.take());
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const {last, status} = error;
    const who = last ? `${last.by} saved this image meanwhile (${last.what}, ${last.at})` : error.message;
    await load(mine.image);
    notice(`Not saved: ${what}. ${who}.${status === 409 ? " Here is the image as it is now." : ""}`);
    said("reloaded");
    return false;
  }
  mine.changed = false;
  mark(mine);
  counted(queue.counts());
  if (sheet === mine) display.show(sheet, false);
  return true;
}

function mark(one) {
  queue.mark(one.image, one.accepted ? "accepted" : "draft");
}

async function accept() {
  const mine = sheet;
  if (await change(() => sheet.accept()) && sheet === mine) go(1, true);
}

function go(by, todo = false) {
  const name = queue.next(by, todo);
  if (name === null) notice(todo ? "Nothing is left to do: all images are accepted." : "There is no other image.");
  else open(name);
}

// Another image; one whose change is not on the disk yet is not left.
async function open(name) {
  if (saver.busy) {
    notice("The last change is not on the disk yet; this image stays until it is.");
    return;
  }
  notice("");
  if (await load(name) && document.activeElement !== at("images")) at("picture").focus();
}

async function load(name) {
  const number = ++opening;
  sheet = null;
  queue.select(name);
  at("name").textContent = name;
  try {
    const [answer, bitmap] = await server.opened(name);
    if (number !== opening) return false;
    sheet = new Sheet(answer);
    display.view.show(bitmap, sheet.sizeHw);
  } catch (error) {
    if (number !== opening) return false;
    display.clear();
    notice(error instanceof Refused ? error.message : "The server does not answer; it may have ended.");
    return false;
  }
  clock.take();
  said(sheet.revision ? "saved" : "");
  if (sheet.changed) {
    notice("This picture changed since it was corrected: here are the masks of stage 1. What was " +
      "corrected on the other picture is replaced once you change or accept this one.");
  }
  display.show(sheet);
  server.prepare(queue.next(1, true));
  return true;
}

// What others did meanwhile, when the person comes back to the page.
async function refresh() {
  if (!sheet || saver.busy) return;
  try {
    const mine = sheet, answer = await server.image(mine.image);
    queue.fill(await server.queue());
    if (mine.revision > answer.revision) mark(mine);  // saved while the others were asked for
    counted(queue.counts());
    if (sheet === mine && !saver.busy && answer.revision > mine.revision) {
      await load(mine.image);
      notice("This image was changed elsewhere; here it is as it is now.");
    }
  } catch { /* the next change says so */ }
}

async function begin() {
  explain(COMMANDS, at("keys"), [["1–9 Shift+A–Z", "give the chosen mask this class"]]);
  try {
    const [about, found] = await Promise.all([server.session(), server.queue()]);
    at("names").href = server.namesPage;
    document.title = at("workspace").textContent = `Review: ${about.workspace}`;
    display.name(about.classes, about.colours);
    queue.fill(found);
    counted(queue.counts());
    const first = queue.next(1, true) ?? queue.next(1);
    if (first === null) notice("There is no image to review yet.");
    else await open(first);
  } catch (error) {
    notice(error instanceof Refused ? error.message : "The server does not answer; it may have ended.");
  }
  document.body.dataset.ready = "yes";
}

begin();
