// The page: what a person gives it, and what comes of it.

import { classify, read, recording, Refusal, sample } from "./api.js";
import { knowClasses, make, pngOf, tag } from "./dom.js";
import { showImages } from "./images.js";
import { showClasses, showModel } from "./info.js";
import { showRecording } from "./recording.js";

const find = (id) => document.getElementById(id);
const VIEWS = { "#try": "view-try", "#classes": "view-classes", "#model": "view-model" };
const RECORDS = [
  ["s006", "Early atrial beats"], ["s002", "Ventricular beats"], ["s003", "Right bundle branch block"],
  ["s005", "Left bundle branch block"], ["s004", "Paced"], ["s007", "Flutter waves"],
];
let titles = new Map();
let atWork = null;

// Views.

function route() {
  const hash = VIEWS[location.hash] ? location.hash : "#try";
  for (const [name, id] of Object.entries(VIEWS)) find(id).hidden = name !== hash;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === hash) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = find(VIEWS[hash]).querySelector("h1").textContent;
  document.title = `ecgbeats: ${heading}`;
}

// What is at work, and what went wrong.

function fail(error) {
  if (error.name === "AbortError") return;
  const box = find("error");
  const words = error instanceof Refusal ? error.message : `The page failed: ${error.message}`;
  box.replaceChildren(
    make("p", {}, make("strong", {}, words)),
    error.detail ? make("p", { class: "quiet" }, `${error.detail} (${error.code})`) : "",
  );
  box.hidden = false;
  if (error.code === "missing_sampling_rate" || error.code === "bad_sampling_rate") {
    find("options").open = true;
    find("fs").focus();
  } else box.focus();
  box.scrollIntoView({ block: "nearest" });
}

async function work(words, act) {
  atWork?.abort();
  const control = new AbortController();
  atWork = control;
  find("error").hidden = true;
  find("result").replaceChildren();
  find("status-words").textContent = words;
  find("status").hidden = false;
  const began = performance.now();
  const clock = setInterval(() => {
    const seconds = Math.round((performance.now() - began) / 1000);
    if (seconds >= 2) find("status-words").textContent = `${words} ${seconds} s`;
  }, 1000);
  try {
    await act(control.signal);
    find("result").focus({ preventScroll: true });
    const top = find("result").getBoundingClientRect().top;
    if (top > window.innerHeight * 0.6) find("result").scrollIntoView({ behavior: reduced() ? "auto" : "smooth" });
  } catch (error) {
    if (atWork === control) fail(error);
  } finally {
    clearInterval(clock);
    if (atWork === control) {
      find("status").hidden = true;
      atWork = null;
    }
  }
}

const reduced = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

// What was given.

const endsWith = (file, ...suffixes) => suffixes.some((suffix) => file.name.toLowerCase().endsWith(suffix));

function take(files) {
  files = [...files];
  if (!files.length) return;
  const pictures = files.filter((file) => endsWith(file, ".png", ".jpg", ".jpeg"));
  if (pictures.length === files.length) {
    takeImages(files);
  } else if (pictures.length) {
    fail(new Refusal("mixed", "Please give pictures, or a recording, but not both at once.", ""));
  } else if (files.length === 1 && endsWith(files[0], ".csv", ".txt", ".json", ".csv.gz", ".tsv", ".json.gz")) {
    takeRecording("classify_signal", files, {
      fs: find("fs").value, units: find("units").value, lead: find("lead").value,
    });
  } else if (files.some((file) => endsWith(file, ".hea", ".zip"))) {
    takeRecording("classify_record", files, { lead: find("lead").value, beats: find("beats").value });
  } else if (files.length === 1 && endsWith(files[0], ".dat", ".atr")) {
    fail(new Refusal("alone", "A WFDB record is several files. Please give its header (.hea) with it.", ""));
  } else {
    fail(new Refusal("unknown", "Please give pictures (PNG, JPEG), samples (CSV, JSON) or a WFDB record (.hea and .dat, or a zip).", ""));
  }
}

