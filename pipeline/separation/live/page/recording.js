// What has been recorded and separated so far: the mixture first, then the voices, all in step.

export class Recording {
  constructor(facts, name) {
    this.name = name;
    this.sampleRate = facts.sample_rate;
    this.tracks = Array.from({ length: facts.num_sources + 1 }, () => new Samples());
    this.gains = new Float64Array(facts.num_sources + 1).fill(1);
    this.numSeparated = this.computingSeconds = 0;
    this.roundTrips = []; // seconds
    this.complete = false;
  }

  get seconds() { return this.tracks[0].length / this.sampleRate; }

  get realTimeFactor() { return this.numSeparated ? this.computingSeconds * this.sampleRate / this.numSeparated : null; }

  // Estimates come as the network scales them; the gains of now are those of the whole so far.
  add({ mixture, estimates, gains, seconds, roundTrip, numSamples }) {
    [mixture, ...estimates].forEach((samples, track) => this.tracks[track].add(samples));
    this.gains.set(gains, 1);
    this.computingSeconds += seconds;
    this.numSeparated += numSamples;
    if (roundTrip) this.roundTrips.push(roundTrip);
  }

  // At its level in the mixture.
  levelled(track) {
    return this.tracks[track].all().map((sample) => sample * this.gains[track]);
  }

  cut(numSamples) {
    this.tracks.forEach((samples) => { samples.length = Math.min(samples.length, numSamples); });
  }
}

// An array that grows.
class Samples {
  constructor() {
    this.values = new Float32Array(1 << 16);
    this.length = 0;
  }

  add(samples) {
    if (this.length + samples.length > this.values.length) {
      const larger = new Float32Array(2 * Math.max(this.values.length, samples.length));
      larger.set(this.all());
      this.values = larger;
    }
    this.values.set(samples, this.length);
    this.length += samples.length;
  }

  all() { return this.values.subarray(0, this.length); }
}

// A wav file of 32-bit floating-point samples.
export function wavFile(samples, sampleRate) {
  const header = new DataView(new ArrayBuffer(58));
  const text = (at, letters) => [...letters].forEach((letter, k) => header.setUint8(at + k, letter.charCodeAt(0)));
  const bytes = 4 * samples.length;
  text(0, "RIFF"); header.setUint32(4, 50 + bytes, true); text(8, "WAVE");
  text(12, "fmt "); header.setUint32(16, 18, true);
  header.setUint16(20, 3, true); // IEEE floating point
  header.setUint16(22, 1, true); // one channel
  header.setUint32(24, sampleRate, true); header.setUint32(28, 4 * sampleRate, true);
  header.setUint16(32, 4, true); header.setUint16(34, 32, true);
  text(38, "fact"); header.setUint32(42, 4, true); header.setUint32(46, samples.length, true);
  text(50, "data"); header.setUint32(54, bytes, true);
  return new Blob([header, samples], { type: "audio/wav" });
}
