// All rows as points in the plane of the two directions along which they differ most.

import { $, OTHER, clock, count, get, h, percent, ranked, say, tip, untip } from "./dom.js";
import { card } from "./results.js";
import * as selection from "./selection.js";

const PAD = 18;
const SHOWN = 60;

class Map2 {
  constructor(data, on) {
    this.data = data;
    this.on = on;
    this.by = "video";
    this.brush = null; // [x0, y0, x1, y1] on the canvas
    this.cursor = null;
    this.picked = new Set();
    this.node = h("canvas", {
      class: "map", tabindex: "0", role: "application",
      "aria-label": `Map of ${count(data.points, "row")}. Arrows move a cross, Shift and arrows draw a region, Enter selects.`,
    });
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.node);
    this.color("video");
    this.#listen();
  }

  close() {
    this.observer.disconnect();
    untip();
  }

  color(by) {
    this.by = by;
    const values = by === "class" ? this.data.class : this.data.video;
    this.colors = ranked(values);
    this.draw();
  }

  legend() {
    const { data } = this;
    const name = (value) => (this.by === "class" ? data.names[value] ?? "no class" : data.videos[value].name);
    const top = [...this.colors].slice(0, 10).map(([value, color]) => [name(value), color]);
    if (this.colors.size > 10) top.push([`${this.colors.size - 10} more`, OTHER]);
    return top;
  }

  #scale() {
    const { x, y } = this.data;
    const range = (values) => {
      let low = Infinity;
      let high = -Infinity;
      for (const v of values) {
        if (v < low) low = v;
        if (v > high) high = v;
      }
      return [low, high - low || 1];
    };
    const [x0, dx] = range(x);
    const [y0, dy] = range(y);
    // One unit is as long in both directions.
    const unit = Math.min((this.width - 2 * PAD) / dx, (this.height - 2 * PAD) / dy);
    const left = (this.width - unit * dx) / 2;
    const top = (this.height - unit * dy) / 2;
    this.px = Float32Array.from(x, (v) => left + (v - x0) * unit);
    this.py = Float32Array.from(y, (v) => this.height - top - (v - y0) * unit);
  }

  nearest(x, y, within = 14) {
    let best = -1;
    let least = within * within;
    for (let i = 0; i < this.data.points; i++) {
      const d = (this.px[i] - x) ** 2 + (this.py[i] - y) ** 2;
      if (d < least) {
        least = d;
        best = i;
      }
    }
    return best;
  }

  inside([x0, y0, x1, y1]) {
    const [a, b] = [Math.min(x0, x1), Math.max(x0, x1)];
    const [c, d] = [Math.min(y0, y1), Math.max(y0, y1)];
    const found = [];
    for (let i = 0; i < this.data.points; i++) {
      if (this.px[i] >= a && this.px[i] <= b && this.py[i] >= c && this.py[i] <= d) found.push(i);
    }
    return found;
  }

  words(i) {
    const { data } = this;
    const lines = [data.videos[data.video[i]].name, `row ${data.row[i]} at ${clock(data.t[i])}`];
    if (data.class[i] >= 0) lines.push(data.names[data.class[i]]);
    return lines;
  }

  pick(indices, more) {
    if (!more) this.picked.clear();
    for (const i of indices) this.picked.add(i);
    this.draw();
    this.on.pick([...this.picked]);
  }

  #place(event) {
    const box = this.node.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #listen() {
    const { node } = this;
    let from = null;
    node.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = this.#place(event);
      node.setPointerCapture(event.pointerId);
    });
    node.addEventListener("pointermove", (event) => {
      const [x, y] = this.#place(event);
      if (from) {
        this.brush = [...from, x, y];
        this.draw();
        return;
      }
      const i = this.nearest(x, y);
      if (i < 0) untip();
      else tip(this.words(i), event.clientX, event.clientY);
    });
    node.addEventListener("pointerup", (event) => {
      if (!from) return;
      const [x, y] = this.#place(event);
      const moved = Math.hypot(x - from[0], y - from[1]) > 4;
      const box = [...from, x, y];
      from = null;
      this.brush = null;
      const near = this.nearest(x, y);
      this.pick(moved ? this.inside(box) : near < 0 ? [] : [near], event.shiftKey);
    });
    node.addEventListener("pointerleave", untip);
    node.addEventListener("blur", untip);
    node.addEventListener("keydown", (event) => this.#key(event));
  }

  #key(event) {
    const step = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] }[event.key];
    if (step) {
      this.cursor ??= [this.width / 2, this.height / 2];
      if (event.shiftKey) this.brush ??= [...this.cursor, ...this.cursor];
      else this.brush = null;
      this.cursor = [
        Math.min(this.width, Math.max(0, this.cursor[0] + step[0])),
        Math.min(this.height, Math.max(0, this.cursor[1] + step[1])),
      ];
      if (this.brush) this.brush.splice(2, 2, ...this.cursor);
      this.draw();
      const i = this.nearest(...this.cursor, 30);
      const box = this.node.getBoundingClientRect();
      if (i >= 0) tip(this.words(i), box.left + this.cursor[0], box.top + this.cursor[1]);
      say(this.brush ? count(this.inside(this.brush).length, "row") : i < 0 ? "nothing here" : this.words(i).join(", "));
    } else if (event.key === "Enter" && this.cursor) {
      const near = this.nearest(...this.cursor, 30);
      this.pick(this.brush ? this.inside(this.brush) : near < 0 ? [] : [near], false);
      this.brush = null;
      this.draw();
    } else if (event.key === "Escape") {
      this.brush = null;
      this.pick([], false);
    } else return;
    event.preventDefault();
  }

  draw() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.node;
    if (!width || !height) return;
    if (width !== this.width || height !== this.height) {
      Object.assign(this, { width, height });
      this.#scale();
    }
    this.node.width = width * ratio;
    this.node.height = height * ratio;
    const c = this.node.getContext("2d");
    c.scale(ratio, ratio);
    const values = this.by === "class" ? this.data.class : this.data.video;
    const n = this.data.points;
    const radius = n > 5000 ? 1.6 : n > 800 ? 2.4 : 4;
    const some = this.picked.size > 0;
    for (let i = 0; i < n; i++) {
      const on = !some || this.picked.has(i);
      c.globalAlpha = on ? 0.85 : 0.22;
      c.fillStyle = this.colors.get(values[i]);
      c.beginPath();
      c.arc(this.px[i], this.py[i], some && on ? radius + 1 : radius, 0, 7);
      c.fill();
    }
    c.globalAlpha = 1;
    c.strokeStyle = getComputedStyle(this.node).color;
    if (this.brush) {
      const [x0, y0, x1, y1] = this.brush;
      c.fillStyle = "rgba(80,140,200,.18)";
      c.fillRect(x0, y0, x1 - x0, y1 - y0);
      c.strokeRect(x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0);
    }
    if (this.cursor && document.activeElement === this.node) {
      const [x, y] = this.cursor;
      c.beginPath();
      c.moveTo(x - 8, y);
      c.lineTo(x + 8, y);
      c.moveTo(x, y - 8);
      c.lineTo(x, y + 8);
      c.stroke();
    }
  }
}

