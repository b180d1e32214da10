// The dialog that asks for a key. Keys live in this page's memory only.

import { byId } from "./dom.js";

const NEEDS = {
  api: "Classifying needs an API key (DVT_API_KEY).",
  admin: "Changing the configuration needs the admin key (DVT_ADMIN_KEY).",
};

/** The key the user gives, or null. `refusal` says what was wrong with the one before. */
export function askKey(kind, refusal) {
  const dialog = byId("key-dialog");
  const input = byId("key");
  if (dialog.open) return Promise.resolve(null); // somebody is being asked already
  byId("key-title").textContent = refusal === null ? "A key is needed" : "This key was refused";
  byId("key-words").textContent = refusal === null ? NEEDS[kind] : `The service says: ${refusal}.`;
  input.value = "";
  return new Promise((resolve) => {
    const settle = (key) => {
      input.value = "";
      dialog.onclose = null;
      dialog.close();
      resolve(key);
    };
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      settle(input.value.trim());
    };
    byId("key-cancel").onclick = () => settle(null);
    dialog.onclose = () => settle(null);
    dialog.showModal();
    input.focus();
  });
}
