// Watch: what the replica has been doing, second by second, for as long as the page is open, at most ten minutes.

import { axis, chart, key, stageColour } from "./charts.js";
import { byId, colour, element, notify } from "./dom.js";
import { grid, percent, plain, rate, seconds } from "./format.js";
import { between, reading } from "./prometheus.js";
import { getMetrics } from "./service.js";

const EVERY_MS = 1000;
const KEPT_S = 600;
// Quantiles and means want more than a second's requests.
const WINDOW_S = 10;
// Until there is more to show.
const SHORTEST_S = 60;
const HEIGHT_PX = 200;

export function startWatch(model) {
  const stages = model.stages.map(({ stage }) => stage);
  const readings = [];
  const rows = []; // one for each reading: what happened since the last, and within the window
  const tiles = startTiles(model);
  const charts = startCharts(model);

  async function read() {
    try {
      const fresh = reading(await getMetrics(), stages.length, Date.now() / 1000);
      notify(byId("watch-problem"));
      take(fresh);
    } catch (problem) {
      notify(byId("watch-problem"), element("strong", {}, "No figures: "), `${problem.message}.`);
    }
    setTimeout(read, EVERY_MS);
  }

  function take(fresh) {
    const last = readings.at(-1);
    readings.push(fresh);
    while (readings[0].atS < fresh.atS - KEPT_S) readings.shift();
    if (last === undefined) return;
    const step = between(last, fresh);
    if (step === null) readings.splice(0, readings.length, fresh);
    const since = readings.find(({ atS }) => atS >= fresh.atS - WINDOW_S - 0.5);
    const window = step === null || since === fresh ? null : between(since, fresh);
    rows.push({ atS: fresh.atS, step, window });
    while (rows[0].atS < fresh.atS - KEPT_S) rows.shift();
    tiles(step, window, readings);
    charts(rows);
  }

  read();
}

function startTiles(model) {
  const tile = (name, id) => {
    const value = element("dd", { id }, "–");
    byId("tiles").append(element("div", { class: "tile" }, element("dt", {}, name), value));
    return (text) => (value.textContent = text);
  };
  const images = tile("images/s", "tile-images");
  const p50 = tile("latency, p50", "tile-p50");
  const p99 = tile("latency, p99", "tile-p99");
  const batch = tile("mean batch", "tile-batch");
  const saved = tile("MACs saved", "tile-saved");
  const exits = tile(`left at ${model.stages.map((stage) => grid(stage.grid)).join(" / ")}`, "tile-exits");
  const waiting = tile("waiting now", "tile-waiting");
  const refused = tile("refused, failed", "tile-refused");
  const orDash = (value, words) => (value === null || value === undefined ? "–" : words(value));

  return (step, window, readings) => {
    const now = readings.at(-1);
    const first = readings[0];
    const whole = readings.length > 1 ? between(first, now) : null;
    images(orDash(window?.imageRate, rate));
    p50(orDash(window?.p50S, seconds));
    p99(orDash(window?.p99S, seconds));
    batch(window ? window.meanBatches.map((mean) => orDash(mean, rate)).join(" / ") : "–");
    saved(orDash(whole?.saved, percent));
    const left = now.exits.map((count, stage) => count - first.exits[stage]);
    const total = left.reduce((sum, count) => sum + count, 0);
    exits(total > 0 ? `${left.map((count) => ((100 * count) / total).toFixed(0)).join(" / ")} %` : "–");
    waiting(now.waiting.join(" / "));
    refused(`${now.refused - first.refused}, ${now.failed - first.failed}`);
  };
}

