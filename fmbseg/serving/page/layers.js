// What lies over the photograph: masks in their classes' colours, or the heat map of one word.

import { NONE } from "./answer.js";

const STOPS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis

// The colour of a fraction 0 to 1, as [red, green, blue].
function heat(fraction) {
  const place = Math.min(Math.max(fraction, 0), 1) * (STOPS.length - 1);
  const below = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[below].map((value, channel) => Math.round(value + (place - below) * (STOPS[below + 1][channel] - value)));
}

const packed = ([r, g, b]) => (r | (g << 8) | (b << 16) | (255 << 24)) >>> 0;

function painted(values, colourOf, width, height) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < values.length; at++) pixels[at] = colourOf[values[at]];
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").putImageData(image, 0, 0);
  return layer;
}

// The classes that are not hidden; pixels of no class stay clear.
export function masks({ labels, colours }, hidden, width, height) {
  const colourOf = new Uint32Array(NONE + 1);
  colours.forEach((colour, label) => hidden.has(label) || (colourOf[label] = packed(colour)));
  return painted(labels, colourOf, width, height);
}

// Levels from the least (violet) to the greatest (yellow) of this picture.
export function heatMap({ levels, least, most }, width, height) {
  const colourOf = Uint32Array.from({ length: 256 }, (_, level) => packed(heat((level - least) / Math.max(most - least, 1))));
  return painted(levels, colourOf, width, height);
}

export function ramp(canvas) {
  const pen = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    pen.fillStyle = `rgb(${heat(x / (canvas.width - 1)).join(" ")})`;
    pen.fillRect(x, 0, 1, 1);
  }
}

// A ring around a pixel, of the same size on the screen whatever the picture's.
export function crosshair(canvas, pen, x, y) {
  const unit = canvas.width / canvas.getBoundingClientRect().width;
  for (const [colour, wide] of [["black", 5], ["white", 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = wide * unit;
    pen.beginPath();
    pen.arc(x + 0.5, y + 0.5, 9 * unit, 0, 2 * Math.PI);
    pen.stroke();
  }
}
