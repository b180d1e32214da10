// Numbers as people read them. MACs are multiply-accumulates; shares are of 1.

const UNITS = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

export function macs(value) {
  for (const [size, unit] of UNITS) if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  return value.toFixed(0);
}

export const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)} %`;

/** A difference of shares, in points, with its sign. */
export function points(difference) {
  const text = Math.abs(difference * 100).toFixed(2);
  return `${Number(text) === 0 ? "±" : difference < 0 ? "-" : "+"}${text} points`;
}

export const times = (factor) => `${factor.toFixed(2)}x`;

export const confidence = (value) => value.toFixed(3);

/** A threshold, and what it means at its ends. */
export function threshold(value) {
  if (value <= 0) return "0 (always)";
  return value > 1 ? "never" : value.toFixed(3);
}

export function seconds(value) {
  return value < 1 ? `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(2)} s`;
}

export const milliseconds = (value) => `${value.toFixed(1)} ms`;

export const rate = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));

export const moment = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** A number at a chart's axis, without digits it does not need. */
export const plain = (value) => String(Number(value.toPrecision(3)));

export const grid = (side) => `${side}x${side}`;
