// Away from the page, so that drawing never holds up audio: takes chunks from the audio thread or a whole file, has them separated,
// sets their level, and sends them on to be played and shown.

import { RunningLevel, applyRamp, concatenate } from "./level.js";
import { Resampler } from "./resampler.js";

const LONGEST_CHUNK_SECONDS = 1; // what has piled up is separated at once, which takes less time than in pieces
const TOO_LATE_SECONDS = 5;

let engine, level, facts, player, toModel, queue, ready, busy, ending;

self.onmessage = async ({ data }) => {
  try {
    if (data.type === "open") await open(data);
    else await separateFile(data.samples, Math.round(data.chunkSeconds * facts.sample_rate));
  } catch (error) { fail(error); }
};

async function open({ facts: given, contextRate, capture, player: playerPort }) {
  facts = given;
  [queue, ready, busy, ending] = [[], false, false, false];
  player = playerPort && { port: playerPort, resamplers: [] };
  toModel = contextRate && contextRate !== facts.sample_rate ? new Resampler(contextRate, facts.sample_rate) : null;
  if (player && toModel) {
    player.resamplers = Array.from({ length: facts.num_sources + 1 }, () => new Resampler(facts.sample_rate, contextRate));
  }
  level = new RunningLevel(facts.num_sources);
  const { Engine } = await import(`./${facts.engine}_engine.js`);
  engine = new Engine(facts);
  if (capture) capture.onmessage = ({ data }) => { take(data); pump().catch(fail); };
  await engine.open();
  ready = true;
  self.postMessage({ type: "ready" });
}

function take(chunk) {
  if (chunk === "end") ending = true;
  else queue.push(toModel ? toModel.push(chunk) : chunk);
}

async function separateFile(samples, size) {
  for (let start = 0; start < samples.length; start += size) await separate(samples.slice(start, start + size));
  await finish();
}

// One chunk at a time: while it is separated, others queue, and go together in the next.
async function pump() {
  if (busy || !ready) return;
  busy = true;
  while (queue.length) {
    const waiting = queue.reduce((sum, chunk) => sum + chunk.length, 0) / facts.sample_rate;
    if (waiting > TOO_LATE_SECONDS) throw new Error("This machine is too slow for this model: it has fallen five seconds behind.");
    await separate(nextChunk());
  }
  busy = false;
  if (ending) { busy = true; await finish(); }
}

function nextChunk() {
  const parts = [queue.shift()];
  let length = parts[0].length;
  while (queue.length && length + queue[0].length <= LONGEST_CHUNK_SECONDS * facts.sample_rate) {
    length += queue[0].length;
    parts.push(queue.shift());
  }
  return concatenate(parts);
}

async function separate(chunk) {
  const start = performance.now();
  const separated = await engine.push(chunk);
  deliver(separated, chunk, (performance.now() - start) / 1000);
}

async function finish() {
  if (toModel) await separate(toModel.finish());
  deliver(await engine.finish(), new Float32Array(0), 0);
  engine.close();
  player?.port.postMessage("end");
  self.postMessage({ type: "done" });
}

function deliver({ estimates, seconds }, chunk, roundTrip) {
  const { mixture, before, gains } = level.add(estimates, chunk);
  if (player && mixture.length) {
    const tracks = [mixture, ...estimates.map((each, k) => applyRamp(each, before[k], gains[k]))];
    const block = player.resamplers.length ? tracks.map((each, k) => player.resamplers[k].push(each)) : tracks;
    if (block[0].length) player.port.postMessage(block);
  }
  self.postMessage({ type: "separated", mixture, estimates, gains, seconds, roundTrip, numSamples: chunk.length });
}

function fail(error) {
  engine?.close();
  queue = [];
  ready = false;
  player?.port.postMessage("end");
  self.postMessage({ type: "failed", message: error.message });
}
