// Sends a photograph and words to this page's own server, and shows the label map that it answers.

const by = (id) => document.getElementById(id);
const shown = by("shown").getContext("2d");
const NONE = 255;
let photo = null; // {file, bitmap}
let found = null; // what understood() makes of an answer
const hidden = new Set();

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
  found = null;
  by("shown").width = bitmap.width;
  by("shown").height = bitmap.height;
  draw();
  legend();
  await segment();
}

function post(query) {
  const type = photo.file.type.startsWith("image/") ? photo.file.type : "application/octet-stream";
  return fetch(`segment?${query}`, { method: "POST", body: photo.file, headers: { "Content-Type": type } });
}

async function segment() {
  if (!photo) {
    say("Choose a photograph first.");
    return;
  }
  const sent = photo;
  const query = new URLSearchParams(by("classes").value.trim() ? { classes: by("classes").value } : {});
  say("Looking …");
  const began = performance.now();
  try {
    const answers = await Promise.all([post(query), post(`format=confidence&${query}`)]);
    if (!answers[0].ok) {
      const { problem, found: was, wanted } = await answers[0].json();
      say(`${problem}: found ${was}; wanted ${wanted}`);
      return;
    }
    const read = await understood(answers[0], answers[1].ok ? answers[1] : null, query);
    if (sent !== photo) return; // another one was chosen meanwhile
    found = read;
  } catch {
    say("The server does not answer; is it still running?");
    return;
  }
  hidden.clear();
  draw();
  legend();
  say(`${found.present.length} of ${found.names.length} found in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  document.body.dataset.ready = String(Number(document.body.dataset.ready || 0) + 1);
}

// The label map's numbers: a browser shows colours only, which are those of the file's palette.
async function understood(answer, sure, query) {
  const names = JSON.parse(decodeURIComponent(answer.headers.get("X-Classes")));
  const png = await answer.blob();
  const bytes = new Uint8Array(await png.arrayBuffer());
  const colours = palette(bytes, names.length);
  const index = new Map(colours.map(([r, g, b], at) => [(r << 16) | (g << 8) | b, at]));
  const pixels = await rgba(png);
  const labels = new Uint8Array(pixels.length / 4);
  const counts = new Map();
  for (let at = 0; at < labels.length; at++) {
    const key = (pixels[4 * at] << 16) | (pixels[4 * at + 1] << 8) | pixels[4 * at + 2];
    const label = index.has(key) ? index.get(key) : NONE;
    labels[at] = label;
    counts.set(label, (counts.get(label) || 0) + 1);
  }
  const present = names.map((_, at) => at).filter((at) => counts.has(at));
  const confidence = sure && (await rgba(await sure.blob()));
  return { names, colours, labels, counts, present, confidence, png, query };
}

function palette(bytes, count) {
  const view = new DataView(bytes.buffer);
  for (let at = 8; at < bytes.length; at += 12 + view.getUint32(at)) {
    if (String.fromCharCode(...bytes.subarray(at + 4, at + 8)) === "PLTE") {
      return Array.from({ length: count }, (_, n) => [...bytes.subarray(at + 8 + 3 * n, at + 11 + 3 * n)]);
    }
  }
  throw new Error("a label map without a palette");
}

async function rgba(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

function draw() {
  const { width, height } = by("shown");
  shown.drawImage(photo.bitmap, 0, 0);
  if (!found) {
    by("shown").setAttribute("aria-label", "The photograph");
    return;
  }
  const layer = new ImageData(width, height);
  const alpha = Math.round(2.55 * by("opacity").value);
  found.labels.forEach((label, at) => {
    if (label === NONE || hidden.has(label)) return;
    layer.data.set(found.colours[label], 4 * at);
    layer.data[4 * at + 3] = alpha;
  });
  const over = new OffscreenCanvas(width, height);
  over.getContext("2d").putImageData(layer, 0, 0);
  shown.drawImage(over, 0, 0);
  const said = found.present.map((at) => found.names[at]).join(", ") || "nothing of the words";
  by("shown").setAttribute("aria-label", `The photograph with masks of: ${said}`);
}

function share(label) {
  return `${Math.round((100 * (found.counts.get(label) || 0)) / found.labels.length)} %`;
}

function legend() {
  by("legend").replaceChildren(...(found ? found.present.map(entry) : []));
  const never = found ? found.names.filter((_, at) => !found.counts.has(at)) : [];
  by("never").textContent = never.length ? `Nothing like this: ${never.join(", ")}` : "";
  for (const id of ["png", "coco"]) by(id).disabled = !found;
}

function entry(label) {
  const [item, row, box, swatch, text] = ["li", "label", "input", "canvas", "span"].map((kind) => document.createElement(kind));
  box.type = "checkbox";
  box.checked = true;
  box.addEventListener("change", () => {
    box.checked ? hidden.delete(label) : hidden.add(label);
    draw();
  });
  swatch.width = swatch.height = 1;
  const pen = swatch.getContext("2d");
  pen.fillStyle = `rgb(${found.colours[label].join(" ")})`;
  pen.fillRect(0, 0, 1, 1);
  text.textContent = `${found.names[label]}, ${share(label)}`;
  row.append(box, swatch, text);
  item.append(row);
  return item;
}

function point(event) {
  if (!found) return;
  const place = by("shown").getBoundingClientRect();
  const x = Math.floor(((event.clientX - place.left) / place.width) * by("shown").width);
  const y = Math.floor(((event.clientY - place.top) / place.height) * by("shown").height);
  const at = y * by("shown").width + x;
  if (!(at in found.labels)) return;
  const name = found.labels[at] === NONE ? "none of these" : found.names[found.labels[at]];
  const sure = found.confidence ? `, confidence ${Math.round(found.confidence[4 * at] / 2.55)} %` : "";
  by("below").textContent = name + sure;
}

function save(blob, end) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${(photo.file.name || "photo").replace(/\.[^.]*$/, "")}${end}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

by("asked").addEventListener("submit", (event) => {
  event.preventDefault();
  segment();
});
by("file").addEventListener("change", () => take(by("file").files[0]));
by("opacity").addEventListener("input", () => photo && draw());
by("shown").addEventListener("pointermove", point);
by("shown").addEventListener("pointerdown", point);
by("png").addEventListener("click", () => save(found.png, ".png"));
by("coco").addEventListener("click", async () => {
  const answer = await post(`format=coco&confidence=${Boolean(found.confidence)}&${found.query}`);
  if (answer.ok) save(await answer.blob(), ".json");
  else say("The server did not answer; try again.");
});
addEventListener("paste", (event) => take([...event.clipboardData.files][0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
fetch("classes")
  .then((answer) => answer.json())
  .then(({ classes }) => {
    by("classes").placeholder = classes.map((one) => [one.name, ...one.synonyms].join("=")).join(", ").slice(0, 200);
  });
