// The page: what the person does, what is recorded, and what is shown of it.

import { LiveAudio, Playback } from "./audio.js";
import { fileSamples } from "./file.js";
import { Recording, wavFile } from "./recording.js";
import { Spectrogram, fit } from "./spectrogram.js";

const SHOWN_SECONDS = 10;
const FILE_CHUNK_SECONDS = 0.5;
const QUIET_DB = -55; // the brightest colour is never for less
const $ = (id) => document.getElementById(id);
const facts = await (await fetch("facts.json")).json();
const trackNames = ["Mixture", ...Array.from({ length: facts.num_sources }, (_, k) => `Voice ${k + 1}`)];
const mutes = trackNames.map((_, track) => track === 0);
const solos = trackNames.map(() => false);
let recording = null;
let session = null; // what is being recorded or separated: { stop, audio }
let playback = null;
let topDb = QUIET_DB;
let stats = null; // of the player, while recording
const drawn = { at: -Infinity, state: "" };

// --------------------------------------------------------------------------------------------------------------- what is there
function describe() {
  const norm = { cumulative: "cumulative layer norm", frame: "layer norm of each frame" }[facts.norm] ?? `${facts.norm} norm`;
  const number = facts.num_parameters;
  const parameters = number >= 1e5 ? `${(number / 1e6).toFixed(1)} million` : number.toLocaleString("en");
  const where = facts.engine === "socket" ? "computed by tasnet live" : "computed in this browser";
  const sound = `${facts.num_sources} voices at ${facts.sample_rate / 1000} kHz`;
  $("model").textContent = `${facts.name}: causal, ${norm}, ${sound}, ${parameters} parameters; ${where}.`;
  if (facts.engine === "onnx") $("chunk").value = "50"; // a step costs the browser much the same, however short
  $("latency").textContent = milliseconds(facts.latency_samples / facts.sample_rate);
  showChunk();
}

const tracks = trackNames.map((name, track) => {
  const root = $("track").content.firstElementChild.cloneNode(true);
  root.querySelector("h2").textContent = name;
  root.querySelector(".top").textContent = facts.sample_rate / 2000;
  const canvas = root.querySelector("canvas");
  canvas.setAttribute("aria-label", `Spectrogram of ${name.toLowerCase()}`);
  canvas.addEventListener("click", ({ offsetX }) => seek(shownWindow()[0] + offsetX / canvas.clientWidth * SHOWN_SECONDS));
  const [mute, solo, save] = [".mute", ".solo", ".save"].map((name) => root.querySelector(name));
  mute.setAttribute("aria-label", `Mute ${name}`);
  solo.setAttribute("aria-label", `Solo ${name}`);
  save.setAttribute("aria-label", `Save ${name} as wav`);
  mute.addEventListener("click", () => { mutes[track] = !mutes[track]; mix(); });
  save.addEventListener("click", () => saveTrack(track));
  solo.addEventListener("click", () => { solos[track] = !solos[track]; mix(); });
  $("tracks").append(root);
  return { root, canvas, mute, solo, save, spectrogram: null };
});

function milliseconds(seconds) {
  const value = 1000 * seconds;
  return `${value.toFixed(value < 10 && value % 1 > 0.05 ? 1 : 0)} ms`;
}

function showChunk() {
  $("chunk-figure").textContent = `${session ? session.chunk : $("chunk").value} ms`;
}

function say(text) { $("status").textContent = text; }

function complain(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text;
}

// -------------------------------------------------------------------------------------------------------------- what is audible
function audible() {
  const chosen = solos.some(Boolean) ? solos : mutes.map((mute) => !mute);
  return chosen.map(Number);
}

function mix() {
  const levels = audible();
  tracks.forEach(({ root, mute, solo }, track) => {
    mute.setAttribute("aria-pressed", mutes[track]);
    solo.setAttribute("aria-pressed", solos[track]);
    root.classList.toggle("silent", !levels[track]);
  });
  session?.audio?.setLevels(levels.map((level) => level * session.audible()));
  playback?.setLevels(levels);
}

function only(track) {
  solos.fill(false);
  if (track !== null) solos[track] = true;
  mix();
}

// -------------------------------------------------------------------------------------------------------------------- recording
function begin(name) {
  playback?.stop();
  playback = stats = null;
  complain("");
  recording = new Recording(facts, name);
  topDb = QUIET_DB;
  tracks.forEach((track) => {
    track.spectrogram = new Spectrogram(track.canvas, facts.sample_rate, SHOWN_SECONDS);
    track.save.hidden = true;
  });
  $("play").disabled = $("position").disabled = true;
  ["underruns", "delay", "factor"].forEach((id) => { $(id).textContent = "–"; });
  $("underruns").classList.remove("bad");
}

