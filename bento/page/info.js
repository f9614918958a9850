// The pages on the classes and on the model.

import { colour, make, number, table, tag } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

function trace(values, name) {
  const drawing = document.createElementNS(SVG, "svg");
  const low = Math.min(-0.6, ...values);
  const high = Math.max(1, ...values);
  drawing.setAttribute("viewBox", `0 0 ${values.length - 1} 100`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", `Trace of a beat of class ${name}, 0.9 s to either side`);
  const y = (value) => (4 + (92 * (high - value)) / (high - low)).toFixed(1);
  const line = document.createElementNS(SVG, "line");
  for (const [key, value] of Object.entries({ x1: values.length / 2, x2: values.length / 2, y1: 0, y2: 100 })) {
    line.setAttribute(key, value);
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", values.map((value, k) => `${k ? "L" : "M"}${k} ${y(value)}`).join(""));
  drawing.append(line, path);
  return drawing;
}

export function showClasses(place, classes) {
  place.replaceChildren(...classes.map((known) =>
    make("article", { class: "card", of: colour(known.name) },
      make("h2", {}, tag(known.name), ` ${known.title}`),
      make("p", {}, known.about),
      known.symbols ? make("p", { class: "quiet" }, `WFDB annotations: ${[...known.symbols].join(" ")}`) : null,
      known.examples.length
        ? make("div", { class: "examples" }, ...known.examples.map((example) =>
          make("figure", {},
            trace(example.trace_mv, known.name),
            make("img", { class: "pixels", src: `data:image/png;base64,${example.png}`, alt: `What the network sees of it` }),
            make("figcaption", {}, `Recording ${example.record}, at ${example.time_s.toFixed(1)} s`))))
        : make("p", { class: "quiet" }, "The supplied recordings hold none."),
    )));
}

const interval = (pair) => (pair ? ` (95 %: ${number(pair[0])} to ${number(pair[1])})` : "");

function facts(rows) {
  return make("table", {}, make("tbody", {}, ...rows.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)))));
}

export function showModel(place, card) {
  const metrics = card.metrics;
  const parts = [
    make("article", { class: "card" },
      make("h2", {}, `${card.name}, version ${card.version}`),
      facts([
        ["Recipe", card.recipe],
        ["Classes", card.classes.join(", ")],
        ["Labels", card.labels ? Object.entries(card.labels).map(([name, symbols]) => `${name}: ${[...symbols].join(" ")}`).join("; ") : null],
        ["Label scheme", card.labels_source],
        ["Network", `${card.network.name}, ${card.network.parameters.toLocaleString("en")} parameters`],
        ["Image", `${card.image.representation}, drawn at ${card.image.fs} Hz; spec ${card.spec_id}`],
        ["Says “uncertain”", card.abstain_below ? `below a probability of ${card.abstain_below}` : "never"],
        ["Explained by", card.saliency],
        ["Plain pictures are for", card.beside.map((other) => `${other.name}, version ${other.version}`).join(", ")],
      ])),
  ];
  if (metrics) {
    const head = metrics.headline;
    parts.push(make("article", { class: "card" },
      make("h2", {}, "What it was measured to be worth"),
      metrics.synthetic ? make("p", { class: "error" }, "On synthetic recordings: these figures are evidence of nothing.") : null,
      facts([
        ["Measured on", [metrics.dataset ? `${metrics.dataset.name} ${metrics.dataset.version}` : null, metrics.beats ? `${metrics.beats.toLocaleString("en")} beats` : null, metrics.records ? `${metrics.records} records` : null, metrics.patients ? `${metrics.patients} patients` : null].filter(Boolean).join(", ")],
        ["Macro-F1", head ? `${number(head.macro_f1)}${interval(head.macro_f1_interval)} over ${head.classes.join(", ")}` : null],
        ["Accuracy", metrics.accuracy !== undefined ? `${number(metrics.accuracy)}${interval(metrics.accuracy_interval)}` : null],
        ["Calibration error", metrics.calibration ? number(metrics.calibration.ece) : null],
      ]),
      metrics.gross
        ? table(["Class", "Beats", "Sensitivity", "Predictivity", "F1"],
          Object.entries(metrics.gross).map(([name, row]) => [name, row.support.toLocaleString("en"), number(row.se), number(row.ppv), number(row.f1)]))
        : null,
    ));
  }
  parts.push(make("article", { class: "card" },
    make("h2", {}, "What it was made of"),
    facts(Object.entries({ ...card.lineage, onnx_sha256: card.network.onnx_sha256 })),
    make("details", {}, make("summary", {}, "Image spec and training, in full"),
      make("pre", { tabindex: "0" }, JSON.stringify({ image: card.image, training: card.training }, null, 2)))));
  place.replaceChildren(...parts);
}
