// The picture with its masks over it: drawing, zooming, and which pixel was touched.

import {insideOf, outline} from "./runs.js";

const TAP_PX = 6, MOST_OVERLAY_PIXELS = 4e6, MARGIN_PX = 16;
const EDGE = 0xd0000000, FINE = 1.5;  // from so many px a pixel on outlines are drawn as lines

export class View {
  constructor(canvas, touched) {
    this.canvas = canvas;
    this.touched = touched;  // told the place of the pixel, or null beside the picture
    this.opacity = 0.45;
    this.bitmap = null;
    this.pointers = new Map();
    new ResizeObserver(() => this.resized()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => this.up(event));
    }
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    }, {passive: false});
  }

  // Show another picture, whole.
  show(bitmap, sizeHw) {
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.sizeHw = sizeHw;
    this.fit();
  }

  // Masks: number of the region at each pixel; a colour [r, g, b, share of the opacity] a number.
  paint(owner, colours) {
    const [height, width] = this.sizeHw;
    const step = Math.ceil(Math.sqrt(height * width / MOST_OVERLAY_PIXELS));
    const size = [Math.ceil(width / step), Math.ceil(height / step)];
    const fill = new ImageData(...size), edge = new ImageData(...size);
    const filled = new Uint32Array(fill.data.buffer), edges = new Uint32Array(edge.data.buffer);
    const rgba = colours.map(([r, g, b, a]) => (Math.round(a * 255) << 24 | b << 16 | g << 8 | r) >>> 0);
    for (let x = 0; x < size[0]; x++) {
      const down = step < height ? step : 0, across = x + 1 < size[0] ? step * height : 0;
      for (let y = 0, at = x * step * height; y < size[1]; y++, at += step) {
        const one = owner[at], place = y * size[0] + x;
        filled[place] = rgba[one];
        if (one !== owner[at + across] || y + 1 < size[1] && one !== owner[at + down]) {
          edges[place] = EDGE;
        }
      }
    }
    const layer = (pixels) => {
      const made = new OffscreenCanvas(...size);
      made.getContext("2d").putImageData(pixels, 0, 0);
      return made;
    };
    this.layers = {fill: layer(fill), edge: layer(edge), owner};
    this.draw();
  }

  // The mask that is chosen: pixels of its run lengths, or those that are seen of a region's number.
  select(runs, owner, number, dashed) {
    this.chosen = null;
    if (runs) {
      let inside = new Uint8Array(owner.length), seen = 0;
      for (let i = 0; number && i < owner.length; i++) seen += inside[i] = owner[i] === number ? 1 : 0;
      if (!seen) inside = insideOf(runs, owner.length);
      this.chosen = {inside, dashed};
    }
    this.draw();
  }

  draw() {
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.drawNow();
      });
    }
  }

  drawNow() {
    const context = this.canvas.getContext("2d"), ratio = devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.bitmap) return;
    const [height, width] = this.sizeHw, scale = this.scale * ratio;
    context.setTransform(scale, 0, 0, scale, this.x * ratio, this.y * ratio);
    context.imageSmoothingEnabled = this.scale < 8;
    context.drawImage(this.bitmap, 0, 0, width, height);
    const stroke = (path, colour, px, dash = []) => {
      context.strokeStyle = colour;
      context.lineWidth = px / this.scale;
      context.setLineDash(dash.map((one) => one / this.scale));
      context.stroke(path);
    };
    context.lineCap = "round";
    const part = this.visible();
    if (this.layers && this.opacity > 0) {
      context.imageSmoothingEnabled = this.scale < FINE;
      context.globalAlpha = this.opacity;
      context.drawImage(this.layers.fill, 0, 0, width, height);
      context.globalAlpha = 1;
      if (this.scale < FINE) {
        context.drawImage(this.layers.edge, 0, 0, width, height);
      } else {
        const lines = outline(this.layers.owner, this.sizeHw, part, false);
        stroke(lines, "#000b", 2.5);
        stroke(lines, "#fff9", 1);
      }
    }
    if (this.chosen) {
      const {inside, dashed} = this.chosen, lines = outline(inside, this.sizeHw, part, true);
      stroke(lines, "#000", 6);
      stroke(lines, dashed ? "#ffd75e" : "#fff", 3, dashed ? [8, 6] : []);
    }
  }

  // Left, top, right and bottom of what is seen of the picture, px of it.
  visible() {
    const [height, width] = this.sizeHw, {clientWidth, clientHeight} = this.canvas;
    return [
      Math.max(0, Math.floor(-this.x / this.scale)), Math.max(0, Math.floor(-this.y / this.scale)),
      Math.min(width, Math.ceil((clientWidth - this.x) / this.scale)),
      Math.min(height, Math.ceil((clientHeight - this.y) / this.scale)),
    ];
  }

  fit() {
    const [height, width] = this.sizeHw, {clientWidth, clientHeight} = this.canvas;
    this.scale = Math.min(
      (clientWidth - 2 * MARGIN_PX) / width, (clientHeight - 2 * MARGIN_PX) / height);
    this.fitted = this.scale;
    this.x = (clientWidth - width * this.scale) / 2;
    this.y = (clientHeight - height * this.scale) / 2;
    this.draw();
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    if (!this.bitmap) return;
    const scale = Math.min(64, Math.max(this.fitted / 4, this.scale * factor));
    this.x = x - (x - this.x) * scale / this.scale;
    this.y = y - (y - this.y) * scale / this.scale;
    this.scale = scale;
    this.draw();
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.draw();
  }

  resized() {
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.bitmap) this.fit();
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    if (!this.pointers.size) this.dragged = 0;
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  }

  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.offsetX, event.offsetY];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.dragged += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (other) {
      const far = (one) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
      this.zoom(far(now) / far(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      this.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      this.dragged = Infinity;
    } else if (this.dragged > TAP_PX) {
      this.pan(now[0] - before[0], now[1] - before[1]);
    }
    this.pointers.set(event.pointerId, now);
  }

  up(event) {
    const known = this.pointers.delete(event.pointerId);
    if (!known || event.type === "pointercancel" || this.dragged > TAP_PX || !this.bitmap) return;
    const [height, width] = this.sizeHw;
    const x = Math.floor((event.offsetX - this.x) / this.scale);
    const y = Math.floor((event.offsetY - this.y) / this.scale);
    const inside = x >= 0 && y >= 0 && x < width && y < height;
    this.touched(inside ? x * height + y : null);
  }
}
