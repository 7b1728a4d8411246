// Videos that are brought: sent, extracted by the server, and then in the list like all others.

import { $, count, get, h, percent, problem, say, send, size } from "./dom.js";

let limits = null;
let finished = () => {};
const shown = new Map(); // node per upload, by a number of ours

const WORDS = {
  sending: "sending", waiting: "waits for its turn", loading: "loading the model",
  extracting: "extracting", done: "done", failed: "failed", stopped: "stopped",
};

export function allow(given) {
  limits = given;
  $("add").hidden = !given;
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

async function bring(file) {
  const view = line(file.name);
  if (file.size > limits.upload) {
    view.refuse(`${size(file.size)}; the limit is ${size(limits.upload)}`);
    return;
  }
  const heard = (share) => view.tell("sending", share);
  shown.set(view.node, () => heard.stop?.());
  try {
    const upload = await post(file, heard);
    follow(view, upload);
  } catch (error) {
    view.refuse(error.message);
  }
}

function follow(view, upload) {
  const events = new EventSource(`/api/uploads/${upload.key}/events`);
  shown.set(view.node, () => {
    events.close();
    send("DELETE", `/api/uploads/${upload.key}`).catch(() => {});
  });
  const over = () => {
    events.close();
    if (shown.has(view.node)) shown.set(view.node, null);
    view.button.setAttribute("aria-label", `Hide ${upload.name}`);
    finished();
  };
  events.onmessage = (event) => {
    const now = JSON.parse(event.data);
    if (now.state === "done") {
      view.done(now);
      over();
    } else if (now.state === "failed" || now.state === "stopped") {
      view.refuse(now.message || now.state);
      over();
    } else {
      view.tell(now.state, now.state === "extracting" ? now.done : null,
        now.rows ? count(now.rows, "row") : "");
    }
  };
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
    if (["waiting", "loading", "extracting"].includes(upload.state)) follow(line(upload.name), upload);
  }
}
