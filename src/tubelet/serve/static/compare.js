// Two videos: every row of one against every row of the other, and the path that aligns them.

import { clock, get, h, problem, say, tip, untip } from "./dom.js";
import { screen } from "./player.js";

const LEFT = 44;
const BOTTOM = 20;

function chooser(label, other, side) {
  const id = `choose-${side}`;
  const names = h("datalist", { id: `${id}-names` });
  const input = h("input", { id, list: `${id}-names`, placeholder: "name of a video", autocomplete: "off",
    spellcheck: "false" });
  const byName = new Map();
  async function look() {
    const found = await get("/api/videos", { q: input.value, limit: 50 });
    names.replaceChildren();
    for (const v of found.items) {
      if (!v.rows) continue;
      byName.set(v.name, v.key);
      names.append(h("option", { value: v.name }));
    }
    return found.items.filter((v) => v.rows);
  }
  async function choose() {
    let key = byName.get(input.value);
    if (!key) {
      const items = await look();
      key = byName.get(input.value) ?? (items.length === 1 ? items[0].key : undefined);
    }
    if (!key) return;
    const pair = side === "a" ? [key, other] : [other, key];
    location.hash = `#/compare/${pair.map((k) => k ?? "-").join("/")}`;
  }
  let timer = null;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 120);
    if (byName.has(input.value)) choose();
  });
  input.addEventListener("change", choose);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") choose();
  });
  look();
  return { box: h("div", { class: "chooser" }, h("label", { for: id, text: label }), input, names), input };
}

// 256 colours from far to near, readable in both themes and for most eyes.
function palette() {
  const stops = [[13, 22, 48], [38, 70, 128], [40, 130, 150], [120, 190, 120], [246, 226, 96]];
  const colors = new Uint8ClampedArray(256 * 3);
  for (let v = 0; v < 256; v++) {
    const at = (v / 255) * (stops.length - 1);
    const k = Math.min(stops.length - 2, Math.floor(at));
    for (let c = 0; c < 3; c++) {
      colors[3 * v + c] = stops[k][c] + (at - k) * (stops[k + 1][c] - stops[k][c]);
    }
  }
  return colors;
}

