// Separation in the browser: the step that `tasnet export` writes, in onnxruntime-web, one thread.

import { concatenate } from "./level.js";

const TYPES = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array };

export class Engine {
  constructor(facts) {
    this.facts = facts;
    this.delay = facts.delay_samples; // of the step's estimates
    this.hop = facts.hop_samples;
  }

  async open() {
    try {
      this.ort = await import("./runtime/ort.wasm.min.mjs");
    } catch {
      throw new Error("onnxruntime-web is missing beside this page: npm pack onnxruntime-web, then export again with --runtime.");
    }
    this.ort.env.wasm.numThreads = 1; // more need headers that few static hosts send
    this.ort.env.wasm.wasmPaths = new URL("runtime/", self.location.href).href;
    const step = new URL(this.facts.step, self.location.href).href;
    this.session = await this.ort.InferenceSession.create(step, { executionProviders: ["wasm"] });
    this.reset();
    await this.run(new Float32Array(this.hop)); // the first call takes far longer than those after it
    this.reset();
  }

  reset() {
    this.pending = new Float32Array(0);
    [this.numIn, this.numRun] = [0, 0];
    this.state = Object.fromEntries(this.facts.state.map(({ input, dtype, shape }) => {
      const sizes = shape.map((size) => (size === "batch" ? 1 : size));
      return [input, new this.ort.Tensor(dtype, new TYPES[dtype](sizes.reduce((a, b) => a * b, 1)), sizes)];
    }));
  }

  async push(samples) {
    this.numIn += samples.length;
    return this.run(concatenate([this.pending, samples]));
  }

  async finish() {
    const numOut = Math.max(0, this.numRun - this.delay);
    const missing = this.numIn - numOut;
    const silence = (this.hop - this.pending.length % this.hop) % this.hop + this.delay;
    const { seconds, estimates } = await this.run(concatenate([this.pending, new Float32Array(missing ? silence : 0)]));
    return { seconds, estimates: estimates.map((each) => each.slice(0, missing)) };
  }

  async run(waiting) {
    const ready = waiting.length - waiting.length % this.hop;
    this.pending = waiting.slice(ready);
    const numSources = this.facts.num_sources;
    if (!ready) return { seconds: 0, estimates: Array.from({ length: numSources }, () => new Float32Array(0)) };
    const start = performance.now();
    const mixture = new this.ort.Tensor("float32", waiting.slice(0, ready), [1, ready]);
    const results = await this.session.run({ mixture, ...this.state });
    const seconds = (performance.now() - start) / 1000;
    for (const { input, output } of this.facts.state) this.state[input] = results[output];
    const early = Math.max(0, this.delay - this.numRun); // of the time before the signal
    this.numRun += ready;
    const values = results.estimates.data;
    const estimates = Array.from({ length: numSources }, (_, k) => values.slice(k * ready + early, (k + 1) * ready));
    return { seconds, estimates };
  }

  close() { this.session?.release(); }
}
