// What the calibration table expects of the configuration in force and of the proposal, side by side.

import { key } from "./charts.js";
import { element, table } from "./dom.js";
import { grid, macs, percent, points, threshold, times } from "./format.js";

/** A table with one row for each of `rows`: `{ name, thresholds, expected }`; differences are to the first. */
export function expectedTable(rows, model) {
  const columns = ["", "accuracy", "mean MACs", "of a static ViT", "leave at each stage", "thresholds"];
  const [first] = rows;
  const cells = rows.map(({ name, thresholds, expected }) => [
    name,
    ...figures(expected, expected === first.expected ? null : first.expected, model),
    thresholds.map(threshold).join(", "),
  ]);
  const legend = model.stages.map((stage) => key(stage.stage, `${grid(stage.grid)} `));
  return [table("What to expect", columns, cells), element("p", { class: "legend" }, "Stages: ", ...legend)];
}

/** The same of a proposal in a sentence, to be heard. */
export function words({ accuracy, mean_macs }, model) {
  return `Proposal: accuracy ${percent(accuracy, 2)} for ${times(mean_macs / model.baseline_macs)} a static ViT's MACs.`;
}

function figures(expected, other, model) {
  if (expected === null) return ["unknown", "unknown", "unknown", "unknown"];
  const { accuracy, mean_macs, exit_shares } = expected;
  return [
    withDifference(percent(accuracy, 2), other && points(accuracy - other.accuracy)),
    withDifference(macs(mean_macs), other && relative(mean_macs / other.mean_macs - 1)),
    times(mean_macs / model.baseline_macs),
    sharesBar(exit_shares, model),
  ];
}

const relative = (change) => `${change < 0 ? "" : "+"}${percent(change)}`;

function withDifference(text, difference) {
  return element("span", {}, text, difference ? element("small", { class: "muted" }, ` ${difference}`) : null);
}

function sharesBar(shares, model) {
  const text = shares.map((share) => percent(share)).join(", ");
  const names = shares.map((share, stage) => `${percent(share)} at ${grid(model.stages[stage].grid)}`).join(", ");
  const bar = element("span", { class: "shares", role: "img", "aria-label": names, title: names });
  shares.forEach((share, stage) => {
    const part = element("span", {});
    part.style.setProperty("--share", share);
    part.style.setProperty("--swatch", `var(--stage-${Math.min(stage, 3)})`);
    bar.append(part);
  });
  return element("span", {}, bar, element("small", { class: "muted" }, text));
}
