// Masks as run lengths: background and foreground in turn, column by column, as the server has
// them. A pixel's place is x * height + y.

// Number (from 1) of the first region over each pixel, 0 where there is none.
export function owners(regions, pixels) {
  const owner = new Uint16Array(pixels);
  for (let i = regions.length - 1; i >= 0; i--) {
    eachRun(regions[i].runs, (from, to) => owner.fill(i + 1, from, to));
  }
  return owner;
}

function eachRun(runs, use) {
  for (let i = 0, at = 0; i < runs.length; at += runs[i++]) {
    if (i % 2 && runs[i]) use(at, at + runs[i]);
  }
}

export function contains(runs, place) {
  let i = 0;
  for (let at = runs[0]; at <= place; at += runs[i]) i++;
  return i % 2 === 1;
}

export function area(runs) {
  return runs.reduce((sum, length, i) => sum + (i % 2 ? length : 0), 0);
}

export function insideOf(runs, pixels) {
  const inside = new Uint8Array(pixels);
  eachRun(runs, (from, to) => inside.fill(1, from, to));
  return inside;
}

export function runsOf(inside) {
  const runs = [];
  let value = 0, from = 0;
  for (let i = 0; i <= inside.length; i++) {
    if (i === inside.length || inside[i] !== value) {
      runs.push(i - from);
      from = i;
      value ^= 1;
    }
  }
  return runs;
}

// The mask without those pixels of another one; null where none is left.
export function without(runs, other, pixels) {
  const inside = insideOf(runs, pixels);
  eachRun(other, (from, to) => inside.fill(0, from, to));
  const left = runsOf(inside);
  return area(left) ? left : null;
}

// Connected parts (8 neighbours) of the pixels of a number, the largest first.
export function parts(owner, number, [height, width]) {
  const seen = new Uint8Array(owner.length), found = [];
  for (let start = 0; start < owner.length; start++) {
    if (owner[start] !== number || seen[start]) continue;
    const places = [start];
    seen[start] = 1;
    for (let next = 0; next < places.length; next++) {
      const x = Math.floor(places[next] / height), y = places[next] % height;
      for (let i = Math.max(0, x - 1); i <= Math.min(width - 1, x + 1); i++) {
        for (let j = Math.max(0, y - 1); j <= Math.min(height - 1, y + 1); j++) {
          const place = i * height + j;
          if (owner[place] === number && !seen[place]) {
            seen[place] = 1;
            places.push(place);
          }
        }
      }
    }
    found.push(places);
  }
  return found.sort((a, b) => b.length - a.length);
}

// Outlines of equal values as lines between pixels, in px of the image, within a part of it.
// closed: whether what the image's border cuts has an outline there.
export function outline(values, [height, width], [left, top, right, bottom], closed) {
  const path = new Path2D(), edge = closed ? 0 : 1;
  const value = (x, y) => x < 0 || y < 0 || x >= width || y >= height ? 0 : values[x * height + y];
  const lines = (firstLine, lastLine, first, last, differs, draw) => {
    for (let line = firstLine; line <= lastLine; line++) {
      for (let at = first, from = -1; at <= last; at++) {
        const here = at < last && differs(line, at);
        if (here && from < 0) from = at;
        if (!here && from >= 0) {
          draw(line, from, at);
          from = -1;
        }
      }
    }
  };
  lines(Math.max(edge, left), Math.min(width - edge, right), top, bottom,
    (x, y) => value(x - 1, y) !== value(x, y), (x, from, to) => {
      path.moveTo(x, from);
      path.lineTo(x, to);
    });
  lines(Math.max(edge, top), Math.min(height - edge, bottom), left, right,
    (y, x) => value(x, y - 1) !== value(x, y), (y, from, to) => {
      path.moveTo(from, y);
      path.lineTo(to, y);
    });
  return path;
}
