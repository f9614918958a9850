// What is asked of the service, and what is said where it refuses.

import { askForKey, authorization } from "./key.js";

/** A refusal in words; `code` is the service's own. */
export class Refusal extends Error {
  constructor(code, words, detail) {
    super(words);
    this.code = code;
    this.detail = detail;
  }
}

const WORDS = {
  not_an_image: "That is no PNG or JPEG picture.",
  damaged_image: "The picture is damaged or not whole.",
  too_many_pixels: "The picture is too large.",
  other_spec: "That picture was drawn for another model.",
  blank_image: "There is no trace in that picture.",
  not_a_beat: "That does not look like a beat.",
  file_too_large: "A file is too large.",
  request_too_large: "That is too much at once.",
  too_many_files: "These are too many files at once.",
  not_a_table: "The file does not read as a table of numbers.",
  not_json: "The file does not read as JSON.",
  not_a_signal: "The JSON holds no recording as this service knows it.",
  missing_sampling_rate: "The file does not say how many samples a second it has. Please say so above, and try again.",
  bad_sampling_rate: "That sampling rate cannot be right.",
  not_one_record: "A record is one header (.hea) with its signal files.",
  unusable_recording: "That recording cannot be read or drawn.",
  no_beats: "No heartbeat was found in it.",
  no_annotations: "There are no annotations (.atr) with that record.",
  recording_too_long: "The recording is too long.",
  too_many_samples: "The recording is too long.",
  too_many_beats: "These are too many beats at once.",
  archive_too_large: "The archive unpacks to more than is allowed.",
  bad_archive: "The archive is damaged, encrypted or of a rare kind.",
  unsafe_name: "The archive holds names that lead out of it.",
  no_key: "This service wants a key.",
  bad_key: "That key is not known here.",
  too_many_requests: "That was too often. Please wait a little.",
  overloaded: "The service has too much to do. Please try again in a moment.",
  timed_out: "That took too long.",
  slow_upload: "The upload took too long.",
};

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: authorization() });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("unreachable", "The service does not answer. Is it still running?", "");
  }
  if (answer.ok) return answer;
  let problem = null;
  try {
    problem = (await answer.json()).error;
  } catch {
    // No answer of ours: a proxy's, say.
  }
  if (answer.status === 401 && problem?.code && (await askForKey(WORDS[problem.code] ?? WORDS.no_key))) {
    return ask(path, options);
  }
  if (!problem?.code) throw new Refusal("failed", `The service failed (status ${answer.status}).`, "");
  throw new Refusal(
    problem.code,
    WORDS[problem.code] ?? "The service cannot take that.",
    `Expected ${problem.expected}; got ${problem.got}.`,
  );
}

function form(files, fields = {}) {
  const data = new FormData();
  for (const file of files) data.append("file", file, file.name ?? "beat.png");
  for (const [name, value] of Object.entries(fields)) {
    if (value !== "" && value !== null && value !== undefined) data.append(name, value);
  }
  return data;
}

const post = (path, files, fields, signal) =>
  ask(path, { method: "POST", body: form(files, fields), signal });

export const read = async (path) => (await ask(path)).json();
const SHOWN = 64;
/** With the first pictures as their models took them. */
export const classify = async (files, signal) =>
  (await post("classify", files, { pictures: [...files.keys()].slice(0, SHOWN).join(",") }, signal)).json();
export const explain = async (png, label) => (await post("explain", [png], { label })).blob();
export const recording = async (path, files, fields, signal) =>
  (await post(path, files, fields, signal)).json();
export const sample = async (name, signal) => {
  const answer = await ask(`page/samples/${name}`, { signal });
  return new File([await answer.blob()], name);
};
