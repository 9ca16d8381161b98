// Sizes that the model can make, and the shapes to choose from.

const RATIOS = [[1, 1], [4, 3], [3, 4], [3, 2], [2, 3], [16, 9], [9, 16]];

// How far a shape may be from the wanted one, as a factor's logarithm.
const TOLERANCE = 0.12;

// How far its area may be from the model's own, as a factor.
const AREA = 2;

/** One size for each shape: about the default's area, sides that are allowed. */
export function shapes(limits) {
  const found = new Map();
  for (const [across, up] of RATIOS) {
    const best = nearest(across / up, limits);
    if (!best) continue;
    const value = `${best.width}x${best.height}`;
    if (!found.has(value)) found.set(value, { ...best, value, name: name(best, across, up) });
  }
  return [...found.values()];
}

function nearest(ratio, limits) {
  const { size_step: step, min_side: least, max_side: most, max_pixels: pixels } = limits;
  const area = limits.width * limits.height;
  if (ratio === 1 && limits.width === limits.height) {
    return { width: limits.width, height: limits.height };
  }
  let best = null;
  for (let width = Math.ceil(least / step) * step; width <= most; width += step) {
    for (let height = Math.ceil(least / step) * step; height <= most; height += step) {
      const shape = Math.abs(Math.log(width / height / ratio));
      const scale = Math.abs(Math.log((width * height) / area));
      if (width * height > pixels || shape > TOLERANCE || scale > Math.log(AREA) + 1e-9) continue;
      const cost = 4 * shape + scale;
      if (!best || cost < best.cost - 1e-9) best = { width, height, cost };
    }
  }
  return best;
}

function name({ width, height }, across, up) {
  const divide = (one, other) => (other ? divide(other, one % other) : one);
  const common = divide(width, height);
  const terms = [width / common, height / common];
  return Math.max(...terms) <= 4 ? terms.join(":") : `${across}:${up}`;
}

/** Why a size is not possible, as a key of a text with its values; null where it is. */
export function sizeProblem(width, height, limits) {
  const { size_step: step, min_side: least, max_side: most, max_pixels: pixels } = limits;
  const isSide = (side) =>
    Number.isInteger(side) && side % step === 0 && side >= least && side <= most;
  if (!isSide(width) || !isSide(height)) {
    return ["size-step", { step, least, most: most - (most % step) }];
  }
  return width * height > pixels ? ["size-pixels", { most: pixels, count: width * height }] : null;
}