class Matrix {
  // found: the server's answer. on.pick(i, j): rows of a and b
  constructor(found, on) {
    this.found = found;
    this.on = on;
    this.n = found.a.center_s.length;
    this.m = found.b.center_s.length;
    this.cell = [found.best[0], found.best[1]];
    this.image = this.#image();
    this.node = h("canvas", {
      class: "matrix", tabindex: "0", role: "slider", "aria-label": "Rows of both videos against each other",
      "aria-valuemin": 0, "aria-valuemax": this.n * this.m - 1, "aria-valuenow": 0,
      "aria-keyshortcuts": "ArrowLeft ArrowRight ArrowUp ArrowDown Enter",
    });
    this.node.addEventListener("pointermove", (event) => this.#hover(event));
    this.node.addEventListener("pointerleave", untip);
    this.node.addEventListener("click", (event) => this.pick(...this.#cellAt(event)));
    this.node.addEventListener("keydown", (event) => this.#key(event));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.node);
    this.draw();
  }

  close() {
    this.observer.disconnect();
    untip();
  }

  #image() {
    const [rows, columns] = this.found.shape;
    this.levels = Uint8Array.from(atob(this.found.levels), (c) => c.charCodeAt(0));
    const colors = palette();
    const canvas = h("canvas", { width: columns, height: rows });
    const image = new ImageData(columns, rows);
    this.levels.forEach((level, k) => {
      image.data.set(colors.subarray(3 * level, 3 * level + 3), 4 * k);
      image.data[4 * k + 3] = 255;
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  // The part of the canvas that is the matrix; the rest is for times.
  get #area() {
    return [LEFT, 4, this.node.clientWidth - LEFT - 4, this.node.clientHeight - BOTTOM - 4];
  }

  #cellAt(event) {
    const box = this.node.getBoundingClientRect();
    const [x, y, width, height] = this.#area;
    const place = (at, length, count) => Math.min(count - 1, Math.max(0, Math.floor((at / length) * count)));
    return [
      place(event.clientY - box.top - y, height, this.n),
      place(event.clientX - box.left - x, width, this.m),
    ];
  }

  cosine(i, j) {
    const [rows, columns] = this.found.shape;
    const y = Math.min(rows - 1, Math.floor((i / this.n) * rows));
    const x = Math.min(columns - 1, Math.floor((j / this.m) * columns));
    const { low, high } = this.found;
    return low + (this.levels[y * columns + x] / 255) * (high - low);
  }

  words(i, j) {
    const { a, b } = this.found;
    return [`cosine ${this.cosine(i, j).toFixed(2)}`, `${a.name}  ${clock(a.center_s[i])}`, `${b.name}  ${clock(b.center_s[j])}`];
  }

  #hover(event) {
    tip(this.words(...this.#cellAt(event)), event.clientX, event.clientY);
  }

  pick(i, j) {
    this.cell = [i, j];
    this.node.setAttribute("aria-valuenow", i * this.m + j);
    this.node.setAttribute("aria-valuetext", this.words(i, j).join(", "));
    this.draw();
    this.on.pick(i, j);
  }

  #key(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step) {
      const [i, j] = this.cell;
      this.pick(Math.min(this.n - 1, Math.max(0, i + step[0])), Math.min(this.m - 1, Math.max(0, j + step[1])));
    } else if (event.key === "Enter") this.on.play();
    else return;
    event.preventDefault();
  }

  draw() {
    const ratio = devicePixelRatio || 1;
    if (!this.node.clientWidth) return;
    this.node.width = this.node.clientWidth * ratio;
    this.node.height = this.node.clientHeight * ratio;
    const c = this.node.getContext("2d");
    c.scale(ratio, ratio);
    c.imageSmoothingEnabled = false;
    const [left, top, width, height] = this.#area;
    c.drawImage(this.image, left, top, width, height);
    const x = (j) => left + ((j + 0.5) / this.m) * width;
    const y = (i) => top + ((i + 0.5) / this.n) * height;
    this.#times(c, x, y, top + height);
    c.lineJoin = "round";
    for (const [color, thick] of [["rgba(0,0,0,.7)", 5], ["#fff", 2.5]]) {
      c.strokeStyle = color;
      c.lineWidth = thick;
      c.beginPath();
      this.found.path.forEach(([i, j], k) => (k ? c.lineTo(x(j), y(i)) : c.moveTo(x(j), y(i))));
      c.stroke();
    }
    const [i, j] = this.cell;
    for (const [color, thick] of [["rgba(0,0,0,.7)", 4], ["#ff8a3c", 2]]) {
      c.strokeStyle = color;
      c.lineWidth = thick;
      c.beginPath();
      c.arc(x(j), y(i), 7, 0, 7);
      c.stroke();
    }
    c.lineWidth = 1;
    c.setLineDash([4, 4]);
    c.beginPath();
    c.moveTo(x(j), top + height);
    c.lineTo(x(j), y(i) + 7);
    c.moveTo(left, y(i));
    c.lineTo(x(j) - 7, y(i));
    c.stroke();
    c.setLineDash([]);
  }

  #times(c, x, y, bottom) {
    const { a, b } = this.found;
    c.fillStyle = getComputedStyle(this.node).color;
    c.font = "11px system-ui, sans-serif";
    const every = (count, room) => Math.max(1, Math.ceil(count / Math.max(1, room)));
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (let i = 0; i < this.n; i += every(this.n, this.node.clientHeight / 34)) {
      c.fillText(clock(a.center_s[i], 0), LEFT - 6, y(i));
    }
    c.textAlign = "center";
    c.textBaseline = "top";
    for (let j = 0; j < this.m; j += every(this.m, this.node.clientWidth / 60)) {
      c.fillText(clock(b.center_s[j], 0), x(j), bottom + 6);
    }
  }
}

export async function showCompare(main, a, b) {
  const keys = [a, b].map((key) => (key && key !== "-" ? key : undefined));
  const first = chooser("First video (down)", keys[1], "a");
  const second = chooser("Second video (across)", keys[0], "b");
  const body = h("div", { class: "compared" },
    h("p", { class: "quiet", text: "Choose two videos: every row of one is compared with every row of the other." }));
  main.replaceChildren(h("h1", { text: "Compare two videos" }), h("div", { class: "choosers" }, first.box, second.box), body);
  const closers = [];
  const videos = await Promise.all(keys.map((key) => (key ? get(`/api/videos/${key}`) : null)));
  videos.forEach((video, k) => {
    if (video) [first, second][k].input.value = video.name;
  });
  (keys[0] ? second : first).input.focus();
  if (!keys[0] || !keys[1]) return null;
  try {
    const found = await get("/api/compare", { a: keys[0], b: keys[1] });
    const screens = videos.map((video) => screen(video));
    const matrix = new Matrix(found, {
      pick: (i, j) => {
        screens[0].seek(found.a.center_s[i]);
        screens[1].seek(found.b.center_s[j]);
      },
      play: () => {
        for (const { element } of screens) (element.paused ? element.play().catch(() => {}) : element.pause());
      },
    });
    closers.push(matrix, ...screens);
    const grouped = [found.a, found.b].filter((side) => side.grouped > 1)
      .map((side) => `${side.name}: each cell stands for ${side.grouped} rows`);
    body.replaceChildren(
      h("div", { class: "square" }, matrix.node,
        h("p", { class: "scale" }, h("span", { text: `cosine ${found.low.toFixed(2)}` }),
          h("span", { class: "ramp", "aria-hidden": "true" }), h("span", { text: found.high.toFixed(2) })),
        h("p", { class: "quiet", text: `Mean cosine along the path ${found.along.toFixed(3)}; nearest rows ${found.best[2].toFixed(3)}. ${grouped.join("; ")}` })),
      h("div", { class: "pairs" }, ...screens.map(({ box }, k) =>
        h("figure", {}, box, h("figcaption", {},
          h("a", { href: `#/v/${keys[k]}`, text: videos[k].name }),
          h("span", { class: "quiet", text: k ? "  across" : "  down" }))))),
    );
    matrix.pick(found.best[0], found.best[1]);
    matrix.draw();
    matrix.node.focus({ preventScroll: true });
    say("compared");
  } catch (error) {
    body.replaceChildren(problem(error));
  }
  return () => closers.forEach((thing) => thing.close());
}
