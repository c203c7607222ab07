// A file's samples at the model's rate, with all channels averaged. The browser decodes it at the file's own rate, as far as that
// can be read from its beginning: where browsers convert rates, they let through much of what lies above the new band.

import { concatenate } from "./level.js";
import { Resampler } from "./resampler.js";

const MAX_BYTES = 1e9;
const USUAL_RATE = 48000;
const SLICE_SECONDS = 10; // converted at a time, so that the page goes on

export async function fileSamples(file, facts) {
  if (file.size > MAX_BYTES) throw new Error(`${file.name} is larger than 1 GB; use tasnet separate for it.`);
  const buffer = await decoded(file);
  if (facts.max_minutes && buffer.duration > 60 * facts.max_minutes) {
    const limit = duration(60 * facts.max_minutes);
    throw new Error(`${file.name} is ${duration(buffer.duration)} long, and the limit is ${limit} (--max-minutes).`);
  }
  const samples = buffer.getChannelData(0).slice();
  for (let channel = 1; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((sample, n) => { samples[n] += sample; });
  }
  const averaged = samples.map((sample) => sample / buffer.numberOfChannels);
  return buffer.sampleRate === facts.sample_rate ? averaged : converted(averaged, buffer.sampleRate, facts.sample_rate);
}

async function decoded(file) {
  const bytes = await file.arrayBuffer();
  const rate = ownRate(new DataView(bytes)) ?? USUAL_RATE;
  try {
    return await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  } catch {
    throw new Error(`${file.name} cannot be decoded as audio by this browser. Wav, FLAC, MP3 and AAC files can.`);
  }
}

async function converted(samples, from, to) {
  const resampler = new Resampler(from, to);
  const parts = [];
  for (let start = 0; start < samples.length; start += SLICE_SECONDS * from) {
    parts.push(resampler.push(samples.subarray(start, start + SLICE_SECONDS * from)));
    await new Promise((go) => { setTimeout(go); });
  }
  return concatenate([...parts, resampler.finish()]);
}

function duration(seconds) {
  return seconds < 100 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1)} minutes`;
}

// In Hz, of wav, FLAC, Ogg and MP3 files; undefined for others.
export function ownRate(view) {
  const head = String.fromCharCode(...new Uint8Array(view.buffer).subarray(0, 4096));
  try {
    if (head.startsWith("RIFF")) return view.getUint32(head.indexOf("fmt ") + 12, true);
    if (head.startsWith("fLaC")) return view.getUint32(18) >>> 12;
    if (head.startsWith("OggS") && head.includes("OpusHead")) return 48000;
    if (head.startsWith("OggS")) return view.getUint32(head.indexOf("\x01vorbis") + 12, true);
    if (head.startsWith("ID3")) return mp3Rate(view, 10 + [6, 7, 8, 9].reduce((size, at) => 128 * size + view.getUint8(at), 0));
    return mp3Rate(view, 0);
  } catch { return undefined; } // it ends too early
}

// From the header of a frame at a place.
function mp3Rate(view, start) {
  const header = view.getUint32(start);
  const [version, index] = [header >>> 19 & 3, header >>> 10 & 3];
  if (header >>> 21 !== 0x7ff || version === 1 || index === 3) return undefined;
  return [44100, 48000, 32000][index] / { 3: 1, 2: 2, 0: 4 }[version];
}
