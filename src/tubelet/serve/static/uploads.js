// Videos that are brought: sent, extracted by the server, and then in the list like all others.

import { $, count, get, h, percent, problem, say, send, size } from "./dom.js";

let limits = null;
const early = []; // files chosen before the server has said what it takes
let finished = () => {};
const shown = new Map(); // node per upload, by a number of ours

const WORDS = {
  sending: "sending", waiting: "waits for its turn", loading: "loading the model",
  extracting: "extracting", done: "done", failed: "failed", stopped: "stopped",
};

export function allow(given) {
  limits = given;
  $("add").hidden = !given;
  if (given) early.splice(0).forEach(bring);
}

function line(name) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": `Progress of ${name}` });
  const state = h("span", { class: "quiet", role: "status" });
  const button = h("button", { type: "button", class: "small", text: "×", "aria-label": `Stop ${name}` });
  const title = h("strong", { text: name, title: name });
  const node = h("div", { class: "upload" }, h("div", { class: "head" }, title, button), bar, state);
  $("uploads").append(node);
  $("uploads").hidden = false;
  button.addEventListener("click", () => remove(node));
  shown.set(node, null);
  return {
    node, button,
    tell(kind, share, text) {
      node.dataset.state = kind;
      if (share === null || share === undefined) bar.removeAttribute("value");
      else bar.value = share;
      const part = share > 0 && share < 1 ? `  ${percent(share)}` : "";
      state.textContent = `${WORDS[kind]}${part}${text ? `  ·  ${text}` : ""}`;
    },
    refuse(message) {
      node.dataset.state = "failed";
      bar.hidden = true;
      state.replaceChildren(problem(message));
    },
    done(video) {
      bar.hidden = true;
      title.replaceChildren(h("a", { href: `#/v/${video.key}`, text: name }));
      state.textContent = `${count(video.rows, "row")}; searchable now`;
      say(`${name} is extracted`);
    },
  };
}

function remove(node) {
  shown.get(node)?.();
  shown.delete(node);
  node.remove();
  $("uploads").hidden = shown.size === 0;
}

function post(file, heard) {
  // fetch cannot tell how much has been sent
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/uploads");
    request.setRequestHeader("x-tubelet", "1");
    request.setRequestHeader("x-name", encodeURIComponent(file.name));
    request.responseType = "json";
    request.upload.onprogress = (event) => heard(event.loaded / Math.max(1, event.total));
    request.onload = () => (request.status === 201 ? resolve(request.response)
      : reject(new Error(request.response?.error ?? `refused (${request.status})`)));
    request.onerror = () => reject(new Error("the connection was closed; the file may be refused"));
    request.onabort = () => reject(new Error("stopped"));
    request.send(file);
    heard.stop = () => request.abort();
  });
}

// Files are sent one after the other; all that are under way are watched on one line.
let sending = Promise.resolve();
const watched = new Map(); // key -> view
let events = null;

function bring(file) {
  if (!limits) {
    early.push(file);
    return;
  }
  const view = line(file.name);
  if (file.size > limits.upload) {
    view.refuse(`${size(file.size)}; the limit is ${size(limits.upload)}`);
    return;
  }
  view.tell("waiting", null);
  let given = true;
  shown.set(view.node, () => { given = false; });
  sending = sending.then(async () => {
    if (!given) return;
    const heard = (share) => view.tell("sending", share);
    shown.set(view.node, () => heard.stop?.());
    try {
      watch(view, await post(file, heard));
    } catch (error) {
      view.refuse(error.message);
    }
  });
}

function watch(view, upload) {
  watched.set(upload.key, view);
  shown.set(view.node, () => {
    watched.delete(upload.key);
    send("DELETE", `/api/uploads/${upload.key}`).catch(() => {});
  });
  if (!events) {
    events = new EventSource("/api/uploads/events");
    events.onmessage = (event) => JSON.parse(event.data).forEach(hear);
  }
}

function hear(now) {
  const view = watched.get(now.key);
  if (!view) return;
  const bad = now.state === "failed" || now.state === "stopped";
  if (now.state === "done") view.done(now);
  else if (bad) view.refuse(now.message || now.state);
  else {
    view.tell(now.state, now.state === "extracting" ? now.done : null,
      now.rows ? count(now.rows, "row") : "");
    return;
  }
  watched.delete(now.key);
  shown.set(view.node, null);
  view.button.setAttribute("aria-label", `Hide ${now.name}`);
  if (!watched.size) {
    events.close();
    events = null;
  }
  finished();
}

function drops() {
  const veil = $("drop");
  let depth = 0;
  const files = (event) => limits && event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!files(event)) return;
    depth += 1;
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!files(event)) return;
    depth = Math.max(0, depth - 1);
    veil.hidden = depth === 0;
  });
  addEventListener("dragover", (event) => {
    if (files(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    for (const file of event.dataTransfer.files) bring(file);
  });
}

export async function start(whenFinished) {
  finished = whenFinished;
  $("file").addEventListener("change", () => {
    for (const file of $("file").files) bring(file);
    $("file").value = "";
  });
  drops();
  const running = await get("/api/uploads").catch(() => []); // 404: switched off
  for (const upload of running) {
    if (["waiting", "loading", "extracting"].includes(upload.state)) watch(line(upload.name), upload);
  }
}
