// What the service is asked, and its problems as errors. Paths are relative: a proxy may put a prefix before all of them.

import { askKey } from "./keys.js";

/** The service said no, or could not be asked; `status` is 0 then. The message is fit to be shown. */
class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function reach(path, options, read) {
  try {
    const response = await fetch(path, options);
    return { response, body: await read(response) };
  } catch {
    throw new Problem(0, "the service cannot be reached; it may be stopped, or the network is down");
  }
}

/** Asks; the answer's `data` is its JSON, or text where it is none. */
async function ask(path, options = {}) {
  const { response, body: text } = await reach(path, { cache: "no-store", ...options }, (from) => from.text());
  const isJson = /json/.test(response.headers.get("content-type") ?? "");
  let data = text;
  try {
    if (isJson) data = JSON.parse(text);
  } catch {
    throw new Problem(response.status, `the answer to ${path} is not the JSON it says it is`);
  }
  if (!response.ok) throw new Problem(response.status, problemText(response, data));
  return { data, headers: response.headers };
}

function problemText(response, data) {
  const detail = data?.detail ?? `status ${response.status}`;
  const wait = response.headers.get("retry-after");
  return wait === null ? detail : `${detail}; try again in ${wait} s`;
}

const keys = { api: null, admin: null };

/** Asks with the key of a kind where there is one, and asks the user for it where it is needed or was wrong. */
async function askAs(kind, path, options) {
  for (;;) {
    const key = keys[kind];
    const headers = key === null ? options.headers : { ...options.headers, Authorization: `Bearer ${asBytes(key)}` };
    try {
      return await ask(path, { ...options, headers });
    } catch (problem) {
      // 403 without a key is about where the request comes from, which no key mends.
      const aboutKey = problem.status === 401 || (problem.status === 403 && key !== null);
      if (!aboutKey) throw problem;
      keys[kind] = null;
      keys[kind] = await askKey(kind, key === null ? null : problem.message);
      if (keys[kind] === null) throw problem;
    }
  }
}

/** Headers carry bytes, each as one character; the service takes keys as UTF-8. */
const asBytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

/** One image's answer, with what every stage that ran has said. */
export async function classify(image, parameters = {}) {
  const query = new URLSearchParams({ trace: "true", ...parameters });
  const headers = { "Content-Type": "application/octet-stream" };
  return (await askAs("api", `classify?${query}`, { method: "POST", headers, body: image })).data;
}

export const getSample = async (name) => (await reach(`console/samples/${name}.jpg`, {}, (from) => from.blob())).body;
export const getModel = async () => (await ask("models")).data.models[0];
export const getInfo = async () => (await ask("info")).data;
export const getCurve = async () => (await ask("config/curve")).data;
export const getHistory = async () => (await ask("config/history")).data.versions;
export const getMetrics = async () => (await ask("metrics")).data;

export async function getConfiguration() {
  const { data, headers } = await ask("config");
  return { ...data, etag: headers.get("etag") };
}

const JSON_BODY = { "Content-Type": "application/json" };

export async function simulate(wanted) {
  return (await ask("config/simulate", { method: "POST", headers: JSON_BODY, body: JSON.stringify(wanted) })).data;
}

/** Puts `wanted` into force if the configuration is still the one with this tag; a Problem with status 412 if not. */
export async function change(wanted, etag) {
  const options = { method: "PATCH", headers: { ...JSON_BODY, "If-Match": etag }, body: JSON.stringify(wanted) };
  const { data, headers } = await askAs("admin", "config", options);
  return { ...data, etag: headers.get("etag") };
}
