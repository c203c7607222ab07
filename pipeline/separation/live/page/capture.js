// In the audio thread: gathers what comes in to chunks, and sends them to the worker that separates.

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.chunk = processorOptions.chunk; // samples
    this.samples = new Float32Array(2 * this.chunk + 2 * 128);
    this.length = 0;
    this.port.onmessage = ({ data }) => (data === "end" ? this.end() : (this.worker = data));
  }

  end() {
    this.worker.postMessage(this.samples.slice(0, this.length));
    this.worker.postMessage("end");
    this.worker = null;
  }

  process([input]) {
    if (!this.worker || !input.length) return true;
    this.samples.set(input[0], this.length);
    this.length += input[0].length;
    let start = 0;
    for (; this.length - start >= this.chunk; start += this.chunk) {
      const chunk = this.samples.slice(start, start + this.chunk);
      this.worker.postMessage(chunk, [chunk.buffer]);
    }
    this.samples.copyWithin(0, start, this.length);
    this.length -= start;
    return true;
  }
}

registerProcessor("capture", Capture);
