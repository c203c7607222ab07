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
const mixtureTable = (function makeMixtureTable() {
  const { columns, rows, sources, players } = JSON.parse(document.getElementById("mixture-rows").textContent);
  const root = document.getElementById("mixture-table");
  const [head, body] = [root.querySelector("thead tr"), root.querySelector("tbody")];
  const [filter, count, more] = [root.querySelector("input"), root.querySelector("output"), root.querySelector(".more")];
  const STEP = 25;
  let [sorted, descending, limit] = [0, false, STEP];
  let found = [];
  const opened = new Set();
  const scored = columns.map((column, k) => ({ ...column, k })).filter(({ system }) => system);

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function shown(value, digits) {
    return value === null ? "–" : digits === null ? value : value.toFixed(digits).replace("-", "−");
  }

  // No line break within a metric's name.
  function whole(name) {
    return name.split(/(SI-S[ND]Ri?)/).map((part, k) => (k % 2 ? element("span", { className: "whole", textContent: part }) : part));
  }

  columns.forEach(({ name }, k) => {
    const button = element("button", { type: "button" }, ...whole(name));
    button.addEventListener("click", () => { [sorted, descending] = [k, k === sorted ? !descending : false]; show(); });
    head.append(element("th", { scope: "col" }, button));
  });

  function compare(a, b) {
    const [x, y] = [rows[a][sorted], rows[b][sorted]];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "number" ? x - y : x < y ? -1 : Number(x > y);
    return descending ? -order : order;
  }

  function line(number) {
    const tr = element("tr", { id: `row-${number}`, tabIndex: -1 });
    rows[number].forEach((value, k) => {
      if (k) { tr.append(element("td", { textContent: shown(value, columns[k].digits) })); return; }
      const button = element("button", { type: "button", className: number in players ? "open sounding" : "open", textContent: value });
      button.setAttribute("aria-expanded", opened.has(number));
      button.addEventListener("click", () => toggle(number));
      tr.append(element("th", { scope: "row" }, button));
    });
    return opened.has(number) ? [tr, detail(number)] : [tr];
  }

  function toggle(number) {
    const tr = document.getElementById(`row-${number}`);
    if (opened.delete(number)) tr.nextElementSibling.remove(); else { opened.add(number); tr.after(detail(number)); }
    tr.querySelector(".open").setAttribute("aria-expanded", opened.has(number));
  }

  // The values of each source, and buttons that play it; made when a row is opened.
  function detail(number) {
    const example = number in players ? document.getElementById(`example-${players[number]}`) : null;
    const table = element("table", {}, element("thead", {}, element("tr", {},
      element("th", { scope: "col", textContent: "source" }), element("th", { scope: "col", textContent: "speaker" }),
      ...scored.map(({ name }) => element("th", { scope: "col" }, ...whole(name))))));
    const lines = sources[number].map(([source, speaker, values]) => {
      const place = source.replace(/^s/, "");
      const cells = scored.map(({ name, system, digits }, k) => {
        const first = k === 0 || scored[k - 1].system !== system;
        return element("td", { textContent: shown(values[k], digits) }, ...(first ? hear(example, `${place}-${system}`, `${source}, ${name}`) : []));
      });
      const named = element("th", { scope: "row", textContent: source }, ...hear(example, `${place}-0`, `reference of ${source}`));
      return element("tr", {}, named, element("td", { textContent: speaker || "–" }), ...cells);
    });
    table.append(element("tbody", {}, ...lines));
    const cell = element("td", { colSpan: columns.length });
    if (lines.length) cell.append(table); else cell.append("The scores are means over the sources of each mixture.");
    if (example) cell.append(element("p", {}, ...hear(example, "0-0", "the mixture", "▶ mixture"), " ",
      element("a", { href: `#${example.id}`, textContent: "spectrograms and player" })));
    return element("tr", { className: "detail" }, cell);
  }

  function hear(example, clip, what, text = "▶") {
    const radio = example && example.querySelector(`[data-clip="${clip}"]`);
    if (!radio) return [];
    const button = element("button", { type: "button", className: "hear", textContent: text });
    button.setAttribute("aria-label", `Play or pause ${what}`);
    button.addEventListener("click", () => {
      const { player } = example;
      if (player.running && radio.checked) { player.pause(); return; }
      radio.checked = true;
      if (player.running) player.choose(); else player.play();
    });
    return [button];
  }

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = (row) => row.filter((value) => typeof value === "string").join(" ").toLowerCase();
    found = [...rows.keys()].filter((number) => words.every((word) => texts(rows[number]).includes(word))).sort(compare);
    [...head.children].forEach((cell, k) => {
      if (k === sorted) cell.setAttribute("aria-sort", descending ? "descending" : "ascending"); else cell.removeAttribute("aria-sort");
    });
    body.replaceChildren(...found.slice(0, limit).flatMap(line));
    count.textContent = `${found.length} of ${rows.length} mixtures`;
    more.hidden = found.length <= limit;
  }

  // Show a row that a link asks for, whatever is filtered or not yet shown.
  function open(number) {
    if (!(number in rows)) return;
    if (!found.includes(number)) { filter.value = ""; show(); }
    limit = Math.max(limit, found.indexOf(number) + 1);
    opened.add(number);
    show();
    body.querySelectorAll(".found").forEach((tr) => tr.classList.remove("found"));
    const tr = document.getElementById(`row-${number}`);
    tr.classList.add("found");
    tr.scrollIntoView({ block: "center" });
    tr.querySelector(".open").focus({ preventScroll: true });
  }

  filter.addEventListener("input", () => { limit = STEP; show(); });
  more.addEventListener("click", () => { limit += 4 * STEP; show(); });
  show();
  return { open };
})();

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-row]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const address = `#row-${link.dataset.row}`;
  if (location.hash === address) openAddressed(); else location.hash = address;
});

function openAddressed() {
  const [, number] = location.hash.match(/^#row-(\d+)$/) || [];
  if (number) mixtureTable.open(Number(number));
}
addEventListener("hashchange", openAddressed);
openAddressed();

// ---------------------------------------------------------------------------------------------------- what scrolls, says so
const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => {
  const part = target.closest(".scroll");
  part.previousElementSibling.hidden = part.scrollWidth <= part.clientWidth + 1;
}));
document.querySelectorAll(".scroll").forEach((part) => {
  part.before(Object.assign(document.createElement("p"), { className: "hint", hidden: true, textContent: "scroll sideways for more →" }));
  part.addEventListener("scroll", () => part.classList.toggle("scrolled", part.scrollLeft > 0), { passive: true });
  sizes.observe(part);
  sizes.observe(part.firstElementChild);
});
