// What the server answers, as numbers: a browser shows colours only.

export const NONE = 255;

// Labels of a palette PNG: class indices, NONE for none. names: of the classes, in order.
export async function labelMap(png, names) {
  const colours = palette(new Uint8Array(await png.arrayBuffer()), names.length);
  const labelOf = new Uint8Array(2 ** 24).fill(NONE);
  colours.forEach(([r, g, b], label) => (labelOf[r | (g << 8) | (b << 16)] = label));
  const pixels = new Uint32Array((await rgba(png)).buffer); // little-endian: alpha, blue, green, red
  const labels = new Uint8Array(pixels.length);
  const counts = new Map();
  const seen = new Float64Array(NONE + 1);
  for (let at = 0; at < labels.length; at++) seen[(labels[at] = labelOf[pixels[at] & 0xffffff])]++;
  seen.forEach((count, label) => count && counts.set(label, count));
  return { names, colours, labels, counts, png };
}

// Levels 0 to 255 of a grey PNG of 16 bits.
export async function levels(png) {
  const pixels = await rgba(png);
  return Uint8Array.from({ length: pixels.length / 4 }, (_, at) => pixels[4 * at]);
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
