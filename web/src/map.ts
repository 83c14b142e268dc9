// The map: points on a canvas, drawn as dots or (if they overlap) as a density, with pan, zoom, pointing and lasso.

import { Places } from "./places";
import type { Plane } from "./rows";

export type Mode = "decode" | "move" | "lasso";
export interface View { x: number; y: number; scale: number }
export interface Colours {
  /** The tone of each point, an index into `palette`. */
  tones: Uint8Array | null;
  palette: [number, number, number][];
}
export interface Mark { x: number; y: number; kind: "here" | "near" | "a" | "b" | "over" }
export interface Hooks {
  point(x: number, y: number, done: boolean): void;
  hover(row: number, at: { x: number; y: number } | null): void;
  pick(row: number): void;
  lasso(rows: number[]): void;
  moved(): void;
}

const DOTS = 20_000; // more points than this in view are drawn as a density

export class PointMap {
  view: View = { x: 0, y: 0, scale: 1 };
  mode: Mode = "decode";
  plane!: Plane;
  colours: Colours = { tones: null, palette: [[0, 114, 178]] };
  /** Points that stay grey: not in the selection, or filtered out. */
  muted: Uint8Array | null = null;
  beyond: Uint8Array = new Uint8Array(0);
  marks: Mark[] = [];
  path: { x: number; y: number }[] = [];
  circles: { x: number; y: number; r: number; text: string }[] = [];
  labels: { x: number; y: number; text: string }[] = [];
  readonly #points: HTMLCanvasElement;
  readonly #over: HTMLCanvasElement;
  #width = 0;
  #height = 0;
  #pending = 0;
  #lassoed: { x: number; y: number }[] = [];
  readonly #fingers = new Map<number, { x: number; y: number }>();
  /** Where a finger touched the map, until it moves: a second finger may follow, to zoom. */
  #still: { x: number; y: number } | null = null;
  #dragged: "decode" | "move" | "lasso" | "pinch" | null = null;
  #places: Places | null = null;
  #sums: Float32Array = new Float32Array(0);

