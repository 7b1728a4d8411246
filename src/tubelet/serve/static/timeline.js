// The rows of a video under its player: classes, novelty, time; a moment or a span can be chosen.
//
//   a row owns the time that is nearer to its centre than to any other's; its window may be wider

import { clock, percent, ranked, span, svg, tip, untip } from "./dom.js";

const HEIGHT = { classes: 30, novelty: 44, axis: 22 };
const DRAG = 4;

export class Timeline {
  // rows: the server's timeline; duration_s: of the video. on: seek(t), ask(query)
  constructor(rows, duration_s, on) {
    this.rows = rows;
    this.on = on;
    this.n = rows.center_s.length;
    this.end = Math.max(duration_s ?? 0, ...(this.n ? [rows.end_s[this.n - 1]] : [0.001]));
    this.edges = this.#edges();
    this.view = [0, this.end];
    this.row = -1;
    this.chosen = null; // rows [a, b)
    this.colors = rows.top ? ranked(rows.top.index.map((best) => best[0])) : new Map();
    this.node = svg("svg", {
      class: "timeline", tabindex: "0", role: "slider", "aria-label": "Rows of this video",
      "aria-valuemin": 0, "aria-valuemax": Math.max(0, this.n - 1), "aria-valuenow": 0,
      "aria-keyshortcuts": "ArrowLeft ArrowRight Home End Enter Space Escape + -",
    });
    this.layers = {};
    for (const name of ["classes", "novelty", "axis", "span", "reach", "head"]) {
      this.layers[name] = svg("g", { class: name });
      this.node.append(this.layers[name]);
    }
    this.#listen();
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.node);
    this.at(0);
  }

  close() {
    this.observer.disconnect();
    untip();
  }

  #edges() {
    const { center_s: c, start_s, end_s } = this.rows;
    const edges = [this.n ? Math.min(start_s[0], c[0]) : 0];
    for (let i = 1; i < this.n; i++) edges.push((c[i - 1] + c[i]) / 2);
    if (this.n) edges.push(end_s[this.n - 1]);
    return edges;
  }

  // The row whose centre is nearest to t.
  rowAt(t) {
    let low = 0;
    let high = this.n - 1;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (t > this.edges[mid + 1]) low = mid + 1;
      else high = mid;
    }
    return low;
  }

  words(i) {
    const { start_s, end_s, top, names, padded, novelty } = this.rows;
    const lines = [`row ${i}`, span(start_s[i], end_s[i])];
    if (top) {
      for (let k = 0; k < Math.min(3, top.index[i].length); k++) {
        if (k === 0 || top.score[i][k] >= 0.01) {
          lines.push(`${names[top.index[i][k]]}  ${percent(top.score[i][k])}`);
        }
      }
    }
    lines.push(`novelty ${novelty[i].toFixed(3)}`);
    if (padded[i]) lines.push(`${padded[i]} padded frames`);
    return lines;
  }

  #x(t) {
    return ((t - this.view[0]) / (this.view[1] - this.view[0])) * this.width;
  }

  #t(event) {
    const box = this.node.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return this.view[0] + share * (this.view[1] - this.view[0]);
  }

  // The playhead is at t seconds.
  at(t) {
    this.time = t;
    const row = this.n ? this.rowAt(t) : -1;
    if (row !== this.row) {
      this.row = row;
      this.node.setAttribute("aria-valuenow", Math.max(0, row));
      this.node.setAttribute("aria-valuetext", row < 0 ? "no rows" : this.words(row).join(", "));
      this.on.row?.(row);
      this.#drawReach();
    }
    const inside = t >= this.view[0] && t <= this.view[1];
    if (!inside && this.width) {
      const wide = this.view[1] - this.view[0];
      this.show(t - wide / 10, t + wide * 0.9);
    }
    this.#drawHead();
  }

  choose(a, b) {
    this.chosen = a === null ? null : [Math.min(a, b), Math.max(a, b) + 1];
    this.#drawSpan();
  }

  show(a, b) {
    const wide = Math.min(this.end, Math.max(b - a, this.end / 200, 0.5));
    const from = Math.min(Math.max(0, a), this.end - wide);
    this.view = [from, from + wide];
    this.draw();
  }

  zoom(factor, at = this.time) {
    const [a, b] = this.view;
    this.show(at - (at - a) / factor, at + (b - at) / factor);
  }

  // What is asked for: the chosen rows, or the row under the playhead.
  ask() {
    if (!this.n) return;
    if (this.chosen && this.chosen[1] - this.chosen[0] > 1) {
      const [a, b] = this.chosen;
      const { center_s } = this.rows;
      this.on.ask({ start: center_s[a] - 1e-4, end: center_s[b - 1] + 1e-4 });
    } else {
      this.choose(this.row, this.row);
      this.on.ask({ row: this.row });
    }
  }

  #listen() {
    const node = this.node;
    let from = null;
    let dragged = false;
    node.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.n) return;
      from = { x: event.clientX, t: this.#t(event) };
      dragged = false;
      node.setPointerCapture(event.pointerId);
    });
    node.addEventListener("pointermove", (event) => {
      const t = this.#t(event);
      if (from && (dragged || Math.abs(event.clientX - from.x) > DRAG)) {
        dragged = true;
        this.choose(this.rowAt(from.t), this.rowAt(t));
        const [a, b] = this.chosen;
        tip([b - a === 1 ? `row ${a}` : `rows ${a} – ${b - 1}`,
          span(this.rows.start_s[a], this.rows.end_s[b - 1])], event.clientX, event.clientY);
      } else if (this.n) {
        tip([clock(t), ...this.words(this.rowAt(t))], event.clientX, event.clientY);
        this.#drawReach(this.rowAt(t));
      }
    });
    node.addEventListener("pointerup", (event) => {
      if (!from) return;
      const t = this.#t(event);
      from = null;
      if (!dragged) {
        this.choose(null);
        this.on.seek(t);
        this.at(t);
      }
      this.ask();
    });
    node.addEventListener("pointercancel", () => { from = null; });
    node.addEventListener("pointerleave", () => {
      untip();
      this.#drawReach();
    });
    node.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.3 : 1 / 1.3, this.#t(event));
    }, { passive: false });
    node.addEventListener("keydown", (event) => this.#key(event));
  }

  #key(event) {
    if (!this.n || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10 }[event.key];
    const last = this.n - 1;
    if (step || event.key === "Home" || event.key === "End") {
      const to = step ? Math.min(last, Math.max(0, this.row + step)) : event.key === "Home" ? 0 : last;
      if (event.shiftKey) {
        this.anchor ??= this.row;
        this.choose(this.anchor, to);
      } else {
        this.anchor = null;
        this.choose(null);
      }
      this.on.seek(this.rows.center_s[to]);
      this.at(this.rows.center_s[to]);
    } else if (event.key === "Enter") this.ask();
    else if (event.key === " ") this.on.toggle?.();
    else if (event.key === "Escape") {
      this.anchor = null;
      this.choose(null);
    } else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else return;
    event.preventDefault();
  }

  draw() {
    this.width = this.node.clientWidth;
    if (!this.width) return;
    const height = HEIGHT.classes + HEIGHT.novelty + HEIGHT.axis;
    this.node.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.#drawClasses();
    this.#drawNovelty();
    this.#drawAxis();
    this.#drawSpan();
    this.#drawReach();
    this.#drawHead();
  }

  // Neighbours of one class are one band with its name.
  #drawClasses() {
    const { top, names } = this.rows;
    const bands = [];
    for (let i = 0; i < this.n; i++) {
      const best = top ? top.index[i][0] : -1;
      if (bands.length && bands.at(-1).best === best) bands.at(-1).to = i + 1;
      else bands.push({ best, from: i, to: i + 1 });
    }
    const drawn = [];
    for (const { best, from, to } of bands) {
      const [a, b] = [this.#x(this.edges[from]), this.#x(this.edges[to])];
      if (b < 0 || a > this.width) continue;
      const [left, right] = [Math.max(0, a), Math.min(this.width, b)];
      drawn.push(svg("rect", {
        x: left, y: 2, width: Math.max(0.5, right - left - 1), height: HEIGHT.classes - 4, rx: 3,
        fill: best < 0 ? "var(--line)" : this.colors.get(best), class: "band",
      }));
      const room = Math.floor((right - left - 12) / 6.6);
      const name = best < 0 ? "" : names[best];
      if (name && room > 3) {
        drawn.push(svg("text", { x: left + 6, y: HEIGHT.classes / 2 + 4, class: "label",
          text: name.length > room ? `${name.slice(0, room - 1)}…` : name }));
      }
    }
    const wide = this.n && this.width / Math.max(1, this.n * ((this.end) / (this.view[1] - this.view[0])));
    if (wide > 5) {
      let d = "";
      for (const edge of this.edges.slice(1, -1)) d += `M${this.#x(edge).toFixed(1)} 2v${HEIGHT.classes - 4}`;
      drawn.push(svg("path", { d, class: "ticks" }));
    }
    this.layers.classes.replaceChildren(...drawn);
  }

  #drawNovelty() {
    const { novelty, center_s, boundaries } = this.rows;
    const base = HEIGHT.classes + HEIGHT.novelty - 2;
    const top = novelty.reduce((a, b) => Math.max(a, b), 1e-6); // spread arguments are limited
    const y = (v) => base - (Math.max(0, v) / top) * (HEIGHT.novelty - 8);
    const points = [];
    for (let i = 0; i < this.n; i++) points.push(`${this.#x(center_s[i]).toFixed(1)} ${y(novelty[i]).toFixed(1)}`);
    const drawn = [];
    for (const i of boundaries) {
      const x = this.#x(this.edges[i]);
      drawn.push(svg("line", { x1: x, x2: x, y1: HEIGHT.classes, y2: base, class: "boundary" }));
    }
    if (points.length > 1) {
      const [a, b] = [this.#x(center_s[0]), this.#x(center_s[this.n - 1])];
      drawn.push(svg("path", { class: "area", d: `M${a} ${base}L${points.join("L")}L${b} ${base}Z` }));
      drawn.push(svg("path", { class: "curve", d: `M${points.join("L")}` }));
    }
    drawn.push(svg("text", { x: 4, y: HEIGHT.classes + 12, class: "name", text: "novelty" }));
    this.layers.novelty.replaceChildren(...drawn);
  }

  #drawAxis() {
    const wide = this.view[1] - this.view[0];
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];
    const step = steps.find((s) => (s / wide) * this.width >= 70) ?? 14400;
    const y = HEIGHT.classes + HEIGHT.novelty;
    const drawn = [svg("line", { x1: 0, x2: this.width, y1: y, y2: y })];
    for (let t = Math.ceil(this.view[0] / step) * step; t <= this.view[1] + 1e-9; t += step) {
      const x = this.#x(t);
      drawn.push(svg("line", { x1: x, x2: x, y1: y, y2: y + 4 }));
      const last = x > this.width - 30;
      drawn.push(svg("text", { x: last ? this.width - 2 : x + 3, y: y + 15,
        "text-anchor": last ? "end" : "start", text: clock(t, step < 1 ? 1 : 0) }));
    }
    this.layers.axis.replaceChildren(...drawn);
  }

  #drawSpan() {
    if (!this.chosen || !this.width) return this.layers.span.replaceChildren();
    const [a, b] = this.chosen;
    const [left, right] = [this.#x(this.edges[a]), this.#x(this.edges[b])];
    this.layers.span.replaceChildren(svg("rect", {
      x: left, y: 0, width: Math.max(2, right - left), height: HEIGHT.classes + HEIGHT.novelty, rx: 3,
    }));
  }

  // The whole window of a row, which may be wider than the time it owns.
  #drawReach(row = this.row) {
    if (row < 0 || !this.width) return this.layers.reach.replaceChildren();
    const [a, b] = [this.#x(this.rows.start_s[row]), this.#x(this.rows.end_s[row])];
    const y = HEIGHT.classes + HEIGHT.novelty - 1;
    this.layers.reach.replaceChildren(svg("rect", { x: a, y, width: Math.max(2, b - a), height: 3 }));
  }

  #drawHead() {
    if (!this.width) return;
    const x = this.#x(this.time);
    const y2 = HEIGHT.classes + HEIGHT.novelty + 4;
    this.layers.head.replaceChildren(
      svg("line", { x1: x, x2: x, y1: 0, y2 }),
      svg("path", { d: `M${x - 5} 0h10l-5 7z` }),
    );
  }
}
