// One video: its picture, its rows under it, and what is nearest to a moment of it.

import { $, clock, count, get, h, percent, problem, say, send, size } from "./dom.js";
import { cards, cost, describe } from "./results.js";
import { Timeline } from "./timeline.js";

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// A video element that falls back on a preview: the server makes a small copy when asked.
export function screen(video, { onplays, onnote } = {}) {
  const element = h("video", { controls: true, playsinline: true, preload: "metadata",
    "aria-label": `${video.name}` });
  const note = h("div", { class: "screen-note", role: "status" });
  const box = h("div", { class: "screen" }, element, note);
  let closed = false;
  let preview = false;
  let wanted = null;

  const seek = (t) => {
    wanted = t;
    if (element.readyState >= 1) element.currentTime = t;
  };
  element.addEventListener("loadedmetadata", () => {
    if (!element.videoWidth) return useless();
    if (wanted !== null) element.currentTime = wanted;
    box.classList.remove("waits");
    onplays?.();
  });
  element.addEventListener("error", () => {
    if (element.getAttribute("src")) useless();
  });

  function tell(...parts) {
    note.replaceChildren(...parts.filter(Boolean));
    box.classList.add("waits");
    onnote?.();
  }

  async function useless() {
    element.removeAttribute("src");
    element.load();
    if (preview) return tell(h("p", { text: "This browser plays neither the file nor its preview." }));
    preview = true;
    const bar = h("progress", { max: 1, "aria-label": "Making the preview" });
    const kind = video.record ? `${video.record.container} with ${video.record.codec}` : "this file";
    tell(h("p", { text: `This browser cannot play ${kind}.` }),
      h("p", { class: "quiet", text: "A small preview is being made: H.264, no sound, the same seconds." }), bar);
    try {
      let state = await (await send("POST", `/api/videos/${video.key}/preview`)).json();
      while (state.state === "working" && !closed) {
        if (state.done !== null) bar.value = state.done;
        await pause(300);
        state = await get(`/api/videos/${video.key}/preview`);
      }
      if (closed) return;
      if (state.state !== "ready") throw new Error(`No preview could be made: ${state.message}`);
      note.replaceChildren();
      box.classList.add("preview");
      element.src = `/media/${video.key}/preview`;
    } catch (error) {
      tell(problem(error));
    }
  }

  const media = video.media;
  if (!media || media.state === "none") {
    tell(h("p", { text: "The video cannot be shown." }),
      h("p", { class: "quiet", text: media?.reason ?? "" }),
      media?.reason?.includes("not here")
        ? h("p", { class: "quiet" }, h("code", { text: "--videos DIR" }), " names another folder to look in.") : null);
  } else if (media.preview?.state === "ready") {
    preview = true;
    box.classList.add("preview");
    element.src = `/media/${video.key}/preview`;
  } else if (media.state === "preview") {
    useless();
  } else {
    element.src = `/media/${video.key}`;
  }
  return {
    box, element, seek,
    close() {
      closed = true;
      element.pause();
      element.removeAttribute("src");
      element.load();
    },
  };
}

function facts(video) {
  const r = video.record;
  const rows = [
    ["video", `${clock(r.duration_s)}, ${r.frame_size?.join(" × ") ?? "?"}, ${Number(r.fps).toFixed(2)} fps`],
    ["coded as", `${r.codec ?? "?"} in ${String(r.container ?? "?").split(",")[0]}${r.size_bytes ? `, ${size(r.size_bytes)}` : ""}`],
    ["decoded", count(r.decoded_frames ?? 0, "frame")],
    ["rows", `${r.rows} × ${(r.shape ?? []).slice(1).join(" × ")}, ${r.dtype}`],
    ["source", r.source],
  ];
  if (r.range_s?.some((t) => t !== null)) rows.push(["part", r.range_s.map((t) => clock(t)).join(" – ")]);
  return h("dl", { class: "factlist" },
    ...rows.flatMap(([name, text]) => [h("dt", { text: name }), h("dd", { text: text ?? "–", title: text ?? "" })]));
}

function notices(video) {
  const { warnings = [], notes = [] } = video.record;
  const list = h("ul", {}, ...warnings.map((text) => h("li", { text })));
  return [
    warnings.length ? h("div", { class: "warning" }, h("strong", { text: count(warnings.length, "warning") }), list) : null,
    ...notes.map((text) => h("p", { class: "note", text })),
  ];
}

function failure(video) {
  const f = video.failure ?? {};
  const lines = [
    ["stage", f.stage], ["error", f.type], ["last frame", f.frame], ["attempts", f.attempts],
    ["source", f.source],
  ];
  return h("section", { class: "failure" },
    h("h1", { text: video.name }),
    h("p", { class: "problem", role: "alert" },
      h("strong", { text: "This video gave no features. " }), f.message ?? video.problem ?? ""),
    h("dl", { class: "factlist" }, ...lines
      .filter(([, value]) => value !== undefined && value !== null)
      .flatMap(([name, value]) => [h("dt", { text: name }), h("dd", { text: String(value) })])),
    f.unexpected ? h("p", { class: "quiet", text: "It was not an error that is raised on purpose." }) : null,
    h("p", { class: "quiet" }, "Try again: ", h("code", { text: "tubelet extract ... --retry-failed" })));
}

