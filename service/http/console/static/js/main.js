// The page's start: what is served, and which view is shown.

import { byId, element, notify } from "./dom.js";
import { getInfo, getModel } from "./service.js";
import { startTry } from "./try.js";
import { startTune } from "./tune.js";
import { startWatch } from "./watch.js";

const VIEWS = ["try", "tune", "watch"];

const shown = () => (VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : VIEWS[0]);

function showView() {
  for (const view of VIEWS) byId(`view-${view}`).hidden = view !== shown();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${shown()}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function fail(problem) {
  notify(byId("start-problem"), element("strong", {}, "The console could not start: "), `${problem.message}.`);
}

async function start() {
  addEventListener("hashchange", () => {
    showView();
    byId("main").focus(); // so that a screen reader goes on in the new view
  });
  showView();
  const [model, info] = await Promise.all([getModel(), getInfo()]);
  byId("model").textContent = `${model.name} on ${info.device}, ${info.dtype}, version ${info.version}`;
  startTry(model, () => shown() === "try");
  startWatch(model);
  await startTune(model, () => shown() === "tune").catch((problem) => {
    notify(byId("tune-problem"), element("strong", {}, "Tuning is not possible now: "), `${problem.message}.`);
  });
}

start().catch(fail);