function startCharts(model) {
  const names = model.stages.map((stage) => grid(stage.grid));
  const byStage = names.map((name, stage) => key(stage, name));
  const line = (stroke) => ({ stroke, width: 2, points: { show: false } });
  const stageLines = () => names.map((_, stage) => line(stageColour(stage)));
  const columns = (rows, read) => names.map((_, stage) => rows.map((row) => read(row)?.[stage] ?? null));

  const shown = [
    figure(
      "Images answered a second, by exit",
      byStage.map((each) => each.cloneNode(true)),
      {
        describe: () => ({
          series: [{}, ...stageFills(names)],
          axes: [timeAxis(), axis(plain, { size: 62 })],
          bands: stageBands(names),
        }),
        // Stacked: each stage's line is on top of those before it.
        columns: (rows) => stacked(columns(rows, (row) => row.step?.exitRates)),
        words: ({ step }) =>
          step && step.exitRates.map((value, stage) => `${rate(value)} at ${names[stage]}`).join(", "),
      },
    ),
    figure(`Latency of requests, over ${WINDOW_S} s`, [swatch("accent", "p50"), swatch("warn", "p99")], {
      describe: () => ({
        series: [{}, line(colour("accent")), line(colour("warn"))],
        axes: [timeAxis(), axis(seconds, { size: 62 })],
      }),
      columns: (rows) => ["p50S", "p99S"].map((name) => rows.map((row) => row.window?.[name] ?? null)),
      words: ({ window }) =>
        window && window.p50S !== null && `p50 ${seconds(window.p50S)}, p99 ${seconds(window.p99S)}`,
    }),
    figure(`Mean batch of each stage, over ${WINDOW_S} s`, byStage, {
      describe: () => ({ series: [{}, ...stageLines()], axes: [timeAxis(), axis(plain, { size: 62 })] }),
      columns: (rows) => columns(rows, (row) => row.window?.meanBatches),
      words: ({ window }) =>
        window &&
        window.meanBatches.map((mean, stage) => `${mean === null ? "none" : rate(mean)} at ${names[stage]}`).join(", "),
    }),
    figure(
      `MACs saved against a static ViT, over ${WINDOW_S} s`,
      [swatch("good", "saved; below zero, the cascade costs more")],
      {
        describe: () => ({
          series: [{}, line(colour("good"))],
          axes: [timeAxis(), axis((value) => percent(value, 0), { size: 62 })],
          scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0) - 0.05, Math.max(1, high ?? 1)] } },
        }),
        columns: (rows) => [rows.map((row) => row.window?.saved ?? null)],
        words: ({ window }) => window && window.saved !== null && percent(window.saved),
      },
    ),
  ];
  return (rows) => shown.forEach((show) => show(rows));
}

const timeAxis = () => axis((at) => new Date(at * 1000).toLocaleTimeString(), { space: 110, size: 32 });

function figure(title, legend, { describe, columns, words }) {
  const plot = element("div", { class: "plot" });
  const said = element("p", { class: "muted words" }, "Nothing yet.");
  byId("charts").append(
    element(
      "figure",
      { class: "card" },
      element("figcaption", {}, element("h2", {}, title)),
      element("p", { class: "legend" }, ...legend),
      plot,
      said,
    ),
  );
  const show = chart(plot, HEIGHT_PX, () => {
    const { scales = {}, ...options } = describe();
    return {
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 36, 0, 0], // room for the last moment's name
      ...options,
      scales: {
        x: { range: (_, low, high) => [Math.min(low, high - SHORTEST_S), high] },
        y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1e-3) * 1.1] },
        ...scales,
      },
    };
  });
  return (rows) => {
    show([rows.map(({ atS }) => atS), ...columns(rows)]);
    said.textContent = `Now: ${words(rows.at(-1)) || "no images"}.`;
  };
}

function swatch(name, text) {
  const mark = element("span", { class: "swatch", "aria-hidden": "true" });
  mark.style.setProperty("--swatch", `var(--${name})`);
  return element("span", { class: "key" }, mark, text);
}

function stacked(columns) {
  const totals = columns[0]?.map(() => 0) ?? [];
  return columns.map((column) => column.map((value, row) => (value === null ? null : (totals[row] += value))));
}

const stageFills = (names) =>
  names.map((_, stage) => ({
    stroke: stageColour(stage),
    fill: `${stageColour(stage)}66`,
    width: 1.5,
    points: { show: false },
  }));

/** Each stage's area ends where the one below it begins. */
const stageBands = (names) => names.slice(1).map((_, below) => ({ series: [below + 2, below + 1] }));