  constructor(private readonly box: HTMLElement, private readonly hooks: Hooks) {
    this.#points = box.querySelector("canvas.points")!;
    this.#over = box.querySelector("canvas.over")!;
    new ResizeObserver(() => this.#resize()).observe(box);
    this.#resize();
    this.#listen();
  }

  /** Fit all points of the plane into view. */
  fit(): void {
    const { x, y, count } = this.plane;
    if (this.#places?.plane !== this.plane) this.#places = new Places(this.plane);
    const range = (v: Float32Array): [number, number] => {
      const some: number[] = [];
      for (let i = 0; i < count; i += Math.max(1, Math.floor(count / 20000))) some.push(v[i]!);
      some.sort((a, b) => a - b);
      const at = (q: number): number => some[Math.min(some.length - 1, Math.max(0, Math.round(q * (some.length - 1))))]!;
      return [at(0.001), at(0.999)];
    };
    const [[x0, x1], [y0, y1]] = [range(x), range(y)];
    this.view = {
      x: (x0 + x1) / 2, y: (y0 + y1) / 2,
      scale: Math.min((this.#width - 56) / (x1 - x0 || 1), (this.#height - 56) / (y1 - y0 || 1)) || 1,
    };
    this.draw();
  }

  toScreen(x: number, y: number): { x: number; y: number } {
    return { x: (x - this.view.x) * this.view.scale + this.#width / 2, y: this.#height / 2 - (y - this.view.y) * this.view.scale };
  }

  toPlane(x: number, y: number): { x: number; y: number } {
    return { x: (x - this.#width / 2) / this.view.scale + this.view.x, y: (this.#height / 2 - y) / this.view.scale + this.view.y };
  }

  zoom(by: number, x = this.#width / 2, y = this.#height / 2): void {
    const before = this.toPlane(x, y);
    this.view.scale *= by;
    const after = this.toPlane(x, y);
    this.view.x += before.x - after.x;
    this.view.y += before.y - after.y;
    this.draw();
    this.hooks.moved();
  }

  pan(dx: number, dy: number): void {
    this.view.x -= dx / this.view.scale;
    this.view.y += dy / this.view.scale;
    this.draw();
    this.hooks.moved();
  }

  get span(): { width: number; height: number } {
    return { width: this.#width / this.view.scale, height: this.#height / this.view.scale };
  }

  draw(): void { if (!this.#pending) this.#pending = requestAnimationFrame(() => this.#drawNow()); }

  #drawNow(): void {
    this.#pending = 0;
    this.#drawPoints();
    this.#drawOver();
  }

  drawMarks(): void { if (!this.#pending) this.#drawOver(); }

  /** The point nearest to a position on the screen, within `reach` pixels; -1 if there is none. */
  near(px: number, py: number, reach = 12): number {
    const at = this.toPlane(px, py);
    return this.nearest(at.x, at.y, 1, (i) => this.muted?.[i] !== 2, reach / this.view.scale)[0]?.i ?? -1;
  }

  /** The points nearest to a position on the plane. */
  nearest(...asked: Parameters<Places["nearest"]>): ReturnType<Places["nearest"]> {
    return this.#places!.nearest(...asked);
  }

  #resize(): void {
    const box = this.box.getBoundingClientRect();
    const [width, height] = [Math.max(50, Math.round(box.width)), Math.max(50, Math.round(box.height))];
    if (width === this.#width && height === this.#height) return;
    if (this.#width) this.view.scale *= Math.min(width, height) / Math.min(this.#width, this.#height);
    [this.#width, this.#height] = [width, height];
    const ratio = Math.min(2, devicePixelRatio || 1);
    for (const canvas of [this.#points, this.#over]) {
      canvas.width = width * ratio;
      canvas.height = height * ratio;
      canvas.getContext("2d")!.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    if (this.plane) this.#drawNow(); // at once, since a canvas with a new size is empty
  }

  #colour(name: string): string { return getComputedStyle(this.box).getPropertyValue(name).trim(); }

  #drawPoints(): void {
    const ctx = this.#points.getContext("2d")!;
    ctx.clearRect(0, 0, this.#width, this.#height);
    this.#drawScene(ctx);
    const { x, y, count } = this.plane;
    const low = this.toPlane(-4, this.#height + 4);
    const high = this.toPlane(this.#width + 4, -4);
    const inside: number[] = [];
    for (let i = 0; i < count && inside.length <= DOTS; i++) {
      if (x[i]! > low.x && x[i]! < high.x && y[i]! > low.y && y[i]! < high.y && !(this.muted && this.muted[i] === 2)) inside.push(i);
    }
    if (inside.length > DOTS) {
      this.#drawDensity(ctx);
      const chosen = this.muted ? Array.from(this.muted.keys()).filter((i) => i < count && !this.muted![i]) : [];
      if (chosen.length <= DOTS) this.#drawDots(ctx, chosen); // a selection is seen among the others
    } else this.#drawDots(ctx, inside);
    this.#drawLabels(ctx);
  }

  /** Draw what lies behind the points: the circles of the prior, and the axes through zero. */
  #drawScene(ctx: CanvasRenderingContext2D): void {
    ctx.strokeStyle = this.#colour("--line");
    ctx.fillStyle = this.#colour("--muted");
    ctx.font = "11px system-ui, sans-serif";
    ctx.lineWidth = 1;
    for (const circle of this.circles) {
      const at = this.toScreen(circle.x, circle.y);
      ctx.beginPath();
      ctx.arc(at.x, at.y, circle.r * this.view.scale, 0, 2 * Math.PI);
      ctx.stroke();
      ctx.fillText(circle.text, at.x + 4, at.y - circle.r * this.view.scale - 3);
    }
  }

  #drawDots(ctx: CanvasRenderingContext2D, inside: number[]): void {
    const { x, y } = this.plane;
    const radius = inside.length > 6000 ? 1.6 : inside.length > 1200 ? 2.4 : 3.4;
    const groups = new Map<number, number[]>();
    for (const i of inside) {
      const tone = this.muted?.[i] ? -1 : this.colours.tones?.[i] ?? 0;
      const group = groups.get(tone);
      if (group) group.push(i);
      else groups.set(tone, [i]);
    }
    ctx.globalAlpha = inside.length > 6000 ? 0.6 : 0.78;
    for (const tone of [...groups.keys()].sort((a, b) => a - b)) {
      ctx.fillStyle = tone < 0 ? this.#colour("--faint") : `rgb(${this.colours.palette[tone]!.join(",")})`;
      if (tone < 0) ctx.globalAlpha = 0.35;
      const size = tone >= 0 && this.muted ? radius + 1.2 : radius; // a few selected points are found at once
      ctx.beginPath();
      for (const i of groups.get(tone)!) {
        const at = this.toScreen(x[i]!, y[i]!);
        ctx.moveTo(at.x + size, at.y);
        ctx.arc(at.x, at.y, size, 0, 2 * Math.PI);
      }
      ctx.fill();
      if (tone < 0) ctx.globalAlpha = inside.length > 6000 ? 0.6 : 0.78;
    }
    ctx.globalAlpha = 1;
    this.#drawCrosses(ctx, inside);
  }

  #drawCrosses(ctx: CanvasRenderingContext2D, inside: number[]): void {
    const { x, y } = this.plane;
    ctx.lineWidth = 1.1;
    for (const muted of [1, 0]) {
      ctx.strokeStyle = this.#colour(muted ? "--faint" : "--ink");
      ctx.beginPath();
      for (const i of inside) {
        if (!this.beyond[i] || (this.muted?.[i] ?? 0) !== muted) continue;
        const at = this.toScreen(x[i]!, y[i]!);
        for (const s of [1, -1]) { ctx.moveTo(at.x - 3, at.y - 3 * s); ctx.lineTo(at.x + 3, at.y + 3 * s); }
      }
      ctx.stroke();
    }
  }

  /** The mean colour of each pixel's points, as opaque as the logarithm of their number. */
  #drawDensity(ctx: CanvasRenderingContext2D): void {
    const { x, y, count } = this.plane;
    const [w, h] = [this.#width, this.#height];
    if (this.#sums.length !== 4 * w * h) this.#sums = new Float32Array(4 * w * h);
    const sums = this.#sums.fill(0);
    const { palette, tones } = this.colours;
    const grey = (this.#colour("--faint").match(/\w\w/g) ?? []).map((v) => parseInt(v, 16));
    const flat = new Float32Array([...palette.flat(), grey[0] ?? 150, grey[1] ?? 150, grey[2] ?? 150]);
    const last = 3 * palette.length;
    const { scale, x: cx, y: cy } = this.view;
    const [left, top] = [w / 2 - cx * scale, h / 2 + cy * scale];
    const muted = this.muted;
    for (let i = 0; i < count; i++) {
      const px = (x[i]! * scale + left) | 0;
      const py = (top - y[i]! * scale) | 0;
      if (px < 0 || py < 0 || px >= w || py >= h) continue;
      const m = muted ? muted[i]! : 0;
      if (m === 2) continue;
      const weight = m ? 0.25 : 1;
      const t = m ? last : tones ? 3 * tones[i]! : 0;
      const at = 4 * (py * w + px);
      sums[at]! += weight * flat[t]!;
      sums[at + 1]! += weight * flat[t + 1]!;
      sums[at + 2]! += weight * flat[t + 2]!;
      sums[at + 3]! += weight;
    }
    let most = 1;
    for (let at = 3; at < sums.length; at += 4) if (sums[at]! > most) most = sums[at]!;
    const image = new ImageData(w, h);
    const by = 1 / Math.log1p(most);
    for (let at = 0; at < sums.length; at += 4) {
      const n = sums[at + 3]!;
      if (!n) continue;
      for (let k = 0; k < 3; k++) image.data[at + k] = sums[at + k]! / n;
      image.data[at + 3] = 255 * (0.25 + 0.75 * Math.log1p(n) * by);
    }
    const picture = new OffscreenCanvas(w, h);
    picture.getContext("2d")!.putImageData(image, 0, 0);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(picture, 0, 0, w, h);
    const far: number[] = [];
    for (let i = 0; i < Math.min(count, this.beyond.length) && far.length < 1500; i++) if (this.beyond[i] && this.muted?.[i] !== 2) far.push(i);
    this.#drawCrosses(ctx, far);
  }

  #drawLabels(ctx: CanvasRenderingContext2D): void {
    ctx.font = "600 13px system-ui, sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.lineWidth = 4;
    ctx.lineJoin = "round";
    ctx.strokeStyle = this.#colour("--card");
    ctx.fillStyle = this.#colour("--ink");
    const placed: { x: number; y: number; half: number }[] = [];
    const labels = this.labels.map((l) => ({ ...this.toScreen(l.x, l.y), text: l.text, half: ctx.measureText(l.text).width / 2 + 3 }));
    for (const at of labels.sort((a, b) => a.y - b.y)) { // from the top; a label moves down below those that it would cover
      for (const p of placed) if (Math.abs(p.x - at.x) < p.half + at.half && at.y < p.y + 15 && at.y > p.y - 15) at.y = p.y + 15;
      placed.push(at);
      placed.sort((a, b) => a.y - b.y);
      ctx.strokeText(at.text, at.x, at.y);
      ctx.fillText(at.text, at.x, at.y);
    }
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
  }

  #drawOver(): void {
    const ctx = this.#over.getContext("2d")!;
    ctx.clearRect(0, 0, this.#width, this.#height);
    const [ink, card] = [this.#colour("--ink"), this.#colour("--card")];
    const line = (places: { x: number; y: number }[], close: boolean): void => {
      ctx.beginPath();
      places.forEach((p, i) => (i ? ctx.lineTo(p.x, p.y) : ctx.moveTo(p.x, p.y)));
      if (close) ctx.closePath();
    };
    if (this.path.length > 1) {
      line(this.path.map((p) => this.toScreen(p.x, p.y)), false);
      for (const [colour, width] of [[card, 5], [ink, 2]] as const) { ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.stroke(); }
    }
    if (this.#lassoed.length > 1) {
      line(this.#lassoed, true);
      ctx.globalAlpha = 0.1;
      ctx.fillStyle = ink;
      ctx.fill();
      ctx.globalAlpha = 1;
      ctx.strokeStyle = ink;
      ctx.lineWidth = 1.5;
      ctx.setLineDash([5, 4]);
      ctx.stroke();
      ctx.setLineDash([]);
    }
    for (const mark of this.marks) {
      const at = this.toScreen(mark.x, mark.y);
      const radius = mark.kind === "here" ? 9 : mark.kind === "near" ? 6 : 8;
      ctx.beginPath();
      ctx.arc(at.x, at.y, radius, 0, 2 * Math.PI);
      for (const [colour, width] of [[card, 5], [ink, 2]] as const) { ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.stroke(); }
      if (mark.kind === "here") {
        ctx.beginPath();
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]] as const) {
          ctx.moveTo(at.x + 4 * dx, at.y + 4 * dy);
          ctx.lineTo(at.x + 15 * dx, at.y + 15 * dy);
        }
        ctx.stroke();
      } else if (mark.kind === "a" || mark.kind === "b") {
        ctx.font = "700 12px system-ui, sans-serif";
        ctx.fillStyle = ink;
        ctx.strokeStyle = card;
        ctx.lineWidth = 4;
        ctx.strokeText(mark.kind.toUpperCase(), at.x + 11, at.y - 8);
        ctx.fillText(mark.kind.toUpperCase(), at.x + 11, at.y - 8);
      }
    }
  }

  #listen(): void {
    const canvas = this.#over;
    const place = (e: PointerEvent | WheelEvent | MouseEvent): { x: number; y: number } => {
      const box = canvas.getBoundingClientRect();
      return { x: e.clientX - box.left, y: e.clientY - box.top };
    };
    const decode = (p: { x: number; y: number }, done: boolean): void => {
      const at = this.toPlane(p.x, p.y);
      this.hooks.point(at.x, at.y, done);
    };
    let hovering = 0;
    canvas.addEventListener("pointerdown", (e) => {
      canvas.setPointerCapture(e.pointerId);
      this.#fingers.set(e.pointerId, place(e));
      if (this.#fingers.size === 2) { this.#dragged = "pinch"; this.#lassoed = []; return; }
      this.#dragged = e.button === 1 || e.button === 2 || e.ctrlKey ? "move" : e.shiftKey ? "lasso" : this.mode;
      if (this.#dragged === "lasso") this.#lassoed = [place(e)];
      this.#still = e.pointerType === "touch" ? place(e) : null;
      if (this.#dragged === "decode" && !this.#still) decode(place(e), false);
      this.hooks.hover(-1, null);
    });
    canvas.addEventListener("pointermove", (e) => {
      const before = this.#fingers.get(e.pointerId);
      const now = place(e);
      if (!before) {
        if (!hovering) hovering = requestAnimationFrame(() => {
          hovering = 0;
          const row = this.near(now.x, now.y);
          this.hooks.hover(row, now);
        });
        return;
      }
      if (this.#dragged === "pinch") {
        if (this.#fingers.size !== 2) { this.#fingers.set(e.pointerId, now); return; }
        const [a, b] = [...this.#fingers.values()] as [{ x: number; y: number }, { x: number; y: number }];
        const size = Math.hypot(a.x - b.x, a.y - b.y);
        this.#fingers.set(e.pointerId, now);
        const [c, d] = [...this.#fingers.values()] as [{ x: number; y: number }, { x: number; y: number }];
        this.pan((c.x + d.x - a.x - b.x) / 2, (c.y + d.y - a.y - b.y) / 2);
        this.zoom(Math.hypot(c.x - d.x, c.y - d.y) / (size || 1), (c.x + d.x) / 2, (c.y + d.y) / 2);
        return;
      }
      this.#fingers.set(e.pointerId, now);
      if (this.#dragged === "move") this.pan(now.x - before.x, now.y - before.y);
      if (this.#still && Math.hypot(now.x - this.#still.x, now.y - this.#still.y) > 8) this.#still = null;
      if (this.#dragged === "decode" && !this.#still) decode(now, false);
      if (this.#dragged === "lasso") { this.#lassoed.push(now); this.drawMarks(); }
    });
    const up = (e: PointerEvent): void => {
      if (!this.#fingers.delete(e.pointerId)) return;
      if (this.#dragged === "decode") decode(place(e), true);
      if (this.#dragged === "lasso") this.#closeLasso();
      if (!this.#fingers.size) this.#dragged = null;
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => this.hooks.hover(-1, null));
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    canvas.addEventListener("dblclick", (e) => {
      const p = place(e);
      const row = this.near(p.x, p.y);
      if (row >= 0) this.hooks.pick(row);
    });
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      const p = place(e);
      this.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0015)), p.x, p.y);
    }, { passive: false });
    canvas.addEventListener("keydown", (e) => {
      const arrows: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      const arrow = arrows[e.key];
      if (arrow && e.shiftKey) this.pan(-40 * arrow[0], 40 * arrow[1]);
      else if (arrow) {
        const here = this.marks.find((m) => m.kind === "here") ?? { x: this.view.x, y: this.view.y };
        const step = 12 / this.view.scale;
        this.hooks.point(here.x + step * arrow[0], here.y + step * arrow[1], true);
      } else if (e.key === "+" || e.key === "=") this.zoom(1.25);
      else if (e.key === "-") this.zoom(0.8);
      else if (e.key === "0") { this.fit(); this.hooks.moved(); }
      else return;
      e.preventDefault();
    });
  }

  #closeLasso(): void {
    const polygon = this.#lassoed.map((p) => this.toPlane(p.x, p.y));
    this.#lassoed = [];
    this.drawMarks();
    if (polygon.length > 2) this.hooks.lasso(this.within(polygon));
  }

  /** The points inside a polygon, by the parity of crossings. */
  within(polygon: { x: number; y: number }[]): number[] {
    const { x, y, count } = this.plane;
    const [xs, ys] = [polygon.map((p) => p.x), polygon.map((p) => p.y)];
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const found: number[] = [];
    for (let i = 0; i < count; i++) {
      const [px, py] = [x[i]!, y[i]!];
      if (px < x0 || px > x1 || py < y0 || py > y1 || this.muted?.[i] === 2) continue;
      let inside = false;
      for (let a = 0, b = xs.length - 1; a < xs.length; b = a++) {
        if (ys[a]! > py !== ys[b]! > py && px < ((xs[b]! - xs[a]!) * (py - ys[a]!)) / (ys[b]! - ys[a]!) + xs[a]!) inside = !inside;
      }
      if (inside) found.push(i);
    }
    return found;
  }
}
