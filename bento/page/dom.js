// Small parts that all views are made of.

/** An element: make("p", {class: "quiet"}, "text", child, ...). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "of") element.style.setProperty("--of", value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let order = [];

/** Classes in the model's order: each has a colour of its own, and never a colour alone. */
export function knowClasses(names) {
  order = names;
}

export function colour(name) {
  const place = order.indexOf(name);
  return place < 0 ? "var(--uncertain)" : `var(--c${place % 8})`;
}

export const isUsual = (name) => name === order[0];

export const tag = (name) => make("span", { class: "tag", of: colour(name) }, name === "uncertain" ? "?" : name);

export function percent(share) {
  if (share > 0 && share < 0.001) return "<0.1 %";
  if (share < 1 && share > 0.999) return ">99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

export const number = (value, digits = 3) =>
  value === null || value === undefined ? "–" : Number(value).toFixed(digits);

/** Probabilities as bars, the largest first. */
export function bars(probabilities) {
  const rows = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  const list = make("ul", { class: "bars", "aria-label": "Probabilities" });
  for (const [name, share] of rows) {
    const bar = make("span", { of: colour(name) });
    bar.style.width = `${100 * share}%`;
    list.append(
      make("li", {}, make("b", {}, name), make("span", { class: "bar", "aria-hidden": "true" }, bar),
        make("span", { class: "number" }, percent(share))),
    );
  }
  return list;
}

/** The answer to one beat: what it was taken for, and how sure that is. */
export function verdict(answer, titles) {
  const best = answer.most_probable;
  const words = answer.label === "uncertain"
    ? `not sure enough; most probably ${best}`
    : titles.get(best) ?? "";
  return make("p", { class: "verdict" }, tag(answer.label), make("small", {}, words));
}

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const pad = (value) => String(value).padStart(2, "0");
  const rest = `${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`;
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${rest}` : rest;
}

export function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

export const pngOf = (base64) => new Blob([bytesOf(base64)], { type: "image/png" });

/** A table from a head and rows; columns from `numbers` on are right-aligned. */
export function table(head, rows, { caption, numbers = 1 } = {}) {
  const cell = (kind, k, value) => {
    const attributes = { class: k >= numbers ? "n" : null };
    if (kind === "th") attributes.scope = "col";
    return make(kind, attributes, value);
  };
  return make("div", { class: "scroll" },
    make("table", {},
      caption ? make("caption", {}, caption) : null,
      make("thead", {}, make("tr", {}, ...head.map((value, k) => cell("th", k, value)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value, k) => cell("td", k, value))))),
    ));
}
