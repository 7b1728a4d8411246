// The windows that somebody has chosen, whichever view they come from, and the way out: CSV.

import { $, count, h, say, send, span } from "./dom.js";

const chosen = new Map(); // "key row" -> {key, name, row, start_s, end_s}
const watchers = new Set();
let open = false;

const tag = (key, row) => `${key} ${row}`;

export const has = (key, row) => chosen.has(tag(key, row));

export function watch(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

export function add(windows) {
  for (const w of windows) chosen.set(tag(w.key, w.row), w);
  changed(`${count(chosen.size, "window")} selected`);
}

export function remove(key, row) {
  chosen.delete(tag(key, row));
  changed(`${count(chosen.size, "window")} selected`);
}

export function clear() {
  chosen.clear();
  open = false;
  changed("nothing selected");
}

function changed(text) {
  draw();
  say(text);
  for (const watcher of watchers) watcher();
}

async function exported(features, button, note) {
  button.disabled = true;
  note.textContent = "";
  try {
    const rows = [...chosen.values()].map((w) => [w.key, w.row]);
    const response = await send("POST", "/api/export", { rows, features });
    const address = URL.createObjectURL(await response.blob());
    const link = h("a", { href: address, download: "tubelet-selection.csv" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    say("the selection was exported");
  } catch (error) {
    note.textContent = error.message;
  }
  button.disabled = false;
}

function draw() {
  const tray = $("tray");
  tray.hidden = chosen.size === 0;
  if (tray.hidden) {
    tray.replaceChildren();
    return;
  }
  const videos = new Set([...chosen.values()].map((w) => w.key)).size;
  const features = h("input", { type: "checkbox" });
  const note = h("span", { class: "problem", role: "alert" });
  const save = h("button", { type: "button", class: "strong", text: "Export CSV",
    onclick: () => exported(features.checked, save, note) });
  const toggle = h("button", { type: "button", "aria-expanded": String(open),
    text: open ? "Hide" : "Show", onclick: () => { open = !open; draw(); } });
  const items = open
    ? h("ul", { class: "picked" }, ...[...chosen.values()].slice(0, 300).map((w) =>
      h("li", {},
        h("a", { href: `#/v/${w.key}?t=${w.start_s}`, text: w.name }),
        h("span", { class: "quiet", text: `row ${w.row}  ·  ${span(w.start_s, w.end_s)}` }),
        h("button", { type: "button", class: "small", text: "×",
          "aria-label": `Take row ${w.row} of ${w.name} out`,
          onclick: () => remove(w.key, w.row) }))),
      chosen.size > 300 ? h("li", { class: "quiet", text: `and ${chosen.size - 300} more` }) : null)
    : null;
  tray.replaceChildren(
    ...[items].filter(Boolean),
    h("div", { class: "bar" },
      h("strong", { text: `${count(chosen.size, "window")} of ${count(videos, "video")} selected` }),
      toggle,
      h("label", {}, features, " with features"),
      save,
      h("button", { type: "button", text: "Clear", onclick: clear }),
      note),
  );
}
