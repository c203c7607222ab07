// Conversion of the sample rate while the signal arrives, for browsers that cannot run their audio at the model's rate: a sinc under
// a Kaiser window, cut off below half the lower of both rates, in as many phases as the new rate has within a common period.

const ZEROS = 24; // of the sinc, on each side
const ROLLOFF = 0.94; // of the pass band; the transition ends just above half the lower rate
const BETA = 9; // of the window: about 90 dB in the stop band

export class Resampler {
  constructor(from, to) {
    const common = gcd(from, to);
    [this.down, this.up] = [from / common, to / common];
    const scale = ROLLOFF * Math.min(1, to / from);
    this.reach = Math.ceil(ZEROS / scale); // input samples on each side of an output sample
    this.phases = Array.from({ length: this.up }, (_, phase) => kernel(phase / this.up, scale, this.reach));
    this.pending = new Float32Array(this.reach - 1); // as if silence had come before
    this.phase = 0;
  }

  // The output that has become final with these samples.
  push(samples) {
    const input = new Float32Array(this.pending.length + samples.length);
    input.set(this.pending);
    input.set(samples, this.pending.length);
    const output = new Float32Array(Math.ceil(input.length * this.up / this.down) + 1);
    let [start, length] = [0, 0];
    while (start + 2 * this.reach <= input.length) {
      const taps = this.phases[this.phase];
      let sum = 0;
      for (let k = 0; k < taps.length; k++) sum += taps[k] * input[start + k];
      output[length++] = sum;
      this.phase += this.down;
      start += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    this.pending = input.slice(start);
    return output.slice(0, length);
  }

  // The rest, after silence.
  finish() {
    return this.push(new Float32Array(this.reach));
  }
}

// Taps for an output sample that lies `fraction` of a sample after the input sample at index reach - 1.
function kernel(fraction, scale, reach) {
  const taps = Float64Array.from({ length: 2 * reach }, (_, k) => {
    const x = (k - (reach - 1) - fraction) * scale;
    const inside = 1 - (x / ZEROS) ** 2;
    return inside > 0 ? scale * sinc(x) * bessel(BETA * Math.sqrt(inside)) / bessel(BETA) : 0;
  });
  const sum = taps.reduce((a, b) => a + b);
  return taps.map((tap) => tap / sum); // a constant stays what it is
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

// The modified Bessel function of order zero.
function bessel(x) {
  let [term, sum] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) { term *= (x / (2 * k)) ** 2; sum += term; }
  return sum;
}

function gcd(a, b) {
  return b ? gcd(b, a % b) : a;
}
