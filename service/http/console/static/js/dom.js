// Elements without markup in strings: text from the service is only ever text.

export const byId = (id) => document.getElementById(id);

/** A new element; attributes that are false or null are left out, the others set, and children appended. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Shows words in a notice, or hides it when there are none. */
export function notify(notice, ...children) {
  notice.replaceChildren(...children);
  notice.hidden = children.length === 0;
}

/** A table; the first cell of each row is its header. Cells are text or elements.
 *
 * On a narrow screen each row becomes a list; the roles stay what they are all the same.
 */
export function table(caption, columns, rows) {
  const head = columns.map((name) => element("th", { scope: "col", role: "columnheader" }, name));
  const body = rows.map(([first, ...rest]) => {
    const cells = rest.map((cell, place) => element("td", { role: "cell", "data-column": columns[place + 1] }, cell));
    return element("tr", { role: "row" }, element("th", { scope: "row", role: "rowheader" }, first), ...cells);
  });
  return element(
    "table",
    { role: "table" },
    element("caption", { class: "visually-hidden" }, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...head)),
    element("tbody", { role: "rowgroup" }, ...body),
  );
}

/** The value of a custom property of the style sheets, which differs between light and dark. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Calls `redraw` when the system turns from light to dark or back. */
export function onThemeChange(redraw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
