// uPlot with this page's colours and sizes. Charts are pictures; what they say is beside them in words, too.

import { colour, element, onThemeChange } from "./dom.js";

const FONT = "12px system-ui, sans-serif";

/** Colours of the stages, from the cheapest to the dearest. */
export const stageColour = (stage) => colour(`stage-${Math.min(stage, 3)}`);

/** A chart that follows its element's width and the system's theme.
 *
 * `describe` gives uPlot's options and is asked again when colours change. Returns a function that shows new data.
 */
export function chart(target, height, describe) {
  let data = null;
  let plot = null;

  function build() {
    plot?.destroy();
    plot = null;
    const width = target.clientWidth;
    if (data === null || width === 0) return;
    plot = new uPlot({ width, height, ...describe() }, data, target);
    for (const canvas of target.querySelectorAll("canvas")) canvas.setAttribute("aria-hidden", "true");
  }

  new ResizeObserver(() => {
    if (plot === null) build();
    else if (target.clientWidth > 0) plot.setSize({ width: target.clientWidth, height });
  }).observe(target);
  onThemeChange(build);

  return (fresh) => {
    data = fresh;
    if (plot === null) build();
    else plot.setData(data);
  };
}

/** An axis with this page's colours; `values` turns numbers into words. */
export function axis(values, more = {}) {
  return {
    stroke: colour("muted"),
    font: FONT,
    grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1, size: 4 },
    values: (_, splits) => splits.map((split) => (split === null ? "" : values(split))),
    ...more,
  };
}

/** A coloured word of a chart's legend. */
export function key(stage, text) {
  const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.setProperty("--swatch", `var(--stage-${Math.min(stage, 3)})`);
  return element("span", { class: "key" }, swatch, text);
}
