// A recording's trace with its beats: a window of some seconds over a strip of the whole.

import { clock, colour, isUsual } from "./dom.js";

const MISSING = -32768;
const LABELS = 20; // CSS pixels at the top, for the beats' labels

function theme() {
  const style = getComputedStyle(document.documentElement);
  return (name) => {
    const inner = name.match(/^var\((.+)\)$/);
    return style.getPropertyValue(inner ? inner[1] : name).trim();
  };
}

/** Fit a canvas to its place on the screen; its context, in CSS pixels. */
function fitted(canvas) {
  const scale = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return { context, width, height };
}

export class TraceView {
  /**
   * @param detail, overview  the two canvases
   * @param trace   {fs, samples: Int16Array of microvolts}
   * @param beats   as the service answered them
   * @param seconds length of the recording
   * @param onselect  called with the place of a beat that was chosen
   */
  constructor(detail, overview, trace, beats, seconds, onselect) {
    Object.assign(this, { detail, overview, trace, beats, seconds, onselect });
    this.span = Math.min(seconds, detail.clientWidth < 500 ? 5 : 10);
    this.start = 0;
    this.selected = -1;
    this.range();
    this.listen();
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(detail);
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.draw();
    this.scheme.addEventListener("change", this.redraw);
  }

  close() {
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
  }

  /** Amplitudes that the window shows: nearly all, so that one spike does not flatten the rest. */
  range() {
    const step = Math.max(1, Math.floor(this.trace.samples.length / 20000));
    const some = [];
    for (let i = 0; i < this.trace.samples.length; i += step) {
      if (this.trace.samples[i] !== MISSING) some.push(this.trace.samples[i]);
    }
    some.sort((a, b) => a - b);
    const at = (share) => some[Math.min(some.length - 1, Math.floor(share * some.length))] ?? 0;
    const low = Math.min(at(0.001), -300);
    const high = Math.max(at(0.999), 500);
    const margin = 0.12 * (high - low);
    this.low = low - margin;
    this.high = high + margin;
  }

  listen() {
    const seek = (event) => {
      const box = this.overview.getBoundingClientRect();
      this.moveTo(((event.clientX - box.left) / box.width) * this.seconds - this.span / 2);
    };
    this.overview.addEventListener("pointerdown", (event) => {
      this.overview.setPointerCapture(event.pointerId);
      seek(event);
    });
    this.overview.addEventListener("pointermove", (event) => event.buttons && seek(event));
    let grip = null;
    this.detail.addEventListener("pointerdown", (event) => {
      this.detail.setPointerCapture(event.pointerId);
      grip = { x: event.clientX, start: this.start, moved: false };
    });
    this.detail.addEventListener("pointermove", (event) => {
      if (!grip || !event.buttons) return;
      const away = event.clientX - grip.x;
      grip.moved ||= Math.abs(away) > 4;
      if (grip.moved) this.moveTo(grip.start - (away / this.detail.clientWidth) * this.span);
    });
    this.detail.addEventListener("pointerup", (event) => {
      if (grip && !grip.moved) this.choose(event);
      grip = null;
    });
    this.detail.addEventListener("wheel", (event) => {
      const along = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.shiftKey ? event.deltaY : 0;
      if (!along) return;
      event.preventDefault();
      this.moveTo(this.start + (along / this.detail.clientWidth) * this.span);
    }, { passive: false });
    this.detail.addEventListener("keydown", (event) => {
      const moves = {
        ArrowLeft: () => this.select(Math.max(0, this.selected - 1)),
        ArrowRight: () => this.select(Math.min(this.beats.length - 1, this.selected + 1)),
        PageUp: () => this.moveTo(this.start - this.span * 0.9),
        PageDown: () => this.moveTo(this.start + this.span * 0.9),
        Home: () => this.select(0),
        End: () => this.select(this.beats.length - 1),
        "+": () => this.zoom(0.5),
        "-": () => this.zoom(2),
      };
      if (!moves[event.key]) return;
      event.preventDefault();
      moves[event.key]();
    });
  }

  choose(event) {
    const box = this.detail.getBoundingClientRect();
    const time = this.start + ((event.clientX - box.left) / box.width) * this.span;
    let best = -1;
    this.beats.forEach((beat, k) => {
      if (best < 0 || Math.abs(beat.time_s - time) < Math.abs(this.beats[best].time_s - time)) best = k;
    });
    if (best >= 0) this.select(best, false);
  }

  select(place, centre = true) {
    this.selected = place;
    const time = this.beats[place].time_s;
    if (centre || time < this.start || time > this.start + this.span) this.start = time - this.span / 2;
    this.moveTo(this.start);
    this.onselect(place);
  }

  zoom(factor) {
    const middle = this.start + this.span / 2;
    this.span = Math.min(this.seconds, Math.max(2, Math.min(60, this.span * factor)));
    this.moveTo(middle - this.span / 2);
  }

  moveTo(start) {
    this.start = Math.max(0, Math.min(this.seconds - this.span, start));
    this.draw();
  }