function openWorker(onReady) {
  const worker = new Worker("worker.js", { type: "module" });
  const owner = recording;
  worker.onmessage = ({ data }) => {
    if (recording !== owner) return;
    if (data.type === "ready") onReady();
    else if (data.type === "separated") recording.add(data);
    else if (data.type === "done") end();
    else end(data.message);
  };
  worker.onerror = ({ message }) => end(message ?? "This page does not find its own files. Is the server still running?");
  return worker;
}

function end(problem = "") {
  if (!session) return;
  showFigures();
  const { worker, audio, numSamples } = session;
  worker.terminate();
  audio?.close();
  session = null;
  if (numSamples) recording.cut(numSamples);
  recording.complete = true;
  document.body.classList.remove("recording");
  $("microphone").textContent = "Open microphone";
  complain(problem);
  if (recording.seconds) offer();
  else say("Nothing has been recorded.");
  mix();
}

// Ways to hear and to save what has been separated.
function offer() {
  tracks.forEach(({ save }) => { save.hidden = false; });
  playback = new Playback(recording, audible());
  $("play").disabled = $("position").disabled = false;
  $("position").max = recording.seconds;
  seek(0);
  const speed = 1 / recording.realTimeFactor;
  const times = `${speed >= 10 ? Math.round(speed) : speed.toFixed(1)} times as fast as it plays`;
  say(`${recording.name}: ${recording.seconds.toFixed(1)} s separated, computed ${times}.`);
}

