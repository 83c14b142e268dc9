// Colours of points: ten for levels and a ramp for numbers, all legible on light and dark pages.

import type { Rows } from "./rows";
import type { ValueAbout } from "./page";

type Rgb = [number, number, number];

const STOPS: Rgb[] = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [243, 221, 37]];

/** A point of a viridis-like ramp, t in [0, 1], without the darkest tones on a dark page. */
export function ramp(t: number, dark: boolean): Rgb {
  const at = (dark ? 0.18 + 0.82 * t : 0.94 * t) * (STOPS.length - 1);
  const i = Math.min(STOPS.length - 2, Math.floor(at));
  return STOPS[i]!.map((v, k) => Math.round(v + (at - i) * (STOPS[i + 1]![k]! - v))) as Rgb;
}

export const isDark = (): boolean => {
  const theme = document.documentElement.dataset["theme"];
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

export function palette(): Rgb[] {
  const style = getComputedStyle(document.documentElement);
  return Array.from({ length: 10 }, (_, i) =>
    style.getPropertyValue(`--c${i}`).trim().slice(1).match(/../g)!.map((v) => parseInt(v, 16)) as Rgb);
}

export interface Scale { tones: Uint8Array; palette: Rgb[]; low: number; high: number }

/** The tones of all points, by one of their values; points without a value get the last tone, grey. */
export function scaleOf(rows: Rows, about: ValueAbout): Scale {
  const n = rows.count;
  const tones = new Uint8Array(n);
  const missing: Rgb = [150, 150, 150];
  if (about.levels.length) {
    const colours = palette();
    for (let i = 0; i < n; i++) {
      const v = rows.value(about, i);
      tones[i] = Number.isNaN(v) ? 10 : v % 10;
    }
    return { tones, palette: [...colours, missing], low: 0, high: about.levels.length - 1 };
  }
  const some: number[] = [];
  for (let i = 0; i < n; i += Math.max(1, Math.floor(n / 10000))) {
    const v = rows.value(about, i);
    if (!Number.isNaN(v)) some.push(v);
  }
  some.sort((a, b) => a - b);
  const low = some[Math.floor(0.01 * some.length)] ?? 0;
  const high = some[Math.min(some.length - 1, Math.ceil(0.99 * some.length))] ?? 1;
  for (let i = 0; i < n; i++) {
    const t = (rows.value(about, i) - low) / (high - low || 1);
    tones[i] = Number.isNaN(t) ? 64 : Math.round(63 * Math.min(1, Math.max(0, t)));
  }
  const dark = isDark();
  return { tones, palette: [...Array.from({ length: 64 }, (_, i) => ramp(i / 63, dark)), missing], low, high };
}
