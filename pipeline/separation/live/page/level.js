// The level of the voices: estimates come out of the network at any scale and sign. They get the gains whose sum fits the mixture so
// far best (least squares), as pipeline/separation/live/pipes.py and offline.py have it.

const SMALLEST = 1e-9; // of the largest eigenvalue; below it, estimates are zero or equal to others

export class RunningLevel {
  constructor(numSources) {
    this.numSources = numSources;
    this.squares = new Float64Array(numSources * numSources);
    this.products = new Float64Array(numSources);
    this.gains = new Float64Array(numSources);
    this.started = false;
    this.mixture = new Float32Array(0); // whose estimates have not come out yet
  }

  // Takes new estimates, one array a source, and the new samples of the mixture that went in; returns the part of the mixture that
  // belongs to the estimates, and the gains before and after.
  add(estimates, mixture) {
    const waiting = concatenate([this.mixture, mixture]);
    const length = estimates[0].length;
    const now = waiting.slice(0, length);
    this.mixture = waiting.slice(length);
    for (let i = 0; i < this.numSources; i++) {
      this.products[i] += dot(estimates[i], now);
      for (let j = 0; j < this.numSources; j++) this.squares[i * this.numSources + j] += dot(estimates[i], estimates[j]);
    }
    const gains = multiply(pseudoInverse(this.squares, this.numSources), this.products);
    const before = this.started ? this.gains : gains;
    if (length) [this.gains, this.started] = [gains, true];
    return { mixture: now, before, gains };
  }
}

// Gains that move along a ramp, so that there is no step between two chunks.
export function applyRamp(samples, before, after) {
  return samples.map((sample, n) => sample * (before + (after - before) * (n + 1) / samples.length));
}

export function concatenate(parts) {
  const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let start = 0;
  for (const part of parts) { joined.set(part, start); start += part.length; }
  return joined;
}

function dot(a, b) {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += a[n] * b[n];
  return sum;
}

function multiply(matrix, vector) {
  return vector.map((_, i) => dot(matrix.subarray(i * vector.length, (i + 1) * vector.length), vector));
}

// Of a symmetric matrix, from its eigenvectors: where some estimates equal each other, they share their part alike.
export function pseudoInverse(matrix, size) {
  const { values, vectors } = eigen(matrix, size);
  const largest = Math.max(...values.map(Math.abs));
  const inverse = new Float64Array(size * size);
  values.forEach((value, k) => {
    if (Math.abs(value) <= SMALLEST * largest) return;
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) {
      inverse[i * size + j] += vectors[i * size + k] * vectors[j * size + k] / value;
    }
  });
  return inverse;
}

// Jacobi's rotations: each makes one pair of off-diagonal elements zero; a few sweeps over all pairs reach rounding.
function eigen(matrix, size) {
  const a = Float64Array.from(matrix);
  const vectors = new Float64Array(size * size);
  for (let i = 0; i < size; i++) vectors[i * size + i] = 1;
  for (let sweep = 0; sweep < 30; sweep++) {
    for (let p = 0; p < size; p++) for (let q = p + 1; q < size; q++) {
      if (a[p * size + q] === 0) continue;
      const theta = (a[q * size + q] - a[p * size + p]) / (2 * a[p * size + q]);
      const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
      const c = 1 / Math.hypot(t, 1);
      for (let k = 0; k < size; k++) rotate(a, k * size + p, k * size + q, c, t * c);
      for (let k = 0; k < size; k++) rotate(a, p * size + k, q * size + k, c, t * c);
      for (let k = 0; k < size; k++) rotate(vectors, k * size + p, k * size + q, c, t * c);
      a[p * size + q] = a[q * size + p] = 0;
    }
  }
  return { values: Array.from({ length: size }, (_, i) => a[i * size + i]), vectors };
}

function rotate(array, i, j, c, s) {
  const [x, y] = [array[i], array[j]];
  array[i] = c * x - s * y;
  array[j] = s * x + c * y;
}
