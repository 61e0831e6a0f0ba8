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
