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
