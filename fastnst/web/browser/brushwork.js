// Faint strokes on a photograph, for a net to paint along: fastnst/brushwork.py for the browser, with other random numbers.
// Its comments say why. A map is a grey picture: its width and height in px, its numbers line by line.

const SIDE = 256, REACH = 8, WHIRLS = 4, CALM = 0.04;
const WAVES = 32;  // plane waves that make the hills and hollows

/** A picture, ImageData, with strokes whose standard deviation is `amount` of 255. */
export function brushed(picture, amount) {
  if (!amount) return picture;
  const { width, height, data } = picture, laid = strokes(picture), result = new ImageData(width, height);
  for (let i = 0; i < data.length; i++) result.data[i] = i % 4 === 3 ? data[i] : data[i] + amount * laid.data[i >> 2];
  return result;
}

/** Strokes for a picture, ImageData: a map of its size, standard deviation 1. */
export function strokes(picture) {
  const random = generator(0);
  const scale = Math.min(1, SIDE / Math.min(picture.width, picture.height));
  const grey = luminance(picture, Math.round(picture.width * scale), Math.round(picture.height * scale));
  const width = Math.ceil(grey.width / 2), height = Math.ceil(grey.height / 2);
  const at = (field, x, y) => sample(field, x, y, width, height);
  const [cosine, sine] = flow(grey, random), noise = smooth(map(width, height, () => normal(random)), 3);
  const laid = map(width, height, (x, y) => {
    let sum = noise.data[y * width + x];
    for (const sense of [1, -1]) {
      let [u, v, across, down] = [x, y, 0, 0];
      for (let step = 0; step < REACH; step++) {
        const angle = Math.atan2(at(sine, u, v), at(cosine, u, v)) / 2;
        let [dx, dy] = [Math.cos(angle), Math.sin(angle)];
        const turned = step ? dx * across + dy * down < 0 : sense < 0;
        if (turned) [dx, dy] = [-dx, -dy];
        [u, v, across, down] = [u + dx, v + dy, dx, dy];
        sum += at(noise, u, v);
      }
    }
    return sum;
  });
  const average = laid.data.reduce((a, b) => a + b) / laid.data.length;
  const deviation = Math.sqrt(laid.data.reduce((a, b) => a + (b - average) ** 2, 0) / laid.data.length);
  return map(picture.width, picture.height, (x, y) => sample(laid, x, y, picture.width, picture.height) / deviation);
}

/** The lines' direction at a quarter of the size: maps of the cosine and the sine of twice its angle. */
function flow(grey, random) {
  const width = Math.ceil(grey.width / 4), height = Math.ceil(grey.height / 4), short = Math.min(width, height);
  const small = map(width, height, (x, y) => mean(grey, 4 * x, 4 * y, 4 * x + 4, 4 * y + 4));
  const waves = Array.from({ length: WAVES }, () => {
    const angle = 2 * Math.PI * random(), rate = Math.PI * WHIRLS / short * (1 + 0.3 * normal(random));
    return [rate * Math.cos(angle), rate * Math.sin(angle), 2 * Math.PI * random()];
  });
  const hills = map(width, height, (x, y) => waves.reduce((sum, [a, b, phase]) => sum + Math.cos(a * x + b * y + phase), 0));
  const forms = structure(small).map(numbers => smooth(smooth(numbers, 5), 5)), whirls = structure(hills);
  const [cosine, sine] = [map(width, height, () => 0), map(width, height, () => 0)];
  for (let i = 0; i < cosine.data.length; i++) {
    const trace = Math.max(1e-12, whirls[0].data[i] + whirls[2].data[i]);
    const [xx, xy, yy] = forms.map((numbers, k) => numbers.data[i] + CALM ** 2 * whirls[k].data[i] / trace);
    const length = Math.max(1e-12, Math.hypot(yy - xx, 2 * xy));
    [cosine.data[i], sine.data[i]] = [(yy - xx) / length, -2 * xy / length];
  }
  return [cosine, sine];
}

/** The structure tensor's three numbers at each place, a map each. */
function structure({ width, height, data }) {
  const across = map(width, height, (x, y) => data[y * width + Math.min(x + 1, width - 1)] - data[y * width + x]);
  const down = map(width, height, (x, y) => data[Math.min(y + 1, height - 1) * width + x] - data[y * width + x]);
  const product = (a, b) => ({ width, height, data: a.data.map((value, i) => value * b.data[i]) });
  return [product(across, across), product(across, down), product(down, down)];
}

/** A picture's luminance in 0 to 1, reduced to width x height px. */
function luminance(picture, width, height) {
  const whole = new OffscreenCanvas(picture.width, picture.height), reduced = new OffscreenCanvas(width, height);
  whole.getContext("2d").putImageData(picture, 0, 0);
  const context = reduced.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return map(width, height, (x, y) => {
    const i = 4 * (y * width + x);
    return (0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]) / 255;
  });
}

function map(width, height, value) {
  const data = new Float32Array(width * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) data[y * width + x] = value(x, y);
  return { width, height, data };
}

/** The mean from (left, top) to before (right, bottom), of what lies in the map. */
function mean({ width, height, data }, left, top, right, bottom) {
  let sum = 0, count = 0;
  for (let y = Math.max(0, top); y < Math.min(height, bottom); y++) {
    for (let x = Math.max(0, left); x < Math.min(width, right); x++, count++) sum += data[y * width + x];
  }
  return sum / count;
}

function smooth(numbers, size) {
  const reach = size >> 1;
  return map(numbers.width, numbers.height, (x, y) => mean(numbers, x - reach, y - reach, x + reach + 1, y + reach + 1));
}

/** A map's value at (x, y) of a picture of across x down px, between four of its own; beyond the rim that of the rim. */
function sample({ width, height, data }, x, y, across, down) {
  x = Math.min(width - 1, Math.max(0, (x + 0.5) * width / across - 0.5));
  y = Math.min(height - 1, Math.max(0, (y + 0.5) * height / down - 0.5));
  const left = Math.floor(x), top = Math.floor(y), right = Math.min(width - 1, left + 1), bottom = Math.min(height - 1, top + 1);
  const above = data[top * width + left] * (left + 1 - x) + data[top * width + right] * (x - left);
  const below = data[bottom * width + left] * (left + 1 - x) + data[bottom * width + right] * (x - left);
  return above * (top + 1 - y) + below * (y - top);
}

/** Random numbers in 0 to 1, the same for each seed: a Weyl sequence, mixed (Steele, Lea and Flood 2014). */
function generator(seed) {
  return () => {
    seed = seed + 0x9e3779b9 | 0;
    let mixed = Math.imul(seed ^ seed >>> 16, 0x85ebca6b);
    mixed = Math.imul(mixed ^ mixed >>> 13, 0xc2b2ae35);
    return ((mixed ^ mixed >>> 16) >>> 0) / 2 ** 32;
  };
}

/** A normal number, by Box and Muller's formula. */
function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
