// Nearest moments as cards; the picture of a card is the video itself at its second.

import { clock, count, get, h, percent, span } from "./dom.js";
import * as selection from "./selection.js";

// How a video can be played; asked once per video, and again after a minute.
const known = new Map();

function mediaOf(key) {
  const now = performance.now();
  const before = known.get(key);
  if (before && now - before.at < 60000) return before.media;
  const media = get(`/api/videos/${key}/media`);
  known.set(key, { at: now, media });
  return media;
}

function picture(hit) {
  const box = h("div", { class: "picture" });
  const video = h("video", { playsinline: true, preload: "none", tabindex: "-1", "aria-hidden": "true" });
  video.muted = true;
  const none = () => {
    if (!video.isConnected) return;
    box.replaceChildren(h("span", { class: "nopicture", text: "no picture here; open the video" }));
  };
  const begin = async () => {
    const media = await mediaOf(hit.key).catch(() => null);
    if (media?.preview?.state === "ready") video.src = `/media/${hit.key}/preview`;
    else if (media?.state === "file") video.src = `/media/${hit.key}`;
    else return none();
    video.preload = "metadata";
  };
  video.addEventListener("error", none);
  video.addEventListener("loadedmetadata", () => {
    if (!video.videoWidth) none();
    else video.currentTime = hit.start_s; // and so the frame is shown
  });
  video.addEventListener("timeupdate", () => {
    if (video.currentTime >= hit.end_s) {
      video.pause();
      video.currentTime = hit.start_s;
    }
  });
  box.append(video);
  return { box, video, begin };
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    entry.target.begin();
  }
}, { rootMargin: "200px" });

export function card(hit) {
  const { box, video, begin } = picture(hit);
  box.begin = begin;
  seen.observe(box);
  const play = h("button", {
    type: "button", class: "play", "aria-label": `Play ${hit.name} from ${clock(hit.start_s)}`,
    onclick: () => {
      if (!video.isConnected) {
        location.hash = `#/v/${hit.key}?t=${hit.start_s}`;
      } else if (video.paused) {
        for (const other of document.querySelectorAll(".card video")) other.pause();
        video.play().catch(() => {});
      } else {
        video.pause();
      }
    },
  }, "▶");
  video.addEventListener("play", () => { play.textContent = "❚❚"; });
  video.addEventListener("pause", () => { play.textContent = "▶"; });
  const tick = h("input", {
    type: "checkbox", "aria-label": `Select row ${hit.row} of ${hit.name}`,
    onchange: () => (tick.checked ? selection.add([hit]) : selection.remove(hit.key, hit.row)),
  });
  tick.checked = selection.has(hit.key, hit.row);
  const bar = h("span", { class: "cosine", "aria-hidden": "true" }, h("span"));
  bar.firstChild.style.width = `${Math.max(0, hit.cosine ?? 0) * 100}%`;
  return h("li", { class: "card" },
    box, play,
    h("div", { class: "about" },
      h("a", { class: "name", href: `#/v/${hit.key}?t=${hit.start_s}`, text: hit.name, title: hit.name }),
      h("span", { class: "quiet", text: span(hit.start_s, hit.end_s) }),
      hit.cosine === undefined ? null
        : h("span", { class: "score" }, bar, h("span", { text: hit.cosine.toFixed(3) })),
      h("label", { class: "tick" }, tick, h("span", { class: "unseen", text: "select" }))));
}

export function describe(query) {
  // The mean feature of what was asked for.
  const [first, stop] = query.rows;
  const rows = stop - first === 1 ? `row ${first}` : `mean of rows ${first} – ${stop - 1}`;
  const strip = h("canvas", { class: "strip", width: 512, height: 40, role: "img",
    "aria-label": `The ${query.mean.length} numbers of the feature` });
  requestAnimationFrame(() => bars(strip, query.mean)); // its colour is known when it is shown
  return h("div", { class: "query" },
    h("div", {},
      h("strong", { text: rows }),
      h("span", { class: "quiet", text: `  ${span(query.start_s, query.end_s)}  ·  length ${query.norm.toFixed(2)}` }),
      stop - first > 1
        ? h("span", { class: "quiet", text: `  ·  agreement ${query.agreement.toFixed(3)}`, title: "mean cosine of the rows with their mean" }) : null,
      h("ul", { class: "chips" }, ...query.classes.slice(0, 3).filter(([, p], k) => !k || p >= 0.01).map(([name, share]) =>
        h("li", { text: `${name}  ${percent(share)}` })))),
    strip,
    h("div", { class: "actions" },
      h("button", { type: "button", text: stop - first === 1 ? "Select this row" : `Select ${stop - first} rows`,
        onclick: () => selection.add(query.windows) }),
      h("a", { class: "button", text: stop - first === 1 ? "Save the feature" : "Save the mean", download: `${query.name.replaceAll("/", "_")}_${first}-${stop}.npy`,
        href: `/api/mean?key=${query.key}&start=${query.rows[0]}&stop=${query.rows[1]}` })));
}

function bars(canvas, values) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const top = Math.max(...values.map(Math.abs)) || 1;
  const negative = values.some((v) => v < 0);
  context.fillStyle = getComputedStyle(canvas).color;
  const zero = negative ? height / 2 : height;
  for (let x = 0; x < width; x++) {
    const from = Math.floor((x * values.length) / width);
    const to = Math.max(from + 1, Math.floor(((x + 1) * values.length) / width));
    let peak = 0;
    for (let i = from; i < to; i++) if (Math.abs(values[i]) > Math.abs(peak)) peak = values[i];
    const length = (peak / top) * (negative ? height / 2 : height);
    context.fillRect(x, Math.min(zero, zero - length), 1, Math.max(1, Math.abs(length)));
  }
}

export function cards(found) {
  if (!found.hits.length) {
    return h("p", { class: "quiet", text: "No other moment in this set." });
  }
  return h("ul", { class: "cards" }, ...found.hits.map(card));
}

export const cost = (found) =>
  `${found.engine}, ${count(found.rows, "row")}, ${found.took_ms.toFixed(1)} ms`;
