// Tune the cascade: propose, see what to expect, apply, and go back.

import { showControls } from "./controls.js";
import { startCurve } from "./curve.js";
import { byId, element, notify } from "./dom.js";
import { expectedTable, words } from "./expected.js";
import { threshold } from "./format.js";
import { historyTable, wanted as bodyOf, wish } from "./history.js";
import { change, getConfiguration, getCurve, getHistory, simulate } from "./service.js";

const REFRESH_MS = 2000;

export async function startTune(model, isShown) {
  const curve = await getCurve();
  const showMarks = startCurve(curve, model, proposeShare);
  let inForce = await getConfiguration();
  let history = await getHistory();
  let proposal = null; // { wanted, simulation } once there is one
  let seen = inForce.version; // what the last change was meant to follow
  let asking = false;
  let applying = false;

  const mode = () => byId("proposal").elements.mode.value;
  const controls = (start) => showControls(mode(), { model, curve, start, changed: propose });

  /** Makes `wanted` the proposal and asks what to expect of it; while an answer is awaited, only the newest counts. */
  async function propose(wanted) {
    proposal = { wanted, simulation: null };
    byId("reset").disabled = false;
    notify(byId("tune-done"));
    if (asking) return;
    asking = true;
    try {
      while (proposal !== null && proposal.simulation === null) {
        const asked = proposal;
        asked.simulation = await simulated(asked.wanted);
        if (asked === proposal) show();
      }
    } finally {
      asking = false;
    }
  }

  async function simulated(wanted) {
    // Without a calibration table there is nothing to expect, but thresholds can be set all the same.
    if (curve.points.length === 0) return { thresholds: thresholdsOf(wanted), expected: null };
    try {
      const simulation = await simulate(wanted);
      notify(byId("tune-problem"));
      return simulation;
    } catch (problem) {
      notify(byId("tune-problem"), element("strong", {}, "This cannot be: "), `${problem.message}.`);
      return { refused: true };
    }
  }

  function thresholdsOf({ thresholds, operating_point }) {
    return thresholds ?? model.operating_points.find(({ name }) => name === operating_point).thresholds;
  }

  function proposeShare(share) {
    const wanted = { target: { fraction: Number(share.toFixed(3)) } };
    selectMode("fraction", { ...inForce, ...wanted });
    propose(wanted);
  }

  function selectMode(name, start) {
    byId("proposal").elements.mode.value = name;
    controls(start);
  }

  function show() {
    const rows = [{ name: `in force, version ${inForce.version}`, ...inForce }];
    const simulation = proposal?.simulation;
    const known = simulation && !simulation.refused;
    if (known) rows.push({ name: "proposal", thresholds: simulation.thresholds, expected: simulation.expected });
    byId("expected").replaceChildren(...expectedTable(rows, model));
    byId("proposal-words").textContent = known && simulation.expected ? words(simulation.expected, model) : "";
    showMarks(inForce.expected, known ? simulation.expected : null);
    byId("apply").disabled = !known;
    byId("history").replaceChildren(historyTable(history, proposeVersion));
    const previous = history[1];
    byId("undo").hidden = previous === undefined;
    if (previous) byId("undo").textContent = `Undo: back to version ${previous.version}`;
  }

  function proposeVersion(wanted) {
    selectMode("thresholds", inForce);
    propose(wanted).then(() => {
      if (proposal?.simulation?.thresholds) controls({ ...inForce, thresholds: proposal.simulation.thresholds });
    });
  }

  /** Forgets the proposal and shows what is in force. */
  function settle() {
    proposal = null;
    byId("reset").disabled = true;
    notify(byId("tune-problem"));
    notify(byId("conflict"));
    controls(inForce);
    show();
  }

  async function refresh() {
    [inForce, history] = await Promise.all([getConfiguration(), getHistory()]);
  }

  async function apply(wanted, done) {
    if (applying) return;
    applying = true;
    try {
      if (await changed(wanted)) {
        settle();
        byId("undo").focus();
        notify(byId("tune-done"), `${done} Version ${inForce.version} is in force for every image from now on.`);
      } else {
        show();
        explainConflict(wanted, done);
      }
    } catch (problem) {
      notify(byId("tune-problem"), element("strong", {}, "Not applied: "), `${problem.message}.`);
    } finally {
      applying = false;
    }
  }

  /** Whether `wanted` is now in force; if somebody else was faster, what they put into force is known then. */
  async function changed(wanted) {
    seen = inForce.version;
    try {
      inForce = await change(wanted, inForce.etag);
      // Should this fail, the change is in force all the same.
      history = await getHistory().catch(() => history);
      return true;
    } catch (problem) {
      if (problem.status !== 412) throw problem;
      await refresh();
      return false;
    }
  }

  function explainConflict(wanted, done) {
    const theirs = wish(inForce.target) ?? `thresholds ${inForce.thresholds.map(threshold).join(", ")}`;
    notify(
      byId("conflict"),
      element(
        "p",
        {},
        element("strong", {}, "Not applied: "),
        `somebody else was faster. You saw version ${seen}; meanwhile ${history[0].changed_by} put version ${inForce.version} into force (${theirs}).`,
      ),
      element(
        "div",
        { class: "row" },
        element("button", { type: "button", onclick: () => settle() }, `Keep version ${inForce.version}`),
        element("button", { type: "button", onclick: () => apply(wanted, done) }, "Apply mine over it"),
      ),
    );
  }

  byId("proposal").addEventListener("submit", (event) => {
    event.preventDefault();
    if (proposal !== null && !byId("apply").disabled) apply(proposal.wanted, "Applied.");
  });
  byId("reset").addEventListener("click", settle);
  byId("undo").addEventListener("click", () => apply(bodyOf(history[1]), "Undone."));
  for (const radio of byId("proposal").elements.mode) {
    radio.addEventListener("change", settle);
    if (radio.value === "operating_point") radio.parentElement.hidden = model.operating_points.length === 0;
    if (["fraction", "accuracy"].includes(radio.value)) radio.parentElement.hidden = curve.points.length === 0;
  }
  setInterval(async () => {
    if (!isShown() || proposal !== null) return;
    try {
      const before = inForce.version;
      await refresh();
      if (inForce.version !== before && proposal === null) settle();
    } catch {
      // The next time may do; what is asked for meanwhile says what is wrong.
    }
  }, REFRESH_MS);
  settle();
}
