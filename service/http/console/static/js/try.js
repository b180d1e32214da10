// Try an image: drop, paste or pick one, and see its walk.

import { byId, element, notify } from "./dom.js";
import { confidence, grid, macs, milliseconds, percent } from "./format.js";
import { decode, drawWhole } from "./picture.js";
import { classify, getSample } from "./service.js";
import { reason, showStaircase } from "./staircase.js";

export function startTry(model, isShown) {
  const drop = byId("drop");
  const problem = byId("try-problem");
  let image = null;
  let newest = 0;

  /** Classifies a file, or what is still to come; an answer after a newer image was chosen is not shown. */
  async function show(source) {
    const turn = ++newest;
    drop.setAttribute("aria-busy", "true");
    byId("full-walk").hidden = true;
    byId("full-walk-note").textContent = "";
    try {
      const blob = await source;
      const [bitmap, answer] = await Promise.all([decode(blob), classify(blob)]);
      if (turn !== newest) return;
      image = blob;
      notify(problem);
      showPicture(bitmap, answer);
      showVerdict(model, answer);
      showWalk(bitmap, answer, answer.trace);
    } catch (error) {
      if (turn === newest) notify(problem, element("strong", {}, "Not classified: "), `${error.message}.`);
    } finally {
      if (turn === newest) drop.removeAttribute("aria-busy");
    }
  }

  function showPicture(bitmap, answer) {
    const canvas = byId("picture");
    canvas.hidden = bitmap === null;
    if (bitmap !== null) drawWhole(canvas, bitmap, model.preprocessing);
    canvas.setAttribute(
      "aria-label",
      `Your image, classified as ${answer.label}; what the model does not see is darkened`,
    );
    byId("drop-words").textContent =
      bitmap === null ? "This browser cannot show this kind of image; the service can read it." : "";
    byId("again").hidden = false;
  }

  function showWalk(bitmap, answer, trace) {
    const said = Object.fromEntries(trace.map((each) => [each.stage, each]));
    showStaircase(byId("staircase"), { model, bitmap, answer, said });
    const last = model.stages.length - 1;
    const button = byId("full-walk");
    button.hidden = trace.length > last;
    button.onclick = () => walkOn(bitmap, answer, last);
  }

  async function walkOn(bitmap, answer, last) {
    const turn = newest;
    try {
      const whole = await classify(image, { min_stage: last });
      if (turn !== newest) return;
      notify(problem);
      showWalk(bitmap, answer, whole.trace);
      byId("full-walk-note").textContent =
        `The whole walk costs ${macs(whole.compute.macs)} MACs, ${percent(whole.compute.fraction)} of a static ViT, ` +
        `and ends with ${whole.label} at confidence ${confidence(whole.confidence)}.`;
    } catch (error) {
      if (turn === newest)
        notify(problem, element("strong", {}, "The other stages were not asked: "), `${error.message}.`);
    }
  }

  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) show(file);
    event.target.value = ""; // so that the same file can be picked again
  });
  byId("again").addEventListener("click", () => show(image));
  for (const button of document.querySelectorAll("[data-sample]")) {
    button.addEventListener("click", () => show(getSample(button.dataset.sample)));
  }
  takeDropped(drop, show);
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (file && isShown()) show(file);
  });
}

function takeDropped(target, show) {
  // Anywhere else on the page, the browser would leave it to open the file.
  for (const type of ["dragover", "drop"]) document.addEventListener(type, (event) => event.preventDefault());
  target.addEventListener("dragover", () => target.classList.add("over"));
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    target.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) show(file);
  });
}

function showVerdict(model, { label, top, exit, compute, timing_ms, config_version, trace }) {
  const said = trace.find((each) => each.stage === exit.stage);
  const spent = element(
    "div",
    { class: "spent" },
    element("span", { class: "fill" }),
    element("span", { class: "mark" }),
  );
  // The scale ends at the dearest walk, so that what is above a static model's cost is seen as such.
  const most = Math.max(1, model.stages.at(-1).fraction);
  spent.style.setProperty("--value", compute.fraction / most);
  spent.style.setProperty("--baseline", 1 / most);
  byId("verdict").replaceChildren(
    element("p", { class: "label", id: "label" }, label),
    classes(top),
    element("p", { id: "left" }, `It left at ${grid(exit.grid)} tokens: ${reason(exit, said)}.`),
    spent,
    element(
      "p",
      { id: "spent" },
      `${macs(compute.macs)} MACs, ${percent(compute.fraction)} of the ${macs(compute.baseline_macs)} of a static ViT at ${grid(model.stages.at(-1).grid)} tokens (the mark).`,
    ),
    element(
      "p",
      { class: "muted" },
      `Decoding ${milliseconds(timing_ms.decode)}, queue ${milliseconds(timing_ms.queue)}, compute ${milliseconds(timing_ms.compute)}, in total ${milliseconds(timing_ms.total)}; configuration version ${config_version}.`,
    ),
  );
}

function classes(top) {
  const rows = top.flatMap(({ label, confidence: sure }) => {
    const bar = element("dd", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--value", sure);
    return [element("dt", {}, label), bar, element("dd", { class: "sure" }, percent(sure))];
  });
  return element("dl", { class: "classes" }, ...rows);
}
