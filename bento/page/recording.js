// A recording's answer: figures, trace, each beat, and all of them as CSV.

import { recording as ask } from "./api.js";
import { bars, bytesOf, clock, isUsual, make, number, percent, pngOf, table, tag, verdict } from "./dom.js";
import { saliency } from "./images.js";
import { TraceView } from "./trace.js";

const LISTED = 300;
let view = null;

function csvOf(answer) {
  const names = Object.keys(answer.beats[0].probabilities);
  const head = ["time_s", "sample", "label", "most_probable", ...names.map((name) => `p_${name}`), "rr_s", "reference"];
  const rows = answer.beats.map((beat) => [
    beat.time_s, beat.sample, beat.label, beat.most_probable,
    ...names.map((name) => beat.probabilities[name]), beat.rr_s ?? "", beat.reference ?? "",
  ]);
  return [head, ...rows].map((row) => row.join(",")).join("\r\n") + "\r\n";
}

function figures(answer) {
  const { rhythm, recording } = answer;
  const entries = [
    ["Length", clock(recording.seconds)],
    ["Beats", answer.beats.length.toLocaleString("en")],
    ["Mean rate", rhythm.rate_bpm === null ? "–" : `${Math.round(rhythm.rate_bpm)} / min`],
    ["Over ten beats", rhythm.lowest_rate_bpm === null ? "–" : `${Math.round(rhythm.lowest_rate_bpm)} to ${Math.round(rhythm.highest_rate_bpm)}`],
    ["Median RR", rhythm.rr_median_s === null ? "–" : `${number(rhythm.rr_median_s, 2)} s`],
    ["Longest RR", rhythm.rr_longest_s === null ? "–" : `${number(rhythm.rr_longest_s, 2)} s`],
  ];
  return make("dl", { class: "figures" }, ...entries.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function counts(answer, titles) {
  const total = answer.beats.length;
  return make("ul", { class: "counts", "aria-label": "Beats by class" },
    ...Object.entries(answer.counts).map(([name, count]) =>
      make("li", { title: titles.get(name) ?? "" }, tag(name), ` ${count.toLocaleString("en")} `,
        make("span", { class: "quiet" }, percent(count / total)))));
}

function comparison(found) {
  if (!found) return null;
  const answers = [...new Set(Object.values(found.confusion).flatMap((row) => Object.keys(row)))];
  return make("details", {},
    make("summary", {}, `Against the annotations: ${found.matched} of ${found.reference_beats} beats matched${found.agreement === null ? "" : `, ${percent(found.agreement)} of them answered as annotated`}`),
    make("p", { class: "quiet" }, `${found.missed} annotated beats were not found, ${found.extra} found ones are not annotated (within 150 ms).`),
    answers.length
      ? table(["Annotated", ...answers.map((name) => `as ${name}`)],
        Object.entries(found.confusion).map(([name, row]) => [name, ...answers.map((other) => String(row[other] ?? 0))]))
      : null);
}

/** Show what the service answered to `request` (path, files and fields). */
export function showRecording(place, title, answer, request, titles, fail) {
  view?.close();
  const { beats, recording } = answer;
  const others = beats.flatMap((beat, k) => (isUsual(beat.label) ? [] : [k]));
  const detail = make("canvas", {
    id: "detail", tabindex: "0", role: "application",
    "aria-label": "Trace. Arrow keys go from beat to beat, page keys scroll, plus and minus zoom.",
  });
  const overview = make("canvas", { id: "overview", "aria-hidden": "true" });
  const chosen = make("article", { class: "card", id: "chosen", "aria-live": "polite" });
  const kinds = [...new Set(others.map((k) => beats[k].label))];
  const kind = make("select", { id: "kind", "aria-label": "Which beats to go to" },
    make("option", { value: "" }, "not usual"), ...kinds.map((name) => make("option", { value: name }, name)));
  const hits = () => others.filter((k) => !kind.value || beats[k].label === kind.value);
  const go = (direction) => {
    const some = hits();
    const from = view.selected < 0 ? beats.findIndex((beat) => beat.time_s >= view.start) - (direction > 0 ? 1 : 0) : view.selected;
    const next = direction > 0 ? some.find((k) => k > from) ?? some[0] : some.findLast((k) => k < from) ?? some.at(-1);
    if (next !== undefined) view.select(next);
  };
  const button = (words, act, attributes = {}) => make("button", { type: "button", ...attributes, onclick: act }, words);
  const none = others.length === 0;
  const download = button("Download as CSV", () => {
    const url = URL.createObjectURL(new Blob([csvOf(answer)], { type: "text/csv" }));
    const link = make("a", { href: url, download: "beats.csv" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }, { id: "download" });
  const rows = others.slice(0, LISTED).map((k) => [
    button(clock(beats[k].time_s), () => { view.select(k); detail.scrollIntoView({ block: "center" }); }, { "aria-label": `Go to the beat at ${clock(beats[k].time_s)}` }),
    tag(beats[k].label),
    percent(beats[k].probabilities[beats[k].most_probable]),
    beats[k].rr_s === null ? "–" : `${number(beats[k].rr_s, 2)} s`,
    beats[k].reference ?? "–",
  ]);
  const from = { detected: "found in the signal", annotated: "as annotated", given: "as given" }[recording.beats_from];
  const list = none ? null : make("details", { id: "others" },
    make("summary", {}, `The ${others.length.toLocaleString("en")} beats that are not ${beats.length && tagName(beats)}${others.length > LISTED ? `, the first ${LISTED}` : ""}`),
    table(["Time", "Label", "Probability", "RR before", "Annotated"], rows, { numbers: 9 }));
  list?.querySelector(".scroll").classList.add("tall");
  place.replaceChildren(
    make("h2", {}, title),
    make("article", { class: "card" },
      counts(answer, titles), figures(answer),
      make("p", { class: "quiet" }, `Lead ${recording.lead} of ${recording.leads.join(", ")}, ${number(recording.fs, recording.fs % 1 ? 1 : 0)} samples a second; beats ${from}.`),
      ...recording.remarks.map((remark) => make("p", { class: "quiet" }, `Remark: ${remark}.`)),
      comparison(answer.comparison)),
    make("article", { class: "card" },
      make("div", { class: "plot" }, detail, overview),
      make("div", { class: "controls" },
        button("◀ Previous", () => go(-1), { id: "previous", disabled: none, "aria-label": "Previous beat of this kind" }),
        kind,
        button("Next ▶", () => go(1), { id: "next", disabled: none, "aria-label": "Next beat of this kind" }),
        make("span", { class: "grow" }),
        button("−", () => view.zoom(2), { "aria-label": "Show more seconds" }),
        button("+", () => view.zoom(0.5), { "aria-label": "Show fewer seconds" }),
        download),
      none ? make("p", { class: "quiet" }, "No beat of this recording was taken for another class.") : null,
      list),
    chosen);
  kind.disabled = none;
  const samples = new Int16Array(bytesOf(answer.trace.microvolts).buffer);
  view = new TraceView(detail, overview, { fs: answer.trace.fs, samples }, beats, recording.seconds,
    (k) => showBeat(chosen, k, answer, request, titles, fail));
  if (none) {
    view.draw();
    chosen.replaceChildren(make("p", { class: "quiet" }, "Choose a beat in the trace to look at it closely."));
  } else view.select(others[0]);
}

const tagName = (beats) => beats.find((beat) => isUsual(beat.label))?.label ?? "usual";

function showBeat(place, k, answer, request, titles, fail) {
  const beat = answer.beats[k];
  const picture = make("figure", {});
  const beside = make("div", {});
  const show = make("button", { type: "button", id: "show-picture" }, "Show what the network saw");
  show.addEventListener("click", async () => {
    show.disabled = true;
    show.textContent = "Drawing…";
    try {
      const again = await ask(request.path, request.files, { ...request.fields, pictures: String(k) });
      const base64 = again.pictures[0].png;
      picture.replaceChildren(
        make("img", { class: "pixels", src: `data:image/png;base64,${base64}`, alt: "The beat as the network saw it" }),
        make("figcaption", {}, "As the network saw it"));
      beside.replaceChildren(saliency(pngOf(base64), beat, fail));
    } catch (error) {
      show.disabled = false;
      show.textContent = "Show what the network saw";
      fail(error);
    }
  });
  picture.append(show);
  place.replaceChildren(
    make("h3", {}, `Beat ${k + 1} of ${answer.beats.length}, at ${clock(beat.time_s)} (${number(beat.time_s, 2)} s)`),
    make("div", { class: "beat" }, picture,
      make("div", {}, verdict(beat, titles), bars(beat.probabilities),
        make("p", { class: "quiet" },
          [beat.rr_s === null ? null : `${number(beat.rr_s, 2)} s after the beat before.`, beat.reference ? `Annotated as ${beat.reference}.` : null].filter(Boolean).join(" ")),
        beside)));
}
