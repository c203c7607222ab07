"use strict";

// ------------------------------------------------------------------------------------------------------------ players
// All clips of an example run at once on one clock; choosing one only opens its gain. So the position never jumps.
let audioContext = null;
let playing = null;
const FADE_SECONDS = 0.008;

class Player {
  constructor(root) {
    this.root = root;
    this.clips = [...root.querySelectorAll("audio")];
    this.radios = [...root.querySelectorAll("input[type=radio]")];
    this.button = root.querySelector(".play");
    this.slider = root.querySelector("input[type=range]");
    this.output = root.querySelector("output");
    this.loop = root.querySelector(".loop input");
    this.seconds = Number(root.dataset.seconds);
    this.position = 0;
    this.running = false;
    this.voices = [];
    this.button.addEventListener("click", () => (this.running ? this.pause() : this.play()));
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    this.radios.forEach((radio) => radio.addEventListener("change", () => this.choose()));
    root.classList.add("player");
    root.querySelector(".transport").hidden = false;
    this.show();
  }

  get chosen() { return this.radios.findIndex((radio) => radio.checked); }

  get now() {
    if (!this.running) return this.position;
    const passed = this.position + audioContext.currentTime - this.startedAt;
    return this.loop.checked ? passed % this.seconds : Math.min(passed, this.seconds);
  }

  async decode() {
    audioContext = audioContext || new AudioContext();
    await audioContext.resume();
    this.buffers = this.buffers || Promise.all(this.clips.map((clip) => {
      const bytes = Uint8Array.from(atob(clip.src.split(",")[1]), (character) => character.charCodeAt(0));
      return audioContext.decodeAudioData(bytes.buffer);
    }));
    return this.buffers;
  }

  async play() {
    const buffers = await this.decode();
    if (playing && playing !== this) playing.pause();
    playing = this;
    if (this.position >= this.seconds - 0.01) this.position = 0;
    this.startedAt = audioContext.currentTime + 0.02;
    this.voices = buffers.map((buffer, k) => this.start(buffer, k === this.chosen));
    this.running = true;
    this.button.textContent = "Pause";
    this.root.classList.add("running");
    this.tick();
  }

  start(buffer, audible) {
    const source = new AudioBufferSourceNode(audioContext, { buffer, loop: this.loop.checked });
    const gain = new GainNode(audioContext, { gain: audible ? 1 : 0 });
    source.connect(gain).connect(audioContext.destination);
    source.start(this.startedAt, this.position);
    return { source, gain };
  }

  halt() {
    this.position = this.now;
    this.running = false;
    this.voices.forEach((voice) => { voice.source.stop(); voice.source.disconnect(); voice.gain.disconnect(); });
    this.voices = [];
  }

  pause() {
    if (this.running) this.halt();
    this.button.textContent = "Play";
    this.show();
  }

  seek(position) {
    const resume = this.running;
    if (resume) this.halt();
    this.position = position;
    if (resume) this.play(); else { this.root.classList.add("running"); this.show(); }
  }

  choose() {
    const chosen = this.chosen;
    this.voices.forEach(({ gain }, k) => gain.gain.setTargetAtTime(k === chosen ? 1 : 0, audioContext.currentTime, FADE_SECONDS));
  }

  tick() {
    if (!this.running) return;
    this.show();
    if (!this.loop.checked && this.now >= this.seconds) { this.pause(); return; }
    requestAnimationFrame(() => this.tick());
  }

  show() {
    const now = Math.max(0, this.now);
    this.slider.value = now;
    this.slider.setAttribute("aria-valuetext", `${now.toFixed(1)} seconds`);
    this.output.textContent = `${now.toFixed(1)} of ${this.seconds.toFixed(1)} s`;
    this.root.style.setProperty("--at", now / this.seconds);
  }
}

document.querySelectorAll(".example").forEach((root) => { root.player = new Player(root); });

// ----------------------------------------------------------------------------------------------------- every mixture
(function mixtureTable() {
  const { columns, rows } = JSON.parse(document.getElementById("mixture-rows").textContent);
  const root = document.getElementById("mixture-table");
  const [head, body] = [root.querySelector("thead tr"), root.querySelector("tbody")];
  const [filter, count, more] = [root.querySelector("input"), root.querySelector("output"), root.querySelector(".more")];
  const STEP = 25;
  let [sorted, descending, limit] = [0, false, STEP];

  columns.forEach(({ name }, k) => {
    const cell = Object.assign(document.createElement("th"), { scope: "col" });
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    button.addEventListener("click", () => { [sorted, descending] = [k, k === sorted ? !descending : false]; show(); });
    cell.append(button);
    head.append(cell);
  });

  function compare(a, b) {
    const [x, y] = [a[sorted], b[sorted]];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "number" ? x - y : x < y ? -1 : Number(x > y);
    return descending ? -order : order;
  }

  function line(row) {
    const tr = document.createElement("tr");
    row.forEach((value, k) => {
      const cell = document.createElement(k ? "td" : "th");
      const digits = columns[k].digits;
      cell.textContent = value === null ? "–" : digits === null ? value : value.toFixed(digits).replace("-", "−");
      if (!k) cell.scope = "row";
      tr.append(cell);
    });
    return tr;
  }

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = (row) => row.filter((value) => typeof value === "string").join(" ").toLowerCase();
    const found = rows.filter((row) => words.every((word) => texts(row).includes(word))).sort(compare);
    [...head.children].forEach((cell, k) => {
      if (k === sorted) cell.setAttribute("aria-sort", descending ? "descending" : "ascending"); else cell.removeAttribute("aria-sort");
    });
    body.replaceChildren(...found.slice(0, limit).map(line));
    count.textContent = `${found.length} of ${rows.length} mixtures`;
    more.hidden = found.length <= limit;
  }

  filter.addEventListener("input", () => { limit = STEP; show(); });
  more.addEventListener("click", () => { limit += 4 * STEP; show(); });
  show();
})();
