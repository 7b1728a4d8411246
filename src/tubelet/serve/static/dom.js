// Elements, numbers as text, and questions to the server. Text is always text: nothing is parsed.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export const h = (tag, props = {}, ...children) =>
  fill(document.createElement(tag), props, children);

export const svg = (tag, props = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), props, children);

export const $ = (id) => document.getElementById(id);

export function clock(seconds, digits = 1) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const whole = Math.max(0, seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = (whole % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export const span = (a, b) => `${clock(a)} – ${clock(b)}`;

export const percent = (share) =>
  share === null || share === undefined ? "" : share < 0.005 ? "< 1 %" : `${Math.round(100 * share)} %`;

export const count = (n, one, many = `${one}s`) =>
  `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let k = 0;
  for (; bytes >= 1000 && k < units.length - 1; k++) bytes /= 1000;
  return `${k ? bytes.toFixed(1) : bytes} ${units[k]}`;
}

export class Refusal extends Error {}

async function answer(response) {
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error ?? message;
  } catch {
    // not JSON: the status says it
  }
  throw Object.assign(new Refusal(message), { status: response.status });
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export async function get(path, params = {}, { signal, patient } = {}) {
  const query = new URLSearchParams(
    Object.entries(params).filter(([, v]) => v !== undefined && v !== null),
  );
  const address = query.size ? `${path}?${query}` : path;
  for (;;) {
    try {
      return await (await answer(await fetch(address, { signal }))).json();
    } catch (error) {
      if (error.status !== 503 || !patient) throw error;
      patient(error.message);
      await pause(500);
    }
  }
}

export async function send(method, path, body) {
  const headers = { "x-tubelet": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  const init = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
  return answer(await fetch(path, init));
}

export function say(text) {
  $("live").textContent = text;
}

export function problem(error) {
  return h("p", { class: "problem", role: "alert", text: error.message ?? String(error) });
}

export function tip(lines, x, y) {
  const box = $("tip");
  box.replaceChildren(...lines.map((line, k) => h(k ? "span" : "strong", { text: line })));
  box.hidden = false;
  const width = box.offsetWidth;
  box.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
  const below = y + 18 + box.offsetHeight < innerHeight;
  box.style.top = `${below ? y + 18 : y - box.offsetHeight - 10}px`;
}

export const untip = () => {
  $("tip").hidden = true;
};

// Ten colours that stay apart for most eyes, on light and on dark ground.
export const COLORS = [
  "#2f8fd0", "#e08a00", "#17a67c", "#d9502b", "#b565c9",
  "#8f9a12", "#d04a83", "#4c6fe0", "#00a3ad", "#a3763a",
];
export const OTHER = "#8a94a0";

export function ranked(values) {
  // value -> colour: the ten most frequent ones have their own.
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const order = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return new Map(order.map(([value], k) => [value, COLORS[k] ?? OTHER]));
}
