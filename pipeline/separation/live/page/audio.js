// Sound in and out: a live source with its two audio threads, and the playing of what has been recorded.

import { concatenate } from "./level.js";
import { Resampler } from "./resampler.js";

const FADE_SECONDS = 0.01;

// Gains of all tracks, in front of the loudspeakers.
class Mixer {
  constructor(context, numTracks) {
    this.context = context;
    this.inputs = Array.from({ length: numTracks }, () => new GainNode(context, { gain: 0 }));
    this.inputs.forEach((input) => input.connect(context.destination));
  }

  setLevels(levels) {
    levels.forEach((level, track) => this.inputs[track].gain.setTargetAtTime(level, this.context.currentTime, FADE_SECONDS));
  }
}

// A microphone, or samples as if from one, on their way to the worker and back to the ear.
export class LiveAudio {
  constructor(facts, chunkSeconds) {
    this.facts = facts;
    this.chunkSeconds = chunkSeconds;
  }

  get sampleRate() { return this.context.sampleRate; }

  get deviceSeconds() { return (this.context.baseLatency || 0) + (this.context.outputLatency || 0); }

  // `samples`: [time] at the model's rate; null opens the microphone. `onStats` is told how playing goes, four times a second.
  async open(samples, onStats) {
    if (!samples) this.stream = await openMicrophone();
    [this.context, this.source] = this.connectAtModelRate(samples);
    await this.context.resume();
    await Promise.all([this.context.audioWorklet.addModule("capture.js"), this.context.audioWorklet.addModule("player.js")]);
    const numTracks = this.facts.num_sources + 1;
    const chunk = Math.max(1, Math.round(this.chunkSeconds * this.sampleRate));
    this.capture = new AudioWorkletNode(this.context, "capture", {
      numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit", processorOptions: { chunk },
    });
    this.player = new AudioWorkletNode(this.context, "player", {
      numberOfInputs: 0, numberOfOutputs: numTracks, outputChannelCount: Array(numTracks).fill(1),
      processorOptions: { target: 2 * chunk + 3 * 128 },
    });
    this.player.port.onmessage = ({ data }) => onStats(data);
    this.mixer = new Mixer(this.context, numTracks);
    this.mixer.inputs.forEach((input, track) => this.player.connect(input, track));
    const [capture, player] = [new MessageChannel(), new MessageChannel()];
    this.capture.port.postMessage(capture.port1, [capture.port1]);
    this.player.port.postMessage(player.port1, [player.port1]);
    this.ports = { capture: capture.port2, player: player.port2 };
  }

  // Some browsers connect no microphone to a context of another rate than its own; the worker then converts.
  connectAtModelRate(samples) {
    const context = openContext(this.facts.sample_rate);
    try {
      return [context, this.makeSource(context, samples)];
    } catch {
      context.close();
      const native = openContext();
      return [native, this.makeSource(native, samples)];
    }
  }

  makeSource(context, samples) {
    if (!samples) return new MediaStreamAudioSourceNode(context, { mediaStream: this.stream });
    const source = new AudioBufferSourceNode(context, { buffer: bufferFor(context, samples, this.facts.sample_rate) });
    source.addEventListener("ended", () => this.stop());
    return source;
  }

  start() {
    this.source.connect(this.capture);
    if (this.stream) this.stream.getTracks()[0].addEventListener("ended", () => this.stop()); // it has been unplugged
    else this.source.start();
    this.started = true;
  }

  // Sends the rest; the worker says when all of it is separated.
  stop() {
    if (this.stopped) return;
    this.stopped = true;
    this.source.disconnect();
    this.capture.port.postMessage("end");
  }

  setLevels(levels) { this.mixer?.setLevels(levels); }

  close() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close();
  }
}

// At a rate, where the browser allows; by default at that of the loudspeakers.
function openContext(sampleRate) {
  try {
    return new AudioContext(sampleRate ? { sampleRate } : {});
  } catch (error) {
    if (!sampleRate) throw error;
    return new AudioContext();
  }
}

// Browsers play a buffer of another rate than the context's with linear interpolation, which is audible at low rates.
function bufferFor(context, samples, sampleRate) {
  const resampler = new Resampler(sampleRate, context.sampleRate);
  const played = context.sampleRate === sampleRate ? samples : concatenate([resampler.push(samples), resampler.finish()]);
  const buffer = new AudioBuffer({ length: played.length, sampleRate: context.sampleRate });
  buffer.copyToChannel(played, 0);
  return buffer;
}

async function openMicrophone() {
  if (!navigator.mediaDevices) throw Object.assign(new Error("no secure page"), { name: "SecureError" });
  // What browsers do to calls would be another signal than the model knows.
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  return navigator.mediaDevices.getUserMedia({ audio });
}

// All tracks of a recording at once on one clock: switching between them never loses the position.
export class Playback {
  constructor(recording, levels) {
    this.recording = recording;
    this.seconds = recording.seconds;
    this.levels = levels;
    this.context = openContext(recording.sampleRate);
    this.mixer = new Mixer(this.context, recording.tracks.length);
    this.position = 0;
    this.running = false;
  }

  get now() {
    if (!this.running) return this.position;
    const now = this.position + Math.max(0, this.context.currentTime - this.startedAt);
    if (now < this.seconds) return now;
    this.pause(this.seconds);
    return this.seconds;
  }

  // When they are first needed: an hour takes a while.
  makeBuffers() {
    const { tracks, sampleRate } = this.recording;
    this.buffers ??= tracks.map((_, track) => bufferFor(this.context, this.recording.levelled(track), sampleRate));
  }

  async play() {
    await this.context.resume();
    this.makeBuffers();
    if (this.position >= this.seconds - 0.01) this.position = 0;
    this.setLevels(this.levels);
    this.startedAt = this.context.currentTime + 0.02;
    this.sources = this.buffers.map((buffer, track) => {
      const source = new AudioBufferSourceNode(this.context, { buffer });
      source.connect(this.mixer.inputs[track]);
      source.start(this.startedAt, this.position);
      return source;
    });
    this.running = true;
  }

  pause(position = this.now) {
    if (this.running) this.sources.forEach((source) => { source.stop(); source.disconnect(); });
    this.running = false;
    this.position = position;
  }

  seek(position) {
    const resume = this.running;
    this.pause(position);
    if (resume) this.play();
  }

  setLevels(levels) {
    this.levels = levels;
    this.mixer.setLevels(levels);
  }

  stop() {
    this.pause();
    this.context.close();
  }
}