function now(video) {
  const { timeline } = video;
  const when = h("p", { class: "when" });
  const best = h("ol", { class: "best" });
  const box = h("div", { class: "now", "aria-live": "off" }, when, best);
  return {
    box,
    show(row) {
      if (row < 0) {
        when.textContent = "no rows";
        return;
      }
      when.replaceChildren(h("strong", { text: `row ${row}` }),
        h("span", { text: `${clock(timeline.start_s[row], 2)} – ${clock(timeline.end_s[row], 2)} s` }));
      if (!timeline.top) {
        best.replaceChildren(h("li", { class: "quiet", text: timeline.classes_from }));
        return;
      }
      best.replaceChildren(...timeline.top.index[row].map((index, k) => {
        const share = timeline.top.score[row][k];
        const bar = h("span", { class: "bar" });
        bar.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
        return h("li", {}, bar, h("span", { class: "name", text: timeline.names[index] }),
          h("span", { class: "share", text: percent(share) }));
      }));
    },
  };
}

function zoomers(timeline) {
  const button = (text, label, act) => h("button", { type: "button", class: "small", text, "aria-label": label, title: label, onclick: act });
  return h("span", { class: "zoomers" },
    button("−", "Zoom out", () => timeline.zoom(1 / 1.6)),
    button("+", "Zoom in", () => timeline.zoom(1.6)),
    button("all", "Show the whole video", () => timeline.show(0, timeline.end)));
}

export async function showVideo(main, key, params) {
  const abort = new AbortController();
  const video = await get(`/api/videos/${encodeURIComponent(key)}`, {}, { signal: abort.signal });
  if (video.state === "failed" || video.state === "unreadable") {
    main.replaceChildren(failure(video));
    return () => abort.abort();
  }
  const player = screen(video);
  const moment = now(video);
  const results = h("section", { class: "results", "aria-label": "Nearest moments", "aria-busy": "false" },
    h("p", { class: "quiet hint", text: video.rows
      ? "Click a moment of the timeline, or drag over a span, to find what is nearest in all videos."
      : "This video has no rows: it is shorter than one window." }));
  let asked = 0;

  async function ask(query) {
    const mine = ++asked;
    results.setAttribute("aria-busy", "true");
    const patient = (text) => {
      if (mine === asked) results.replaceChildren(h("p", { class: "quiet", text }));
    };
    try {
      const found = await get("/api/search", { key, ...query }, { signal: abort.signal, patient });
      if (mine !== asked) return;
      const [a, b] = found.query.rows;
      const { start_s, end_s } = video.timeline;
      found.query.windows = [];
      for (let row = a; row < b; row++) {
        found.query.windows.push({ key, name: video.name, row, start_s: start_s[row], end_s: end_s[row] });
      }
      results.replaceChildren(describe(found.query),
        h("h2", {}, "Nearest moments ", h("small", { text: cost(found) })), cards(found));
      say(`${count(found.hits.length, "moment")} found; nearest: ${found.hits[0]?.name ?? "none"}`);
    } catch (error) {
      if (error.name !== "AbortError" && mine === asked) results.replaceChildren(problem(error));
    }
    results.setAttribute("aria-busy", "false");
  }

  const timeline = new Timeline(video.timeline, video.duration_s ?? video.record.duration_s, {
    seek: (t) => player.seek(t),
    row: (row) => moment.show(row),
    toggle: () => (player.element.paused ? player.element.play().catch(() => {}) : player.element.pause()),
    ask,
  });
  moment.show(timeline.row);

  let frame = 0;
  const follow = () => {
    timeline.at(player.element.currentTime);
    frame = player.element.paused ? 0 : requestAnimationFrame(follow);
  };
  player.element.addEventListener("play", () => { if (!frame) follow(); });
  for (const name of ["seeked", "timeupdate"]) {
    player.element.addEventListener(name, () => timeline.at(player.element.currentTime));
  }

  const classes = video.timeline.top ? `classes: ${video.timeline.classes_from}` : video.timeline.classes_from;
  main.replaceChildren(
    h("div", { class: "title" },
      h("h1", { text: video.name }),
      h("a", { class: "button", href: `#/compare/${key}`, text: "Compare with…" })),
    ...notices(video).filter(Boolean),
    h("div", { class: "watch" }, player.box, h("div", { class: "beside" }, moment.box, facts(video))),
    h("div", { class: "rows" },
      h("div", { class: "rowshead" }, h("span", { class: "quiet", text: classes, title: classes }), zoomers(timeline)),
      timeline.node),
    results,
  );
  main.scrollTop = 0;
  timeline.draw();
  const t = Number.parseFloat(params.get("t"));
  if (Number.isFinite(t)) {
    player.seek(t);
    timeline.at(t);
  }
  $("main").focus({ preventScroll: true });
  return () => {
    abort.abort();
    cancelAnimationFrame(frame);
    timeline.close();
    player.close();
  };
}
