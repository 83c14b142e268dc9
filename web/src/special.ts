// Special functions in double precision.

/** erf by its series with positive terms, and by a continued fraction where that is quicker. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (!(a > 0)) return x;
  if (a > 6) return Math.sign(x);
  const front = (2 / Math.sqrt(Math.PI)) * Math.exp(-a * a);
  let found: number;
  if (a < 2.5) {
    let term = a;
    found = a;
    for (let n = 1; term > 1e-17 * found; n++) found += term *= (2 * a * a) / (2 * n + 1);
    found *= front;
  } else {
    let tail = a;
    for (let n = 40; n > 0; n--) tail = a + n / 2 / tail;
    found = 1 - front / 2 / tail;
  }
  return Math.sign(x) * found;
}

/** ln Gamma: recurrence up to 8, then Stirling's series; reflection below 1/2. */
export function lgamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.abs(Math.sin(Math.PI * x))) - lgamma(1 - x);
  let product = 1;
  for (; x < 8; x++) product *= x;
  const r = 1 / (x * x);
  const series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / x;
  return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series - Math.log(product);
}

/** psi, the derivative of ln Gamma. */
export function digamma(x: number): number {
  if (x <= 0) return digamma(1 - x) - Math.PI / Math.tan(Math.PI * x);
  let found = 0;
  for (; x < 8; x++) found -= 1 / x;
  const r = 1 / (x * x);
  return found + Math.log(x) - 0.5 / x - r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r / 240)));
}

/** Halves go to the even neighbour, as in torch. */
export function round(x: number): number {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2 ? 1 : 0) : Math.round(x);
}

export const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
