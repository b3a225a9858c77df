"use strict";
// Only what reading does not need: other tints, filters, order, search and keys for the responses.
(() => {
  const section = document.getElementById("responses");
  const controls = section.querySelector(".controls");
  if (!controls) return;
  const LEVELS = 15, PAGE = 30;
  const named = (name) => controls.querySelector(`[name="${name}"]`);
  const [mode, verdict, order, search] = ["mode", "verdict", "order", "search"].map(named);
  const status = controls.querySelector("output");
  const all = controls.querySelector("button");
  const swatches = [...section.querySelectorAll(".legend .scale i")];
  const unit = section.querySelector(".legend .scale .label");
  const groups = [...section.querySelectorAll(".group")];
  const cards = [...section.querySelectorAll(".response")];
  const texts = new Map();
  const marks = new Map();
  const modes = [...mode.options].map((option) => option.textContent);
  let current = null;
  let limited = true;

  const tokensOf = (card) => card.querySelectorAll(".tokens i");
  const columnOf = (card, place) => (card.dataset[`v${place}`] || "").split(",");

  // the classes of a number: its tint, and which side of 0 it lies on
  const linear = () => /weight$|credit$/.test(modes[mode.value]);
  const classesOf = (text) => {
    if (!text) return "";
    const value = Number(text), size = Math.abs(value);
    const share = linear() ? size / 3 : Math.log(Math.max(size, 0.01) / 0.01) / Math.log(1000);
    const level = Math.round(LEVELS * Math.min(share, 1));
    return level ? `t${level}${value < 0 ? " cold" : ""}` : "";
  };

  const paint = (card) => {
    const tokens = tokensOf(card), column = columnOf(card, mode.value);
    if (!marks.has(card)) {
      const kept = (token) => ["above", "visual"].filter((name) => token.classList.contains(name));
      marks.set(card, [...tokens].map((token) => kept(token).join(" ")));
    }
    const own = marks.get(card);
    tokens.forEach((token, index) => {
      token.className = `${classesOf(column[index])} ${own[index]}`.trim();
    });
    card.dataset.painted = mode.value;
  };

  // the page comes tinted by its first column; cards far from the window are painted when they near
  const stale = (card) => (card.dataset.painted || "0") !== mode.value;
  const near = (card) => {
    const { top, bottom } = card.getBoundingClientRect();
    return card.checkVisibility() && bottom > -innerHeight && top < 2 * innerHeight;
  };
  const repaint = () => cards.filter((card) => stale(card) && near(card)).forEach(paint);

  const legend = () => {
    const signed = modes[mode.value].endsWith("log-ratio");
    const labels = linear() ? ["0", "0.5", "1", "1.5", "2", "2.5", "≥ 3"]
      : signed ? ["≤ −10", "−1", "−0.1", "0", "0.1", "1", "≥ 10"]
      : ["≤ 0.01", "0.03", "0.1", "0.3", "1", "3", "≥ 10"];
    const values = linear() ? [0, 0.5, 1, 1.5, 2, 2.5, 3]
      : signed ? [-10, -1, -0.1, 0, 0.1, 1, 10] : [0.01, 0.03, 0.1, 0.3, 1, 3, 10];
    swatches.forEach((swatch, index) => {
      swatch.textContent = labels[index];
      swatch.className = classesOf(String(values[index]));
    });
    unit.textContent = modes[mode.value] + (linear() ? "" : ", nats");
  };

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && stale(target)) paint(target);
    }
  }, { rootMargin: "100%" });
  cards.forEach((card) => watcher.observe(card));

  const ordering = {
    rank: () => 0,
    dependency: (a, b) => b - a,
    "dependency-up": (a, b) => a - b,
    length: (a, b) => b - a,
    reward: (a, b) => b - a,
  };
  const keyOf = (card) => {
    const value = card.dataset[order.value.replace("-up", "")];
    return value ? Number(value) : order.value.endsWith("-up") ? Infinity : -Infinity;
  };
  const compare = (one, other) => {
    const [a, b] = [keyOf(one), keyOf(other)];
    return a === b ? 0 : ordering[order.value](a, b);
  };
  const textOf = (card) => {
    if (!texts.has(card)) texts.set(card, card.querySelector(".reading").textContent.toLowerCase());
    return texts.get(card);
  };

  const apply = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0, matching = 0;
    for (const group of groups) {
      const own = cards.filter((card) => card.dataset.group === group.dataset.group);
      if (order.value !== "rank") own.sort(compare);
      const more = group.querySelector("details.more");
      if (more) more.hidden = true;
      const fits = verdict.value === "" || verdict.value === group.dataset.group;
      group.hidden = !fits;
      for (const card of own) {
        const match = fits && (!wanted || textOf(card).includes(wanted));
        matching += match;
        card.hidden = !match || limited && shown >= PAGE;
        shown += !card.hidden;
        group.append(card);
      }
    }
    all.hidden = shown === matching;
    status.textContent = `${shown} of ${matching} matching responses shown`;
    current = null;
    repaint();
  };

  const visible = () => cards
    .filter((card) => !card.hidden && card.getClientRects().length)
    .sort((a, b) => a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1);
  const step = (by) => {
    const list = visible();
    if (!list.length) return;
    const place = current ? list.indexOf(current) + by : 0;
    current = list[Math.min(Math.max(place, 0), list.length - 1)];
    current.focus({ preventScroll: true });
    current.scrollIntoView({ block: "start" });
  };

  mode.addEventListener("change", () => { legend(); repaint(); });
  for (const control of [verdict, order]) {
    control.addEventListener("change", () => { limited = true; apply(); });
  }
  search.addEventListener("input", () => { limited = true; apply(); });
  all.addEventListener("click", () => { limited = false; apply(); });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, button, textarea")) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  section.addEventListener("pointerover", (event) => {
    const token = event.target.closest(".tokens i");
    if (!token || token.title.includes("·")) return;
    const card = token.closest(".response");
    const index = [...tokensOf(card)].indexOf(token);
    const values = modes.map((name, place) => [name, columnOf(card, place)[index]]);
    const known = values.filter(([, value]) => value).map(([name, value]) => {
      return `${name} ${Number(value)}`.replace("-", "−");
    });
    const above = token.classList.contains("above") ? ["above threshold"] : [];
    token.title = [token.textContent.slice(0, 40), ...known, ...above].join(" · ");
  });
  controls.hidden = false;
})();
