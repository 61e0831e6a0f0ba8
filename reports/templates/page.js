"use strict";
for (const group of document.querySelectorAll("[data-switch]")) {
  const area = document.getElementById(group.dataset.switch);
  group.hidden = false;
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    for (const other of group.querySelectorAll("button")) other.setAttribute("aria-pressed", other === button);
    area.dataset.view = button.value;
  });
}
const filters = document.querySelectorAll("select[data-filter]");
for (const select of filters) {
  select.closest("p").hidden = false;
  select.addEventListener("change", () => {
    const more = document.querySelector("#gallery details");
    if (more && select.value) more.open = true;
    for (const card of document.querySelectorAll("#gallery figure")) {
      card.hidden = [...filters].some((f) => f.value && card.dataset[f.dataset.filter] !== f.value);
    }
  });
}
for (const stack of document.querySelectorAll(".stack[data-way]")) {
  const way = JSON.parse(stack.dataset.way), card = stack.closest(".hero");
  const slide = card.querySelector(".slide"), over = stack.querySelector(".over");
  const list = card.querySelector(".now ol"), percent = (share) => (100 * share).toFixed(1) + "%";
  slide.hidden = false;
  const show = (at) => {
    const seen = way[at];
    over.style.opacity = at / (way.length - 1);
    card.querySelector(".name").textContent = seen[0][0];
    card.querySelector(".share").textContent = percent(seen[0][1]);
    [...list.children].forEach((item, k) => {
      const [name, share] = seen[k];
      item.className = name === stack.dataset.target ? "wanted" : "";
      item.querySelector("span").textContent = name;
      item.querySelector("b").textContent = percent(share);
      item.querySelector("i").style.width = 100 * share + "%";
    });
  };
  const input = slide.querySelector("input");
  input.addEventListener("input", () => show(Number(input.value)));
}
const places = document.querySelectorAll(".scroll");
const hint = (place) => {
  const hidden = place.scrollWidth - place.clientWidth;
  place.classList.toggle("more", hidden > 2);
  place.classList.toggle("end", hidden > 2 && place.scrollLeft >= hidden - 2);
};
const sizes = new ResizeObserver((seen) => seen.forEach((one) => hint(one.target)));
for (const place of places) {
  sizes.observe(place);
  place.addEventListener("scroll", () => hint(place), { passive: true });
}
const SHOWN = 200;
for (const tools of document.querySelectorAll("[data-table]")) {
  const table = document.getElementById(tools.dataset.table), body = table.tBodies[0], rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells], choices = [...tools.querySelectorAll("select")];
  const search = tools.querySelector("input"), told = tools.querySelector("output");
  const more = document.querySelector(`[data-more="${table.id}"]`), words = new Map(), orders = new Map();
  let order = rows, all = false;
  const text = (row) => words.get(row) ?? words.set(row, row.textContent.toLowerCase()).get(row);
  const key = (cell) => {
    const said = cell.dataset.v ?? cell.textContent.trim(), parts = said.split("/");
    const value = parts.length === 2 && parts[0] && parts[1] ? parts[0] / parts[1] : Number(said);
    return said === "" || said === "\u2013" ? null : Number.isNaN(value) ? said : value;
  };
  const names = new Intl.Collator(undefined, { numeric: true });
  const sorted = (column, down) => {
    const keys = orders.get(column) ?? orders.set(column, rows.map((row) => [key(row.cells[column]), row])).get(column);
    const sign = down ? -1 : 1, kind = (value) => (value === null ? 2 : typeof value === "string" ? 1 : 0);
    return keys.toSorted(([a], [b]) => { /* what is missing comes last either way, rows of equal keys as they came */
      if (kind(a) !== kind(b)) return kind(a) === 2 || kind(b) === 2 ? kind(a) - kind(b) : sign * (kind(a) - kind(b));
      return a === null ? 0 : sign * (typeof a === "string" ? names.compare(a, b) : a - b);
    }).map(([, row]) => row);
  };
  const show = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = choices.filter((choice) => choice.value);
    const found = order.filter((row) =>
      chosen.every((choice) => row.cells[choice.dataset.column].textContent === choice.value)
        && wanted.every((word) => text(row).includes(word)));
    const cut = !all && found.length > SHOWN;
    body.replaceChildren(...(cut ? found.slice(0, SHOWN) : found)); /* no others: thousands take long to be laid out */
    told.textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`
      + (cut ? `, the first ${SHOWN} shown` : "");
    more.hidden = !cut;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      order = sorted(column, down);
      show();
    });
  });
  search.addEventListener("input", show);
  for (const choice of choices) choice.addEventListener("change", show);
  tools.querySelector("button").addEventListener("click", () => {
    search.value = "";
    for (const choice of choices) choice.value = "";
    show();
  });
  more.querySelector("button").addEventListener("click", () => {
    all = true;
    show();
  });
  tools.hidden = false;
  show();
}
