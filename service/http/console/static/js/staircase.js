// The four stages as steps: what each saw and said, where the image left and what it had cost by then.

import { element } from "./dom.js";
import { confidence, grid, macs, percent, threshold } from "./format.js";
import { drawTokens } from "./picture.js";

const CANVAS_PX = 320;

/** Fills the list with one step a stage.
 *
 * `said` is the trace by stage: that of the answer, or of a walk that was made to go on to the end.
 */
export function showStaircase(list, { model, bitmap, answer, said }) {
  const steps = model.stages.map((stage) => {
    return showStep({ stage, bitmap, model, exit: answer.exit, said: said[stage.stage] });
  });
  list.replaceChildren(...steps);
}

function showStep(step) {
  const { stage, exit, said } = step;
  const state = stage.stage === exit.stage ? "left" : stage.stage < exit.stage ? "passed" : said ? "asked" : "unused";
  const canvas = element("canvas", { width: CANVAS_PX, height: CANVAS_PX, "aria-hidden": "true" });
  drawTokens(canvas, step.bitmap, step.model.preprocessing, stage);
  return element(
    "li",
    { class: `step ${state}`, "data-stage": stage.stage, "data-state": state },
    element("h3", {}, `${grid(stage.grid)} tokens`),
    canvas,
    element("p", { class: "look muted" }, `looks at ${grid(stage.px)} pixels`),
    said ? element("p", { class: "said" }, said.label) : element("p", { class: "said muted" }, "not asked"),
    said ? meter(said, stage) : null,
    element("p", { class: "why" }, why(step, state)),
    element(
      "p",
      { class: "cost muted" },
      `${macs(stage.cumulative_macs)} MACs to here, ${percent(stage.fraction)} of a static ViT`,
    ),
  );
}

/** Confidence as a bar, the threshold as a mark on it. */
function meter({ confidence: value, threshold: needed }, stage) {
  const bar = element("div", {
    class: "meter",
    role: "meter",
    "aria-label": `Confidence at ${grid(stage.grid)} tokens`,
    "aria-valuemin": 0,
    "aria-valuemax": 1,
    "aria-valuenow": confidence(value),
  });
  bar.style.setProperty("--value", value);
  bar.append(element("span", { class: "fill" }));
  if (needed !== null && needed > 0 && needed <= 1) {
    bar.style.setProperty("--threshold", needed);
    bar.append(element("span", { class: "mark" }));
  }
  return bar;
}

function why({ exit, said }, state) {
  if (state === "left") return `Left here: ${reason(exit, said)}.`;
  if (state === "unused") return "The image had left before.";
  if (state === "asked") return `Would have said so, with confidence ${confidence(said.confidence)}.`;
  if (said.threshold > 1) return `Escalated: at this threshold nothing leaves here, whatever the confidence.`;
  return `Escalated: confidence ${confidence(said.confidence)} is below the threshold ${threshold(said.threshold)}.`;
}

/** Why an image left, in words; the names are those of `exit.reason`. */
export function reason(exit, said) {
  switch (exit.reason) {
    case "confident":
      return exit.threshold <= 0
        ? `every image does (the threshold is 0), with confidence ${confidence(said.confidence)}`
        : `confidence ${confidence(said.confidence)} reached the threshold ${threshold(exit.threshold)}`;
    case "final":
      return `the last stage always answers, with confidence ${confidence(said.confidence)}`;
    case "load":
      return `the service is busy and let it leave early, with confidence ${confidence(said.confidence)}`;
    case "deadline":
      return "there was no time for another stage";
    case "max_stage":
      return "no later stage was allowed";
    case "max_macs":
      return "another stage would have cost too much";
    default:
      return exit.reason;
  }
}
