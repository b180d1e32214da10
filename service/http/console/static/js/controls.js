// The sliders of a proposal. Each has a number beside it, for those who know what they want.

import { byId, element } from "./dom.js";
import { grid } from "./format.js";

const NEVER = 1.01; // no confidence reaches it
const STEP = 0.005;

/** Shows the controls of a mode; `changed` is told what they propose, as a body for /config.
 *
 * `start` is the configuration to begin with, and `curve` what can be asked for.
 */
export function showControls(mode, { model, curve, start, changed }) {
  const builders = { thresholds, fraction, accuracy, operating_point: named };
  byId("controls").replaceChildren(...builders[mode]({ model, curve, start, changed }));
}

function thresholds({ model, start, changed }) {
  const values = [...start.thresholds];
  const sliders = model.stages.slice(0, -1).map((stage) =>
    slider({
      name: `Leave at ${grid(stage.grid)} when at least so sure`,
      range: [0, NEVER, STEP],
      value: values[stage.stage],
      words: (value) => (value <= 0 ? "always" : value > 1 ? "never" : ""),
      set: (value) => {
        values[stage.stage] = value;
        changed({ thresholds: [...values] });
      },
    }),
  );
  return [
    ...sliders,
    element("p", { class: "muted" }, "0 is always, above 1 is never; the last stage always answers."),
  ];
}

function fraction({ curve, start, changed }) {
  const shares = curve.points.map((point) => point.mean_macs / curve.baseline_macs);
  const value = start.target?.fraction ?? start.expected.mean_macs / curve.baseline_macs;
  const set = (share) => changed({ target: { fraction: share } });
  const range = [roundUp(shares[0], STEP), roundUp(shares.at(-1), STEP), STEP];
  const words = () => "x a static ViT";
  return [
    slider({ name: "Mean MACs per image, at most", range, value, words, set }),
    element("p", { class: "muted" }, "The most accurate thresholds for this budget are looked up."),
  ];
}

function accuracy({ curve, start, changed }) {
  const value = start.target?.accuracy ?? start.expected.accuracy;
  const set = (share) => changed({ target: { accuracy: share } });
  const range = [roundUp(curve.points[0].accuracy, 0.001), roundDown(curve.points.at(-1).accuracy, 0.001), 0.001];
  const words = (share) => `${(share * 100).toFixed(1)} %`;
  return [
    slider({ name: "Accuracy, at least", range, value, words, set }),
    element("p", { class: "muted" }, "The cheapest thresholds with this accuracy are looked up."),
  ];
}

function named({ model, start, changed }) {
  const options = model.operating_points.map(({ name }) =>
    element("option", { value: name, selected: name === start.operating_point }, name),
  );
  const none = element("option", { value: "", disabled: true, selected: start.operating_point === null }, "choose one");
  const select = element("select", { id: "named" }, none, ...options);
  select.addEventListener("change", () => changed({ operating_point: select.value }));
  return [element("label", { for: "named" }, "Operating points of the model"), select];
}

const roundUp = (value, step) => Number((Math.ceil(value / step) * step).toFixed(6));
const roundDown = (value, step) => Number((Math.floor(value / step) * step).toFixed(6));

function slider({ name, range: [min, max, step], value, words, set }) {
  const id = `slider-${name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  const shown = Number(Math.min(Math.max(value, min), max).toFixed(3));
  const range = element("input", { type: "range", id, min, max, step: "any", value: shown });
  const number = element("input", {
    type: "number",
    "aria-label": `${name}, as a number`,
    min,
    max,
    step: "any",
    value: shown,
  });
  const said = element("output", { for: id }, words(shown));
  const take = (from, other) => () => {
    const wanted = from === range ? Math.round(Number(from.value) / step) * step : Number(from.value);
    if (from.value === "" || !from.checkValidity()) return;
    const next = Number(Math.min(max, wanted).toFixed(6));
    other.value = next;
    range.setAttribute("aria-valuetext", `${next} ${words(next)}`);
    said.textContent = words(next);
    set(next);
  };
  range.addEventListener("input", take(range, number));
  number.addEventListener("input", take(number, range));
  // "any" lets a given value stand as it is; the arrow keys then need their step said.
  range.addEventListener("keydown", (event) => {
    const direction = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (direction === undefined) return;
    event.preventDefault();
    range.value = Math.round(Number(range.value) / step + direction) * step;
    range.dispatchEvent(new Event("input"));
  });
  return element("div", { class: "slider" }, element("label", { for: id }, name), range, number, said);
}
