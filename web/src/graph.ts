// A graph of core ATen operators, as `latens.report.explore.graph` writes it, and how it is run.

import { operators, type Value } from "./operators";
import type { Kind, Tensor } from "./tensor";

/** {r: i} stands for the i-th value; anything else stands for itself, and a list for its items. */
export type Argument = number | boolean | string | null | { r: number } | { x: string } | Argument[];

export interface Node {
  op: string;
  args: Argument[];
  named?: Record<string, Argument>;
}

export interface Program {
  inputs: [Kind, number[]][];
  nodes: Node[];
  outputs: Record<string, number>;
}

export function run(program: Program, constants: readonly Tensor[], inputs: readonly Tensor[]): Record<string, Tensor> {
  const values: Value[] = [...inputs, ...constants];
  const first = values.length;
  const uses = lastUses(program);
  const resolved = (a: Argument): Value =>
    Array.isArray(a) ? a.map(resolved) as Value
    : a !== null && typeof a === "object" ? ("r" in a ? values[a.r]! : Number(a.x))
    : a as Value;
  program.nodes.forEach((node, i) => {
    const named: Record<string, Value> = {};
    for (const name in node.named) named[name] = resolved(node.named[name]!);
    values.push(operators[node.op]!(node.args.map(resolved), named));
    for (const done of uses[i]!) if (done >= first) values[done] = null;
  });
  return Object.fromEntries(Object.entries(program.outputs).map(([name, i]) => [name, values[i] as Tensor]));
}

const remembered = new WeakMap<Program, number[][]>();

/** For each node, the values that no later node reads, so that their memory can be freed. */
function lastUses(program: Program): number[][] {
  let found = remembered.get(program);
  if (found) return found;
  const last = new Map<number, number>();
  const visit = (a: Argument, i: number): void => {
    if (Array.isArray(a)) a.forEach((b) => visit(b, i));
    else if (a !== null && typeof a === "object" && "r" in a) last.set(a.r, i);
  };
  program.nodes.forEach((node, i) => {
    node.args.forEach((a) => visit(a, i));
    for (const name in node.named) visit(node.named[name]!, i);
  });
  for (const i of Object.values(program.outputs)) last.delete(i);
  found = program.nodes.map(() => [] as number[]);
  for (const [value, i] of last) found[i]!.push(value);
  remembered.set(program, found);
  return found;
}