  draw() {
    const of = theme();
    this.drawDetail(of);
    this.drawOverview(of);
  }

  drawDetail(of) {
    const { context, width, height } = fitted(this.detail);
    const x = (time) => ((time - this.start) / this.span) * width;
    const plot = height - LABELS;
    const y = (value) => LABELS + ((this.high - value) / (this.high - this.low)) * plot;
    context.fillStyle = of("--card");
    context.fillRect(0, 0, width, height);
    // Paper: 0.2 s and 0.5 mV a square where there is room, seconds stronger.
    const step = this.span <= 15 ? 0.2 : this.span <= 30 ? 1 : 5;
    const lines = (every, style) => {
      context.strokeStyle = style;
      context.beginPath();
      for (let t = Math.ceil(this.start / every) * every; t <= this.start + this.span; t += every) {
        context.moveTo(Math.round(x(t)) + 0.5, LABELS);
        context.lineTo(Math.round(x(t)) + 0.5, height);
      }
      context.stroke();
    };
    lines(step, of("--grid"));
    context.beginPath();
    for (let v = Math.ceil(this.low / 500) * 500; v <= this.high; v += 500) {
      context.moveTo(0, Math.round(y(v)) + 0.5);
      context.lineTo(width, Math.round(y(v)) + 0.5);
    }
    context.stroke();
    lines(step * 5, of("--grid-strong"));
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = of("--quiet");
    const every = Math.max(step * 5, Math.ceil((70 * this.span) / width));
    for (let t = Math.ceil(this.start / every) * every; t < this.start + this.span; t += every) {
      context.fillText(clock(t), x(t) + 3, height - 4);
    }
    this.drawBeats(of, context, x, height);
    context.strokeStyle = of("--ink");
    context.lineWidth = 1.3;
    context.lineJoin = "round";
    context.beginPath();
    const { fs, samples } = this.trace;
    const first = Math.max(0, Math.floor(this.start * fs) - 1);
    const last = Math.min(samples.length - 1, Math.ceil((this.start + this.span) * fs) + 1);
    let pen = false;
    for (let i = first; i <= last; i += 1) {
      if (samples[i] === MISSING) pen = false;
      else if (pen) context.lineTo(x(i / fs), y(samples[i]));
      else {
        context.moveTo(x(i / fs), y(samples[i]));
        pen = true;
      }
    }
    context.stroke();
  }

  drawBeats(of, context, x, height) {
    context.textAlign = "center";
    this.beats.forEach((beat, k) => {
      const at = x(beat.time_s);
      if (at < -20 || at > x(this.start + this.span) + 20) return;
      const shade = of(colour(beat.label));
      const reach = Math.max(6, Math.min(26, (0.22 / this.span) * this.detail.clientWidth));
      if (!isUsual(beat.label) || k === this.selected) {
        context.globalAlpha = k === this.selected ? 0.28 : 0.16;
        context.fillStyle = shade;
        context.fillRect(at - reach, LABELS, 2 * reach, height - LABELS);
        context.globalAlpha = 1;
      }
      context.fillStyle = shade;
      context.font = `${isUsual(beat.label) ? "" : "bold "}13px system-ui, sans-serif`;
      context.fillText(beat.label === "uncertain" ? "?" : beat.label, at, 15);
      if (beat.reference && beat.reference !== beat.label) {
        context.font = "10px system-ui, sans-serif";
        context.fillText(`(${beat.reference})`, at, LABELS + 10);
      }
      if (k === this.selected) {
        context.strokeStyle = shade;
        context.lineWidth = 2;
        context.strokeRect(at - reach, LABELS, 2 * reach, height - LABELS - 1);
        context.lineWidth = 1;
      }
    });
    context.textAlign = "start";
  }

  drawOverview(of) {
    const { context, width, height } = fitted(this.overview);
    const x = (time) => (time / this.seconds) * width;
    context.fillStyle = of("--card");
    context.fillRect(0, 0, width, height);
    // The usual ones below, so that no other is hidden by them.
    const draw = (usual) => {
      for (const beat of this.beats) {
        if (isUsual(beat.label) !== usual) continue;
        context.fillStyle = of(colour(beat.label));
        context.globalAlpha = usual ? 0.35 : 1;
        const top = usual ? 0.62 * height : 0.1 * height;
        context.fillRect(x(beat.time_s) - (usual ? 0.5 : 1), top, usual ? 1 : 2, height * (usual ? 0.3 : 0.82));
      }
      context.globalAlpha = 1;
    };
    draw(true);
    draw(false);
    const shown = Math.max(4, x(this.span));
    context.fillStyle = of("--accent");
    context.globalAlpha = 0.16;
    context.fillRect(x(this.start), 0, shown, height);
    context.globalAlpha = 1;
    context.strokeStyle = of("--accent");
    context.lineWidth = 2;
    context.strokeRect(x(this.start) + 1, 1, shown - 2, height - 2);
  }
}
