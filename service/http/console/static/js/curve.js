// Accuracy against cost: what can be had, what holds, and what is proposed.

import { axis, chart } from "./charts.js";
import { byId, colour, table } from "./dom.js";
import { grid, macs, percent, times } from "./format.js";

const HEIGHT_PX = 320;
const MARK_PX = 6;

/** Draws the curve; returns a function that shows where the configuration in force and the proposal are on it.
 *
 * `pick` is told the share of the baseline's MACs that was clicked.
 */
export function startCurve(curve, model, pick) {
  const share = (point) => point.mean_macs / curve.baseline_macs;
  const marks = { inForce: null, proposed: null };
  const data = [curve.points.map(share), curve.points.map((point) => point.accuracy)];

  const show = chart(byId("curve"), HEIGHT_PX, () => ({
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false } },
    scales: {
      x: { time: false, range: () => rangeOf([...curve.exits, ...curve.points].map(share)) },
      y: { range: () => yRange() },
    },
    axes: [
      axis(times, {
        label: "mean MACs per image, in those of a static ViT",
        labelFont: "12px system-ui, sans-serif",
        labelSize: 20,
        size: 32,
      }),
      axis((value) => percent(value), { size: 62 }),
    ],
    series: [{}, { stroke: colour("accent"), width: 2, points: { show: false } }],
    hooks: { draw: [drawMarks], ready: [listen] },
  }));

  function yRange() {
    const marked = Object.values(marks).filter((mark) => mark !== null);
    return rangeOf([...curve.points, ...curve.exits, ...marked].map((point) => point.accuracy));
  }

  function listen(plot) {
    plot.over.addEventListener("click", () => {
      if (plot.cursor.left >= 0) pick(plot.posToVal(plot.cursor.left, "x"));
    });
  }

  function drawMarks(plot) {
    const context = plot.ctx;
    const ratio = devicePixelRatio;
    const at = (point) => [plot.valToPos(share(point), "x", true), plot.valToPos(point.accuracy, "y", true)];
    context.save();
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.lineWidth = 2 * ratio;
    drawBaseline(context, plot);
    for (const exit of curve.exits) {
      const [x, y] = at(exit);
      context.strokeStyle = colour("muted");
      context.strokeRect(x - 4 * ratio, y - 4 * ratio, 8 * ratio, 8 * ratio);
      label(context, plot, grid(model.stages[exit.stage].grid), x, y + 18 * ratio, colour("muted"));
    }
    // To the left, where no exit can be; above and below, since the two are often close together.
    if (marks.inForce !== null) drawDot(context, plot, at(marks.inForce), colour("ink"), "in force", -8);
    if (marks.proposed !== null) drawDot(context, plot, at(marks.proposed), colour("warn"), "proposal", 16);
    context.restore();
  }

  if (curve.points.length > 0) show(data);
  byId("curve-words").textContent =
    curve.points.length > 0
      ? words(curve)
      : "This model has no calibration table, so nothing can be expected of thresholds; dvt calibrate makes one.";
  byId("curve-table").replaceChildren(curveTable(curve, share));

  return (inForce, proposed) => {
    Object.assign(marks, { inForce, proposed });
    if (curve.points.length > 0) show(data);
  };
}

function drawBaseline(context, plot) {
  const ratio = devicePixelRatio;
  const x = plot.valToPos(1, "x", true);
  const { left, top, width, height } = plot.bbox;
  if (x > left + width) return;
  context.save();
  context.setLineDash([4 * ratio, 4 * ratio]);
  context.lineWidth = ratio;
  context.strokeStyle = colour("muted");
  context.beginPath();
  context.moveTo(x, top);
  context.lineTo(x, top + height);
  context.stroke();
  context.restore();
  const text = "a static ViT's cost";
  label(context, plot, text, x + context.measureText(text).width / 2 + 6 * ratio, top + 12 * ratio, colour("muted"));
}

/** A dot with words on its left, so much below its middle. */
function drawDot(context, plot, [x, y], style, text, below) {
  const ratio = devicePixelRatio;
  context.beginPath();
  context.arc(x, y, MARK_PX * ratio, 0, 2 * Math.PI);
  context.fillStyle = style;
  context.fill();
  context.strokeStyle = colour("surface");
  context.stroke();
  const half = context.measureText(text).width / 2;
  label(context, plot, text, x - half - 10 * ratio, y + below * ratio, style);
}

/** Words centred at a place, pushed back inside the plot. */
function label(context, plot, text, x, y, style) {
  const half = context.measureText(text).width / 2;
  const { left, width } = plot.bbox;
  context.fillStyle = style;
  context.textAlign = "center";
  context.fillText(text, Math.min(Math.max(x, left + half + 2), left + width - half - 2), y);
}

/** The values' range with a margin. */
function rangeOf(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = Math.max((high - low) * 0.12, 1e-3);
  return [low - margin, high + margin];
}

function words({ points, baseline_macs }) {
  const [cheapest, best] = [points[0], points.at(-1)];
  return (
    `From ${percent(cheapest.accuracy)} at ${times(cheapest.mean_macs / baseline_macs)} to ` +
    `${percent(best.accuracy)} at ${times(best.mean_macs / baseline_macs)} the MACs of a static ViT. ` +
    "Squares: all images leave at one stage. A click on the curve proposes a budget."
  );
}

function curveTable({ points }, share) {
  const rows = points.map((point) => [percent(point.accuracy, 2), macs(point.mean_macs), times(share(point))]);
  return table("Accuracy over cost", ["accuracy", "mean MACs", "of a static ViT"], rows);
}
