// The list of videos: filtered by the server, shown page by page.

import { $, clock, count, get, h } from "./dom.js";

const PAGE = 100;
let total = 0;
let loaded = 0;
let current = null;
let latest = 0;

const BADGES = {
  warned: (v) => count(v.warnings, "warning"),
  failed: () => "failed",
  unreadable: () => "unreadable",
};

function item(video) {
  const badge = BADGES[video.state];
  const facts = video.state === "failed" || video.state === "unreadable"
    ? "no rows"
    : `${clock(video.duration_s, 0)}  ·  ${count(video.rows, "row")}`;
  return h("li", {},
    h("a", {
      href: `#/v/${video.key}`, data: { key: video.key }, class: video.state,
      "aria-current": video.key === current ? "true" : null, title: video.name,
    },
      h("span", { class: "name", text: video.name }),
      h("span", { class: "facts" },
        h("span", { text: facts }),
        video.uploaded ? h("span", { class: "badge added", text: "added" }) : null,
        badge ? h("span", { class: `badge ${video.state}`, text: badge(video) }) : null)));
}

async function page(offset, limit) {
  const mine = ++latest;
  const params = {
    q: $("filter").value.trim(), state: $("state").value, sort: $("sort").value, offset, limit,
  };
  const found = await get("/api/videos", params);
  return mine === latest ? found : null;
}

export async function reload({ keep = false } = {}) {
  const limit = Math.min(500, keep ? Math.max(PAGE, loaded) : PAGE);
  const found = await page(0, limit);
  if (!found) return;
  $("list").replaceChildren(...found.items.map(item));
  if (!keep) $("scroll").scrollTop = 0;
  settle(found, found.items.length);
}

async function more() {
  const found = await page(loaded, PAGE);
  if (!found) return;
  $("list").append(...found.items.map(item));
  settle(found, loaded + found.items.length);
}

function settle(found, now) {
  total = found.total;
  loaded = now;
  $("more").hidden = loaded >= total;
}

export function tell(state) {
  const all = state.videos;
  const text = total === all ? count(all, "video") : `${total.toLocaleString("en")} of ${count(all, "video")}`;
  const reading = state.indexing ? `  ·  reading the folder, ${state.total.toLocaleString("en")} found` : "";
  const failed = state.counts.failed ? `  ·  ${state.counts.failed} failed` : "";
  const next = text + failed + reading;
  if ($("count").textContent !== next) $("count").textContent = next;
  lastState = state;
}
let lastState = null;

export function mark(key) {
  current = key;
  for (const link of $("list").querySelectorAll("a")) {
    if (link.dataset.key === key) {
      link.setAttribute("aria-current", "true");
      link.scrollIntoView({ block: "nearest" });
    } else {
      link.removeAttribute("aria-current");
    }
  }
}

export function start() {
  let timer = null;
  const changed = async () => {
    await reload();
    if (lastState) tell(lastState);
  };
  $("filter").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(changed, 120);
  });
  $("filter").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      $("list").querySelector("a")?.focus();
    }
  });
  $("list").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = [...$("list").querySelectorAll("a")];
    const next = links[links.indexOf(document.activeElement) + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  });
  $("state").addEventListener("change", changed);
  $("sort").addEventListener("change", changed);
  $("more").addEventListener("click", more);
  new IntersectionObserver((seen) => {
    if (seen.some((entry) => entry.isIntersecting) && !$("more").hidden) more();
  }, { root: $("scroll"), rootMargin: "400px" }).observe($("more"));
}
