// Who put what into force, and the way back.

import { element, table } from "./dom.js";
import { moment, threshold } from "./format.js";

/** The last versions as a table, each with a button that makes it the proposal. */
export function historyTable(versions, propose) {
  const rows = versions.map((version, place) => [
    `version ${version.version}`,
    moment(version.updated_at),
    version.changed_by,
    wish(version.target) ?? "thresholds",
    version.thresholds.map(threshold).join(", "),
    place === 0
      ? "in force"
      : element(
          "button",
          {
            type: "button",
            onclick: () => propose(wanted(version)),
            "aria-label": `Propose version ${version.version} again`,
          },
          "Propose",
        ),
  ]);
  return table("Versions of the configuration", ["", "since", "by", "asked for", "thresholds", ""], rows);
}

/** The body that brings a version back. */
export function wanted({ target, thresholds }) {
  return target === null ? { thresholds } : { target };
}

/** A target in words; null for none. */
export function wish(target) {
  if (target === null) return null;
  const [[kind, value]] = Object.entries(target);
  switch (kind) {
    case "fraction":
      return `at most ${value}x a static ViT`;
    case "mean_macs":
      return `at most ${value} MACs`;
    case "accuracy":
      return `accuracy of at least ${(value * 100).toFixed(1)} %`;
    default:
      return `at most ${(value * 100).toFixed(2)} points below the full cascade`;
  }
}
