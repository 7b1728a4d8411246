// Which view is shown, the state of the folder, colours, and keys that work everywhere.

import { $, count, get, h, problem } from "./dom.js";
import * as list from "./list.js";
import * as uploads from "./uploads.js";
import { showCompare } from "./compare.js";
import { showMap } from "./map.js";
import { showVideo } from "./player.js";

const POLL_MS = 4000;
let version = null;
let leave = null;
let shown = null;

function recipeInWords(recipe) {
  const w = recipe.window ?? {};
  if (!w.frames) return recipe.model ?? "";
  const stride = w.stride ?? (w.length ?? w.frames * (w.interval ?? 1));
  const rate = w.fps ? ` at ${w.fps} fps` : "";
  const step = w.interval > 1 ? ` every ${w.interval}.` : "";
  return `${recipe.model}  ·  windows of ${w.frames} frames${step}, one each ${stride}${rate}`;
}

async function poll() {
  try {
    const state = await get("/api/state");
    $("out-name").textContent = state.name;
    $("recipe").textContent = recipeInWords(state.recipe);
    $("recipe").title = $("recipe").textContent;
    document.title = `${state.name} · tubelet`;
    uploads.allow(state.uploads);
    document.body.classList.remove("gone");
    if (state.version !== version) {
      const first = version === null;
      version = state.version;
      await list.reload({ keep: !first });
    }
    list.tell(state);
    if (shown === "start") showStart(state);
    return state;
  } catch (error) {
    document.body.classList.add("gone");
    $("count").textContent = `The server does not answer (${error.message})`;
    return null;
  }
}

function showStart(state) {
  const main = $("main");
  if (state && !state.videos) {
    main.replaceChildren(
      h("section", { class: "start" },
        h("h1", { text: state.indexing ? "Looking through the folder…" : "No videos yet" }),
        state.problem ? problem(state.problem) : null,
        h("p", {}, "Extract some into this folder: ",
          h("code", { text: `tubelet extract VIDEOS... -o ${state.name}` })),
        h("p", { class: "quiet", text: "They appear here as they are finished." })),
    );
    return;
  }
  main.replaceChildren(
    h("section", { class: "start" },
      h("h1", { text: state ? state.name : "tubelet" }),
      state ? h("p", { class: "big",
        text: `${count(state.videos, "video")}, ${count(state.rows, "row")}` }) : null,
      h("ol", {},
        h("li", { text: "Choose a video on the left; its rows lie under the player." }),
        h("li", { text: "Click a moment, or drag over a span: the nearest moments of all videos appear below." }),
        h("li", { text: "Compare two videos row by row, or look at all rows as a map and drag over a region." }),
        h("li", { text: "Drop a video anywhere: it is extracted with the recipe of this folder and becomes searchable." })),
      h("dl", { class: "keys" },
        h("dt", {}, h("kbd", { text: "/" })), h("dd", { text: "filter" }),
        h("dt", {}, h("kbd", { text: "←" }), " ", h("kbd", { text: "→" })), h("dd", { text: "on the timeline: row by row; with Shift a span" }),
        h("dt", {}, h("kbd", { text: "Enter" })), h("dd", { text: "on the timeline: nearest moments" }),
        h("dt", {}, h("kbd", { text: "Space" })), h("dd", { text: "on the timeline: play or pause" }))),
  );
}

async function route() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const [, view = "", a, b] = path.split("/");
  const params = new URLSearchParams(query);
  if (leave) leave();
  leave = null;
  const current = { v: "browse", compare: "compare", map: "map" }[view] ?? "browse";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  shown = view || "start";
  list.mark(view === "v" ? a : null);
  const main = $("main");
  main.className = shown;
  try {
    if (view === "v") leave = await showVideo(main, a, params);
    else if (view === "compare") leave = await showCompare(main, a, b);
    else if (view === "map") leave = await showMap(main);
    else showStart(await poll());
  } catch (error) {
    if (error.name !== "AbortError") main.replaceChildren(problem(error));
  }
}

const THEMES = { auto: ["automatic", "◐"], light: ["light", "☀"], dark: ["dark", "☾"] };

function theme(name) {
  const [word, sign] = THEMES[name] ?? THEMES.auto;
  document.documentElement.dataset.theme = name;
  $("theme").textContent = sign;
  $("theme").setAttribute("aria-label", `Colours: ${word}`);
  $("theme").title = `Colours: ${word}`;
  try {
    localStorage.setItem("theme", name);
  } catch {
    // no storage: the choice lasts as long as the page
  }
  dispatchEvent(new Event("themechange"));
}

function start() {
  let saved = null;
  try {
    saved = localStorage.getItem("theme");
  } catch {
    // no storage
  }
  theme(saved ?? "auto");
  $("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const now = document.documentElement.dataset.theme;
    theme(names[(names.indexOf(now) + 1) % names.length]);
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) return;
    event.preventDefault();
    $("filter").focus();
  });
  list.start();
  uploads.start(() => poll());
  addEventListener("hashchange", route);
  poll().then(route);
  setInterval(() => {
    if (!document.hidden) poll();
  }, POLL_MS);
}

start();
