// Sends a photograph and words to this page's own server, and shows the label map that it answers.

import { NONE, labelMap, levels } from "./answer.js";
import { GONE, ownClasses, post, told, examples } from "./ask.js";
import { crosshair, heatMap, masks, ramp } from "./layers.js";

const by = (id) => document.getElementById(id);
const shown = by("shown");
const pen = shown.getContext("2d");
const hidden = new Set(); // labels whose masks are not shown
let photo = null; // {file, bitmap}
let found = null; // what labelMap() makes of an answer, with `confidence`, `query` and `groups`
let warm = null; // the word whose heat map is shown: {label, levels, least, most}
let layer = null; // canvas over the photograph
let pointer = null; // [x, y] that the arrow keys move
let asked = new AbortController();
let suggested = ""; // words of an example, which nobody typed
let own = []; // the server's own classes, as they are typed

function say(text) {
  by("said").textContent = text;
}

async function take(file) {
  if (!file) return;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    say(`${file.name || "This"} is not a picture that this browser can show.`);
    return;
  }
  photo = { file, bitmap };
  [found, layer, pointer] = [null, null, null];
  [shown.width, shown.height] = [bitmap.width, bitmap.height];
  shown.style.setProperty("--ratio", bitmap.width / bitmap.height);
  shown.hidden = false;
  by("empty").hidden = true;
  by("below").textContent = by("spoken").textContent = "";
  chill();
  legend();
  draw();
  await segment();
}

async function segment() {
  if (!photo) {
    say("Choose a photograph first.");
    return;
  }
  asked.abort(); // what was asked before is of no interest any more
  asked = new AbortController();
  const { signal } = asked;
  const words = by("classes").value.trim();
  const query = words ? { classes: words } : {};
  say("Looking …");
  const began = performance.now();
  let read;
  try {
    const [map, sure] = await Promise.all([post(photo.file, query, signal), post(photo.file, { ...query, format: "confidence" }, signal)]);
    if (!map.ok) {
      say(await told(map));
      return;
    }
    read = await labelMap(await map.blob(), JSON.parse(decodeURIComponent(map.headers.get("X-Classes"))));
    read.confidence = sure.ok ? await levels(await sure.blob()) : null;
  } catch {
    if (!signal.aborted) say(GONE);
    return;
  }
  if (signal.aborted) return;
  found = { ...read, query, groups: words ? words.split(",") : own };
  hidden.clear();
  chill();
  legend();
  cover();
  const seen = present().length;
  say(`${seen} of ${found.names.length} found in ${((performance.now() - began) / 1000).toFixed(2)} s`);
  document.body.dataset.ready = String(Number(document.body.dataset.ready || 0) + 1);
}

const present = () => found.names.map((_, label) => label).filter((label) => found.counts.has(label));

function cover() {
  const { width, height } = shown;
  layer = warm ? heatMap(warm, width, height) : masks(found, hidden, width, height);
  draw();
}

function draw() {
  pen.drawImage(photo.bitmap, 0, 0);
  if (layer) {
    pen.globalAlpha = by("opacity").value / 100;
    pen.drawImage(layer, 0, 0);
    pen.globalAlpha = 1;
  }
  if (pointer) crosshair(shown, pen, ...pointer);
  shown.setAttribute("aria-label", description());
}

function description() {
  if (!found) return "The photograph";
  if (warm) return `The photograph with the similarity of ${found.names[warm.label]}`;
  return `The photograph with masks of: ${present().map((label) => found.names[label]).join(", ") || "nothing of the words"}`;
}

function legend() {
  by("found").hidden = !found;
  const all = found ? found.names.map((_, label) => label) : [];
  by("legend").replaceChildren(...(found ? present().map(entry) : []));
  const never = all.filter((label) => !found.counts.has(label));
  by("missing").replaceChildren(...never.map(missing));
  by("never").hidden = !never.length;
}

const made = (kind, given = {}) => Object.assign(document.createElement(kind), given);

function entry(label) {
  const row = made("label");
  const box = made("input", { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    box.checked ? hidden.delete(label) : hidden.add(label);
    if (!warm) cover();
  });
  const swatch = made("canvas", { width: 1, height: 1 });
  const brush = swatch.getContext("2d");
  brush.fillStyle = `rgb(${found.colours[label].join(" ")})`;
  brush.fillRect(0, 0, 1, 1);
  const share = (100 * found.counts.get(label)) / found.labels.length;
  row.append(box, swatch, made("span", { textContent: `${found.names[label]}, ${share < 1 ? "under 1" : Math.round(share)} %` }));
  return item(label, row);
}