function takeImages(files) {
  const words = files.length === 1 ? "Classifying the picture…" : `Classifying ${files.length} pictures…`;
  work(words, async (signal) => showImages(find("result"), files, await classify(files, signal), titles, fail));
}

function takeRecording(path, files, fields) {
  work("Finding and classifying the beats…", async (signal) => {
    const request = { path, files, fields };
    const answer = await recording(path, files, { ...fields, trace: "true" }, signal);
    showRecording(find("result"), files.length === 1 ? files[0].name : recordName(files), answer, request, titles, fail);
  });
}

const recordName = (files) => files.find((file) => endsWith(file, ".hea"))?.name.replace(/\.hea$/i, "") ?? files[0].name;

// Samples.

function offerBeats(classes) {
  find("sample-beats").replaceChildren(...classes.filter((known) => known.examples.length).map((known) => {
    const example = known.examples[0];
    const button = make("button", { type: "button", "aria-label": `Sample beat ${known.name}: ${known.title}`, title: known.title },
      make("img", { class: "pixels", alt: "", src: `data:image/png;base64,${example.png}` }), tag(known.name));
    button.addEventListener("click", () => takeImages(known.examples.map((one, k) =>
      new File([pngOf(one.png)], `sample ${known.name} ${k + 1}`, { type: "image/png" }))));
    return button;
  }));
}

function offerRecords() {
  const buttons = RECORDS.map(([name, words]) => {
    const button = make("button", { type: "button", "data-record": name }, words);
    button.addEventListener("click", () => work("Finding and classifying the beats…", async (signal) => {
      const files = await Promise.all(["hea", "dat", "atr"].map((suffix) => sample(`${name}.${suffix}`, signal)));
      const request = { path: "classify_record", files, fields: { beats: find("beats").value } };
      const answer = await recording(request.path, files, { ...request.fields, trace: "true" }, signal);
      showRecording(find("result"), `${words} (synthetic recording ${name})`, answer, request, titles, fail);
    }));
    return button;
  });
  const csv = make("button", { type: "button", "data-record": "csv" }, "One lead as CSV");
  csv.addEventListener("click", () => work("Finding and classifying the beats…", async (signal) => {
    const files = [await sample("one-lead.csv", signal)];
    const request = { path: "classify_signal", files, fields: {} };
    const answer = await recording(request.path, files, { trace: "true" }, signal);
    showRecording(find("result"), "One lead as CSV (synthetic, half a minute)", answer, request, titles, fail);
  }));
  find("sample-records").replaceChildren(...buttons, csv);
}

// Wiring.

function listen() {
  window.addEventListener("hashchange", () => {
    route();
    window.scrollTo(0, 0);
    find("main").focus({ preventScroll: true });
  });
  find("choose").addEventListener("click", () => find("files").click());
  find("files").addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = "";
  });
  find("cancel").addEventListener("click", () => {
    atWork?.abort();
    atWork = null;
    find("status").hidden = true;
  });
  const drop = find("drop");
  let inside = 0;
  const over = (by) => {
    inside = Math.max(0, inside + by);
    drop.classList.toggle("over", inside > 0);
  };
  window.addEventListener("dragenter", (event) => { event.preventDefault(); over(1); });
  window.addEventListener("dragleave", () => over(-1));
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    over(0);
    take(event.dataTransfer?.files ?? []);
  });
  window.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files);
  });
}

async function start() {
  route();
  listen();
  offerRecords();
  try {
    const card = await read("model");
    knowClasses(card.classes);
    find("synthetic").hidden = !card.metrics?.synthetic;
    showModel(find("model-cards"), card);
    const classes = await read("classes");
    titles = new Map(classes.map((known) => [known.name, known.title]));
    offerBeats(classes);
    showClasses(find("class-cards"), classes);
  } catch (error) {
    fail(error);
  }
  document.documentElement.dataset.ready = "true";
}

start();
