// Short functions that make elements of the page.

type Child = Node | string | number | null | undefined | false;
type Props = Record<string, unknown>;
type Tags = HTMLElementTagNameMap;

/** The element with this id. */
export const $ = (id: string): HTMLElement => document.getElementById(id)!;

/** An element `tag#id.class.class` with properties (`on…`: listeners) and children; empty children are left out. */
export function h<K extends keyof Tags>(what: K | `${K}#${string}` | `${K}.${string}`, ...rest: (Props | Child)[]): Tags[K] {
  const [, tag, id, classes] = /^(\w+)(?:#([^.]+))?(.*)$/.exec(what) as unknown as [string, K, string?, string?];
  const found = document.createElement(tag);
  if (id) found.id = id;
  if (classes) found.className = classes.replaceAll(".", " ").trim();
  for (const each of rest) {
    if (each instanceof Node || typeof each !== "object" || !each) {
      if (each || each === 0) found.append(each as Node | string);
    } else for (const [name, value] of Object.entries(each)) {
      if (value === false || value === undefined || value === null) continue;
      if (name.startsWith("on")) found.addEventListener(name.slice(2), value as EventListener);
      else if (name in found && !/-|^(list|style)$/.test(name)) (found as unknown as Props)[name] = value;
      else found.setAttribute(name, String(value));
    }
  }
  return found;
}

/** A labelled menu; `change` gets the index of the choice. */
export function menu(id: string, label: string, options: readonly string[], chosen: number, change: (i: number) => void): HTMLElement {
  const select = h("select", { id, onchange: () => change(select.selectedIndex) }, ...options.map((o) => h("option", o)));
  select.selectedIndex = chosen;
  return h("label.field", { htmlFor: id }, h("span", label), select);
}

export function button(id: string, text: string, click: () => void, props: Props = {}): HTMLButtonElement {
  return h("button", { id, type: "button", onclick: click, ...props }, text);
}

export function download(name: string, content: Blob): void {
  const link = h("a", { href: URL.createObjectURL(content), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const csv = (rows: readonly (readonly unknown[])[]): Blob =>
  new Blob([rows.map((row) => row.map((v) => (/[",\n]/.test(String(v)) ? `"${String(v).replace(/"/g, '""')}"` : String(v))).join(",")).join("\n") + "\n"], { type: "text/csv" });

/** A whole number, its thousands separated. */
export const whole = (n: number): string => n.toLocaleString("en");

export function number(v: number, digits = 3): string {
  if (!Number.isFinite(v)) return Number.isNaN(v) ? "–" : v > 0 ? "∞" : "−∞";
  const a = Math.abs(v);
  const text = a !== 0 && (a < 1e-3 || a >= 1e6) ? v.toExponential(digits - 1) : Number(v.toPrecision(Math.max(digits, a >= 1 ? Math.ceil(Math.log10(a + 1)) : digits))).toLocaleString("en", { maximumFractionDigits: 6, useGrouping: a >= 1e4 });
  return text.replace("-", "−");
}