export async function showMap(main) {
  const wait = h("p", { class: "quiet", role: "status", text: "Reading all rows…" });
  main.replaceChildren(h("h1", { text: "Map of all rows" }), wait);
  const data = await get("/api/map", {}, { patient: (text) => { wait.textContent = text; } });
  if (!data.points) {
    wait.textContent = "There are no rows yet.";
    return null;
  }
  const side = h("section", { class: "picked-rows", "aria-label": "Selected rows" });
  const legend = h("ul", { class: "legend" });

  function windows(indices) {
    return indices.map((i) => {
      const video = data.videos[data.video[i]];
      return { ...video, row: data.row[i], start_s: data.start_s[i], end_s: data.end_s[i] };
    });
  }
  function pick(indices) {
    if (!indices.length) {
      side.replaceChildren(h("p", { class: "quiet", text: "Drag over a region, or click a point; with Shift it is added." }));
      return;
    }
    const found = windows(indices);
    const names = new Set(found.map((w) => w.key));
    say(`${count(found.length, "row")} of ${count(names.size, "video")}`);
    side.replaceChildren(
      h("div", { class: "actions" },
        h("strong", { text: `${count(found.length, "row")} of ${count(names.size, "video")}` }),
        h("button", { type: "button", class: "strong", text: "Add to selection", onclick: () => selection.add(found) })),
      h("ul", { class: "cards narrow" }, ...found.slice(0, SHOWN).map(card)),
      found.length > SHOWN ? h("p", { class: "quiet", text: `and ${found.length - SHOWN} more` }) : null);
  }
  const map = new Map2(data, { pick });
  const showLegend = () => legend.replaceChildren(...map.legend().map(([name, color]) => {
    const dot = h("span", { class: "dot" });
    dot.style.background = color;
    return h("li", {}, dot, h("span", { text: name, title: name }));
  }));
  const by = h("select", { id: "color-by", onchange: () => { map.color(by.value); showLegend(); } },
    h("option", { value: "video", text: "video" }));
  if (data.class.some((c) => c >= 0)) by.append(h("option", { value: "class", text: "best class" }));
  const share = data.share.map(percent);
  const of = data.fitted < data.total ? ` (found from ${data.fitted.toLocaleString("en")} rows)` : "";
  const sampled = data.points < data.total ? `; ${data.points.toLocaleString("en")} of ${data.total.toLocaleString("en")} rows are shown, evenly spread` : "";
  main.replaceChildren(
    h("h1", { text: "Map of all rows" }),
    h("div", { class: "mapbar" },
      h("label", { for: "color-by", text: "Colour by" }), by,
      h("span", { class: "quiet", text: `The two principal axes hold ${share.join(" and ")} of the variance${of}${sampled}.` })),
    h("div", { class: "mapped" }, h("div", { class: "plane" }, map.node, legend), side));
  showLegend();
  pick([]);
  map.draw();
  const recolor = () => map.draw();
  addEventListener("themechange", recolor);
  $("main").focus({ preventScroll: true });
  return () => {
    removeEventListener("themechange", recolor);
    map.close();
  };
}
