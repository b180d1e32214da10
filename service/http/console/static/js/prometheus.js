// Prometheus' text format, and what two readings of it say about the time between them.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** All samples by metric name: `[{ labels, value }]`. */
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (match === null) continue;
    const [, name, labels = "", value] = match;
    const sample = {
      labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, given]) => [key, given])),
      value: Number(value),
    };
    if (samples.has(name)) samples.get(name).push(sample);
    else samples.set(name, [sample]);
  }
  return samples;
}

/** What the console needs of one reading of /metrics; counts since the replica started. */
export function reading(text, numStages, atS) {
  const samples = parse(text);
  const all = (name) => samples.get(name) ?? [];
  const sum = (name) => all(name).reduce((total, { value }) => total + value, 0);
  const byStage = (name) => {
    const totals = Array(numStages).fill(0);
    for (const { labels, value } of all(name)) totals[Number(labels.stage)] += value;
    return totals;
  };
  if (all("dvt_images_total").length === 0) throw new Error("this is not the text of the service's metrics");
  return {
    atS,
    exits: byStage("dvt_exits_total"),
    batches: byStage("dvt_batch_size_count"),
    batchedImages: byStage("dvt_batch_size_sum"),
    waiting: byStage("dvt_queue_depth"),
    macs: sum("dvt_macs_total"),
    baselineMacs: sum("dvt_baseline_macs_total"),
    refused: sum("dvt_rejected_total"),
    failed: sum("dvt_failed_images_total"),
    latency: all("dvt_request_duration_seconds_bucket")
      .map(({ labels, value }) => ({ le: labels.le === "+Inf" ? Infinity : Number(labels.le), count: value }))
      .sort((one, other) => one.le - other.le),
  };
}

/** What happened between two readings; null where a counter went back: another process answers now. */
export function between(before, after) {
  const elapsedS = after.atS - before.atS;
  const exits = after.exits.map((count, stage) => count - before.exits[stage]);
  const batches = after.batches.map((count, stage) => count - before.batches[stage]);
  const latency = after.latency.map(({ le, count }, place) => ({
    le,
    count: count - (before.latency[place]?.count ?? 0),
  }));
  if (elapsedS <= 0 || [...exits, ...batches, ...latency.map(({ count }) => count)].some((count) => count < 0))
    return null;
  const baselineMacs = after.baselineMacs - before.baselineMacs;
  return {
    exitRates: exits.map((count) => count / elapsedS),
    imageRate: exits.reduce((total, count) => total + count, 0) / elapsedS,
    meanBatches: batches.map((count, stage) =>
      count > 0 ? (after.batchedImages[stage] - before.batchedImages[stage]) / count : null,
    ),
    p50S: quantile(latency, 0.5),
    p99S: quantile(latency, 0.99),
    saved: baselineMacs > 0 ? 1 - (after.macs - before.macs) / baselineMacs : null,
  };
}

/** A quantile of a histogram's cumulative buckets, as Prometheus' histogram_quantile has it; null for none.
 *
 * Within a bucket, values count as evenly spread; beyond the last finite bound, that bound is all that is known.
 */
export function quantile(buckets, share) {
  const total = buckets.at(-1)?.count ?? 0;
  if (total === 0) return null;
  const rank = share * total;
  const place = buckets.findIndex(({ count }) => count >= rank);
  const { le, count } = buckets[place];
  const { le: lower, count: below } = place === 0 ? { le: 0, count: 0 } : buckets[place - 1];
  if (le === Infinity) return lower;
  return lower + ((le - lower) * (rank - below)) / (count - below);
}
