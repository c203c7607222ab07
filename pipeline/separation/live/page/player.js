// In the audio thread: plays mixture and voices as they come, one output each. It starts once enough is there to bridge the usual
// delays. Where it runs out of samples, that is an underrun: it counts it, and waits for more than before.

const REPORT_SECONDS = 0.25;
const TRIM_SECONDS = 3; // what has been too much for so long is delay for nothing
const RELAX = 0.97; // how much of its patience is left after so long

class Player extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.initial = this.target = processorOptions.target; // samples to have before it starts
    this.longest = Math.round(sampleRate / 2);
    this.blocks = []; // each has one array a track
    this.offset = 0; // into the first block
    this.buffered = this.underruns = this.missing = this.sinceReport = this.sinceTrim = 0;
    this.lowest = Infinity; // samples left, since the last trim
    this.playing = this.ended = false;
    this.port.onmessage = ({ data }) => { data.onmessage = ({ data: message }) => this.receive(message); };
  }

  receive(message) {
    if (message === "end") { this.ended = true; return; }
    this.blocks.push(message);
    this.buffered += message[0].length;
  }

  process(_, outputs) {
    const length = outputs[0][0].length;
    if (!this.playing && this.buffered >= (this.ended ? 1 : this.target)) this.playing = true;
    if (this.playing && this.buffered < length && !this.ended) {
      this.playing = false;
      this.underruns += 1;
      this.target = Math.min(Math.round(1.5 * this.target), this.longest);
    }
    if (this.playing) this.play(outputs, Math.min(length, this.buffered));
    else if (this.underruns && !this.ended) this.missing += length;
    this.trim(length);
    this.sinceReport += length;
    const isOver = this.ended && this.buffered === 0;
    if (isOver || this.sinceReport >= REPORT_SECONDS * sampleRate) this.report();
    return !isOver;
  }

  play(outputs, length) {
    for (let done = 0; done < length;) {
      const block = this.blocks[0];
      const count = Math.min(length - done, block[0].length - this.offset);
      outputs.forEach(([channel], track) => channel.set(block[track].subarray(this.offset, this.offset + count), done));
      this.skip(count);
      done += count;
    }
    this.lowest = Math.min(this.lowest, this.buffered);
  }

  skip(count) {
    this.buffered -= count;
    this.offset += count;
    while (this.blocks.length && this.offset >= this.blocks[0][0].length) this.offset -= this.blocks.shift()[0].length;
  }

  trim(length) {
    this.sinceTrim += length;
    if (this.sinceTrim < TRIM_SECONDS * sampleRate) return;
    if (this.playing && !this.ended && this.lowest !== Infinity && this.lowest > this.target) this.skip(this.lowest - this.target);
    this.target = Math.max(this.initial, Math.round(RELAX * this.target));
    [this.sinceTrim, this.lowest] = [0, Infinity];
  }

  report() {
    this.sinceReport = 0;
    const { underruns, missing, buffered, playing } = this;
    this.port.postMessage({ underruns, missing: missing / sampleRate, buffered: buffered / sampleRate, playing });
  }
}

registerProcessor("player", Player);
