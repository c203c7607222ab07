// A spectrogram that scrolls: columns of 10 ms, computed once each and kept in a ring.

const COLUMNS_PER_SECOND = 100;
const WINDOW_SECONDS = 0.032; // as in the reports; the next power of two
const DEPTH_DB = 65; // from the brightest to the darkest colour
const COLOURS = ["#000004", "#1d1147", "#51127c", "#832681", "#b73779", "#e75263", "#fc8961", "#fec488", "#fcfdbf"];
const PALETTE = palette(COLOURS);

export class Spectrogram {
  // `seconds`: the longest window that is shown at once.
  constructor(canvas, sampleRate, seconds) {
    this.canvas = canvas;
    this.sampleRate = sampleRate;
    this.hop = sampleRate / COLUMNS_PER_SECOND;
    this.spectrum = new Spectrum(2 ** Math.ceil(Math.log2(WINDOW_SECONDS * sampleRate)));
    this.numBins = this.spectrum.size / 2;
    this.numSlots = Math.ceil(seconds * COLUMNS_PER_SECOND) + 2;
    this.columns = new Int32Array(this.numSlots).fill(-1); // which column a slot of the ring holds
    this.levels = new Float32Array(this.numSlots * this.numBins); // dB
    this.ring = Object.assign(document.createElement("canvas"), { width: this.numSlots, height: this.numBins });
    this.image = new ImageData(1, this.numBins);
  }

  // Shows `samples` times a gain from second `from` to second `to`; `topDb` is drawn brightest. Returns the loudest level seen, in dB.
  draw(samples, gain, from, to, topDb) {
    const shift = 20 * Math.log10(Math.abs(gain) + 1e-9);
    const offset = Math.round(topDb - shift);
    if (offset !== this.offset) this.repaint(offset);
    const first = Math.max(0, Math.floor(from * COLUMNS_PER_SECOND));
    const last = Math.min(Math.ceil(to * COLUMNS_PER_SECOND), Math.floor((samples.length - this.spectrum.size / 2) / this.hop));
    let loudest = -Infinity;
    for (let column = first; column < last; column++) {
      const slot = column % this.numSlots;
      if (this.columns[slot] !== column) loudest = Math.max(loudest, this.compute(samples, column, slot));
    }
    this.show(first, last, from, to);
    return loudest + shift;
  }

  compute(samples, column, slot) {
    const levels = this.levels.subarray(slot * this.numBins, (slot + 1) * this.numBins);
    this.spectrum.levels(samples, Math.round(column * this.hop) - this.spectrum.size / 2, levels);
    this.columns[slot] = column;
    this.paint(slot);
    return levels.reduce((a, b) => Math.max(a, b));
  }

  repaint(offset) {
    this.offset = offset;
    this.columns.forEach((column, slot) => { if (column >= 0) this.paint(slot); });
  }

  paint(slot) {
    const pixels = new Uint32Array(this.image.data.buffer);
    const start = slot * this.numBins;
    for (let bin = 0; bin < this.numBins; bin++) {
      const shade = (this.levels[start + bin] - this.offset + DEPTH_DB) / DEPTH_DB;
      pixels[this.numBins - 1 - bin] = PALETTE[Math.max(0, Math.min(255, Math.round(255 * shade)))];
    }
    this.ring.getContext("2d").putImageData(this.image, slot, 0);
  }

  show(first, last, from, to) {
    const [width, height] = fit(this.canvas);
    const context = this.canvas.getContext("2d");
    context.fillStyle = COLOURS[0];
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    const x = (column) => (column / COLUMNS_PER_SECOND - from) / (to - from) * width;
    for (let start = first; start < last;) { // in two parts where the ring begins again
      const slot = start % this.numSlots;
      const count = Math.min(last - start, this.numSlots - slot);
      context.drawImage(this.ring, slot, 0, count, this.numBins, x(start), 0, x(start + count) - x(start), height);
      start += count;
    }
  }

  // A vertical line at a time.
  mark(second, from, to, colour) {
    const context = this.canvas.getContext("2d");
    context.fillStyle = colour;
    const width = Math.max(1, Math.round(devicePixelRatio));
    context.fillRect(Math.round((second - from) / (to - from) * this.canvas.width), 0, width, this.canvas.height);
  }
}

// Gives a canvas as many pixels as it has on the screen; returns width and height.
export function fit(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.max(1, Math.round(size * devicePixelRatio)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return [width, height];
}

// Power of windows in dB, where a sine of amplitude one has about 0.
class Spectrum {
  constructor(size) {
    this.size = size;
    this.window = Float32Array.from({ length: size }, (_, n) => (0.5 - 0.5 * Math.cos(2 * Math.PI * n / size)) * 4 / size);
    this.order = Uint32Array.from({ length: size }, (_, n) => reversed(n, Math.log2(size)));
    this.cosine = Float32Array.from({ length: size / 2 }, (_, k) => Math.cos(2 * Math.PI * k / size));
    this.sine = Float32Array.from({ length: size / 2 }, (_, k) => -Math.sin(2 * Math.PI * k / size));
    [this.real, this.imaginary] = [new Float32Array(size), new Float32Array(size)];
  }

  levels(samples, start, found) {
    for (let n = 0; n < this.size; n++) {
      const k = this.order[n];
      this.real[n] = this.window[k] * (samples[start + k] ?? 0);
    }
    this.imaginary.fill(0);
    for (let half = 1; half < this.size; half *= 2) this.merge(half);
    for (let bin = 0; bin < this.size / 2; bin++) found[bin] = 10 * Math.log10(this.real[bin] ** 2 + this.imaginary[bin] ** 2 + 1e-12);
  }

  // One pass of the fast Fourier transform: transforms of `half` samples become transforms of twice as many.
  merge(half) {
    const { real, imaginary, size } = this;
    for (let start = 0; start < size; start += 2 * half) {
      for (let k = 0; k < half; k++) {
        const [i, j, turn] = [start + k, start + k + half, k * size / (2 * half)];
        const x = real[j] * this.cosine[turn] - imaginary[j] * this.sine[turn];
        const y = real[j] * this.sine[turn] + imaginary[j] * this.cosine[turn];
        [real[j], imaginary[j]] = [real[i] - x, imaginary[i] - y];
        [real[i], imaginary[i]] = [real[i] + x, imaginary[i] + y];
      }
    }
  }
}

function reversed(number, numBits) {
  let result = 0;
  for (let bit = 0; bit < numBits; bit++) result = result * 2 + (number >> bit & 1);
  return result;
}

// 256 colours between the given ones, as pixels of a little-endian canvas.
function palette(colours) {
  const stops = colours.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, k) => {
    const place = k / 255 * (stops.length - 1);
    const below = Math.min(stops.length - 2, Math.floor(place));
    const mixed = (part) => Math.round(stops[below][part] + (place - below) * (stops[below + 1][part] - stops[below][part]));
    const [red, green, blue] = [0, 1, 2].map(mixed);
    return (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
  });
}