function saveTrack(track) {
  const stem = recording.name.replace(/\.[^.]*$/, "");
  const href = URL.createObjectURL(wavFile(recording.levelled(track), facts.sample_rate));
  const link = Object.assign(document.createElement("a"), { href, download: `${stem}_${track ? `s${track}` : "mixture"}.wav` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

// From a microphone, or from a file in real time.
async function recordLive(name, open, { isMicrophone, numSamples, audible: isAudible }) {
  begin(name);
  const audio = new LiveAudio(facts, Number($("chunk").value) / 1000);
  const worker = openWorker(() => { audio.start(); say(isMicrophone ? "Recording." : `${name} is separated in real time.`); });
  const stop = () => (audio.started ? audio.stop() : end());
  session = { worker, audio, chunk: Number($("chunk").value), numSamples, audible: isAudible, stop };
  document.body.classList.add("recording");
  $("microphone").textContent = "Stop";
  showChunk();
  say("Opening …");
  try {
    await audio.open(open, (found) => { stats = found; });
    if (session?.audio !== audio) { audio.close(); return; } // stopped meanwhile
    mix();
    const ports = Object.values(audio.ports);
    worker.postMessage({ type: "open", facts, contextRate: audio.sampleRate, ...audio.ports }, ports);
  } catch (error) { end(explain(error)); }
}

function explain(error) {
  const port = location.port || 80;
  const reasons = {
    NotAllowedError: "The browser may not use the microphone. Allow it in this site's settings, beside the address, and try again.",
    NotFoundError: "There is no microphone. Connect one and try again.",
    NotReadableError: "The microphone cannot be opened; another program may be using it.",
    SecureError: "Browsers open microphones only on https pages and on localhost. Forward the port, "
      + `ssh -L ${port}:localhost:${port} ${location.hostname}, and open http://localhost:${port}/`,
  };
  return reasons[error.name] ?? error.message;
}

function toggleMicrophone() {
  if (session) { say("Separating the rest …"); session.stop(); return; }
  recordLive("Microphone", null, { isMicrophone: true, audible: () => Number($("listen").checked) });
}

async function separateFile(file) {
  if (session) { complain("Stop the recording first."); return; }
  complain("");
  say(`Reading ${file.name} …`);
  let samples;
  try {
    samples = await fileSamples(file, facts);
  } catch (error) {
    complain(error.message);
    say("Nothing has been recorded.");
    return;
  }
  if ($("pace").value === "live") { recordLive(file.name, samples, { numSamples: samples.length, audible: () => 1 }); return; }
  begin(file.name);
  const worker = openWorker(() => worker.postMessage({ type: "file", samples, chunkSeconds: FILE_CHUNK_SECONDS }, [samples.buffer]));
  session = { worker, audio: null, chunk: 1000 * FILE_CHUNK_SECONDS, stop: () => end() };
  document.body.classList.add("recording");
  $("microphone").textContent = "Stop";
  say(`Separating ${file.name}, ${(samples.length / facts.sample_rate).toFixed(1)} s …`);
  showChunk();
  worker.postMessage({ type: "open", facts });
}

// -------------------------------------------------------------------------------------------------------------------- transport
function seek(second) {
  if (!playback) return;
  playback.seek(Math.max(0, Math.min(second, recording.seconds)));
}

function togglePlay() {
  if (!playback) return;
  if (playback.running) playback.pause(); else playback.play();
}

// ---------------------------------------------------------------------------------------------------------------- what is shown
function shownWindow() {
  if (!recording) return [0, SHOWN_SECONDS];
  const latest = recording.complete ? recording.seconds : Math.max(recording.seconds, SHOWN_SECONDS);
  if (!playback) return [latest - SHOWN_SECONDS, latest];
  const start = Math.max(0, Math.min(playback.now - SHOWN_SECONDS / 2, recording.seconds - SHOWN_SECONDS));
  return [start, start + SHOWN_SECONDS];
}

// At most 30 times a second, and only when something has changed.
function draw(now) {
  requestAnimationFrame(draw);
  if (now - drawn.at < 30) return;
  const [from, to] = shownWindow();
  const { clientWidth, clientHeight } = tracks[0].canvas;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const size = [clientWidth, clientHeight, devicePixelRatio];
  const state = [from, playback?.now, playback?.running, recording?.seconds, topDb, dark, ...size].join();
  if (state === drawn.state) return;
  Object.assign(drawn, { at: now, state });
  drawAxis(from, to);
  if (recording) drawTracks(from, to);
}

function drawTracks(from, to) {
  let loudest = QUIET_DB;
  tracks.forEach(({ spectrogram }, track) => {
    loudest = Math.max(loudest, spectrogram.draw(recording.tracks[track].all(), recording.gains[track], from, to, topDb));
    ticks(from, to).forEach((second) => spectrogram.mark(second, from, to, "rgb(255 255 255 / .1)"));
    if (playback) spectrogram.mark(playback.now, from, to, "rgb(255 255 255 / .8)");
  });
  topDb = Math.max(topDb, 3 * Math.ceil(loudest / 3)); // in steps: every change repaints
  showTransport();
}

function ticks(from, to) {
  const step = tracks[0].canvas.clientWidth < 500 ? 2 : 1;
  const first = Math.max(0, Math.ceil(from / step));
  return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, k) => step * (first + k));
}

function drawAxis(from, to) {
  const canvas = $("axis");
  const [width, height] = fit(canvas);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--soft");
  context.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  context.textBaseline = "top";
  for (const second of ticks(from, to)) {
    const x = (second - from) / (to - from) * width;
    context.textAlign = x < 12 ? "left" : x > width - 24 ? "right" : "center";
    context.fillText(`${second}${second + (width < 500 ? 2 : 1) > to ? " s" : ""}`, x, 3 * devicePixelRatio);
  }
}

function showTransport() {
  const now = playback ? playback.now : recording.seconds;
  $("play").textContent = playback?.running ? "Pause" : "Play";
  if (playback) $("position").value = now;
  $("time").textContent = playback ? `${now.toFixed(1)} of ${recording.seconds.toFixed(1)} s` : `${now.toFixed(1)} s`;
  $("position").setAttribute("aria-valuetext", `${now.toFixed(1)} seconds`);
}

function showFigures() {
  if (!recording) return;
  const factor = recording.realTimeFactor;
  $("factor").textContent = factor === null ? "–" : factor.toFixed(factor < 0.1 ? 3 : 2);
  $("factor").classList.toggle("bad", factor > 0.9);
  if (!stats) return;
  $("underruns").textContent = stats.underruns;
  $("underruns").classList.toggle("bad", stats.underruns > 0);
  const what = stats.underruns ? `, ${stats.missing.toFixed(2)} s in all` : " for want of samples";
  $("missing").textContent = `times the sound stopped${what}`;
  if (session?.audio && stats.playing) showDelay();
}

function showDelay() {
  const recent = recording.roundTrips.slice(-50).sort((a, b) => a - b);
  const parts = {
    chunk: session.chunk / 1000,
    model: facts.latency_samples / facts.sample_rate,
    computing: recent[recent.length >> 1] ?? 0,
    buffer: stats.buffered,
    device: session.audio.deviceSeconds,
  };
  $("delay").textContent = milliseconds(Object.values(parts).reduce((a, b) => a + b));
  $("delay-parts").textContent = Object.entries(parts).map(([name, seconds]) => `${name} ${Math.round(1000 * seconds)}`).join(" + ");
}

// --------------------------------------------------------------------------------------------------------------- what is pressed
$("microphone").addEventListener("click", () => toggleMicrophone());
$("chunk").addEventListener("change", showChunk);
$("listen").addEventListener("change", () => mix());
$("play").addEventListener("click", togglePlay);
$("position").addEventListener("input", () => seek(Number($("position").value)));
$("file").addEventListener("change", () => {
  if ($("file").files[0]) separateFile($("file").files[0]);
  $("file").value = "";
  $("file").blur(); // so that Space plays, and does not ask for another file
});
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files[0]) separateFile(event.dataTransfer.files[0]);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
  if (event.key === " " && !event.target.matches("button, a, input")) { event.preventDefault(); togglePlay(); }
  else if (event.key === "m") toggleMicrophone();
  else if (event.key === "f") $("file").click();
  else if (event.key === "a") only(null);
  else if (event.key >= "0" && event.key <= String(facts.num_sources)) only(Number(event.key));
});

describe();
mix();
$("page").hidden = false;
setInterval(showFigures, 250);
requestAnimationFrame(draw);