const missing = (label) => item(label, made("span", { textContent: found.names[label] }));

function item(label, first) {
  const button = made("button", { type: "button", textContent: "Heat map" });
  button.setAttribute("aria-label", `Heat map of ${found.names[label]}`);
  button.setAttribute("aria-pressed", "false");
  button.dataset.label = label;
  button.addEventListener("click", () => toggleHeat(label));
  const line = made("li");
  line.append(first, button);
  return line;
}

async function toggleHeat(label) {
  if (warm?.label === label) {
    chill();
    cover();
    return;
  }
  const of = found;
  const answer = await post(photo.file, { classes: of.groups[label], format: "similarity" }, asked.signal).catch(() => null);
  if (found !== of) return;
  if (!answer?.ok) {
    say(answer ? await told(answer) : GONE);
    return;
  }
  const cosines = await levels(await answer.blob());
  const [least, most] = cosines.reduce(([low, high], one) => [Math.min(low, one), Math.max(high, one)], [255, 0]);
  chill();
  warm = { label, levels: cosines, least, most };
  by("scale").hidden = false;
  by("range").textContent = `similarity of ${of.names[label]}: ${cosine(least)} to ${cosine(most)}`;
  document.querySelector(`button[data-label="${label}"]`).setAttribute("aria-pressed", "true");
  cover();
}

const cosine = (level) => ((level / 255) * 2 - 1).toFixed(2);

function chill() {
  warm = null;
  by("scale").hidden = true;
  for (const button of document.querySelectorAll("button[aria-pressed]")) button.setAttribute("aria-pressed", "false");
}

// The words of a pixel, such as "cat, confidence 87 %".
function pixel(x, y) {
  const at = y * shown.width + x;
  const name = found.labels[at] === NONE ? "none of these" : found.names[found.labels[at]];
  const sure = found.confidence ? `, confidence ${Math.round(found.confidence[at] / 2.55)} %` : "";
  return name + sure + (warm ? `, similarity of ${found.names[warm.label]} ${cosine(warm.levels[at])}` : "");
}

const within = (value, length) => Math.min(Math.max(Math.floor(value), 0), length - 1);

function point(event) {
  if (!found) return;
  const { left, top, width, height } = shown.getBoundingClientRect();
  const x = within(((event.clientX - left) / width) * shown.width, shown.width);
  const y = within(((event.clientY - top) / height) * shown.height, shown.height);
  by("below").textContent = pixel(x, y);
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function move(event) {
  if (!found || !(event.key in ARROWS)) return;
  event.preventDefault();
  const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(shown.width, shown.height) / 24));
  const [x, y] = pointer || [shown.width / 2, shown.height / 2];
  const [right, down] = pointer ? ARROWS[event.key] : [0, 0];
  pointer = [within(x + right * step, shown.width), within(y + down * step, shown.height)];
  by("below").textContent = by("spoken").textContent = pixel(...pointer);
  draw();
}

function save(blob, end) {
  const link = made("a", { href: URL.createObjectURL(blob) });
  link.download = `${(photo.file.name || "photo").replace(/\.[^.]*$/, "")}${end}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function saveCoco() {
  const answer = await post(photo.file, { ...found.query, format: "coco", confidence: Boolean(found.confidence) }).catch(() => null);
  if (answer?.ok) save(await answer.blob(), ".json");
  else say(answer ? await told(answer) : GONE);
}

function offer({ address, words }, number) {
  const button = made("button", { type: "button" });
  button.append(made("img", { src: address, alt: `Example: ${words}`, width: 64, height: 64 }));
  button.addEventListener("click", async () => {
    const box = by("classes");
    if (!box.value.trim() || box.value === suggested) box.value = suggested = words;
    const picture = await (await fetch(address)).blob();
    await take(new File([picture], `example-${number + 1}.png`, { type: picture.type }));
  });
  by("examples").append(button);
}

by("asked").addEventListener("submit", (event) => {
  event.preventDefault();
  segment();
});
by("file").addEventListener("change", () => take(by("file").files[0]));
by("opacity").addEventListener("input", draw);
by("png").addEventListener("click", () => save(found.png, ".png"));
by("coco").addEventListener("click", saveCoco);
shown.addEventListener("pointermove", point);
shown.addEventListener("pointerdown", point);
shown.addEventListener("keydown", move);
shown.addEventListener("blur", () => {
  pointer = null;
  draw();
});
addEventListener("paste", (event) => take([...event.clipboardData.files][0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
ramp(by("ramp"));
ownClasses().then((names) => {
  own = names;
  by("classes").placeholder = names.join(", ").slice(0, 200);
});
examples().then((some) => some.forEach(offer));
