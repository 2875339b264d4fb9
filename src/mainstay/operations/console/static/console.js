// What a page cannot do by itself: follow what happens, show times in the viewer's zone, keep a theme, scroll by keys, tick all.
"use strict";
(() => {
  const THEME = "mainstay-theme";
  const root = document.documentElement;

  // -- theme: the system's, unless the viewer chose one; before anything is drawn
  const chosen = () => { try { return localStorage.getItem(THEME); } catch { return null; } };
  const apply = (theme) => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  apply(chosen());

  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  function offerThemes() {
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      const name = () => { button.textContent = isDark() ? "Light" : "Dark"; button.title = `Change to ${isDark() ? "light" : "dark"} colors`; };
      button.hidden = false;
      name();
      button.addEventListener("click", () => {
        const next = isDark() ? "light" : "dark";
        try { localStorage.setItem(THEME, next); } catch { /* it lasts as long as the page, then */ }
        apply(next);
        name();
      });
    }
  }

  // -- times: how long ago, and on hover exactly, in the viewer's zone
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  function ago(moment) {
    const seconds = (Date.now() - moment) / 1000;
    const [size, unit] = units.find(([size]) => Math.abs(seconds) >= size) || [1, "s"];
    const length = `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
    return seconds < 0 ? `in ${length}` : `${length} ago`;
  }
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  function showTimes(within) {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      time.textContent = ago(moment);
      time.title = `${exact.format(moment)} (${time.dateTime})`;
    }
  }

  // -- tables that are wider than the page: a keyboard must reach them to scroll them
  function letScroll(within) {
    for (const wide of within.querySelectorAll(".wide")) if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
  }

  // -- parts that follow what happens
  function isUsed(part) {
    const selection = getSelection();
    const isChanged = (field) => (field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue);
    if ([...part.querySelectorAll("input, textarea")].some(isChanged)) return true;
    return part.contains(document.activeElement) || (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
  }
  function follow(part) {
    const source = new EventSource(part.dataset.live);
    const say = (state, words) => { const pulse = document.querySelector("[data-pulse]"); if (pulse) { pulse.className = `pulse ${state}`; pulse.textContent = words; } };
    let waiting = null;
    const show = () => {
      if (waiting === null || isUsed(part)) return;
      part.innerHTML = waiting;  // made and escaped by the server's templates; the page's policy runs no script in it
      waiting = null;
      say("on", "live");
      showTimes(part);
      letScroll(part);
    };
    source.addEventListener("part", (event) => { waiting = event.data; say("on", "live"); show(); });
    source.addEventListener("trouble", (event) => say("off", event.data));
    source.onerror = () => say("off", "not connected; trying again");
    setInterval(show, 1000);
    addEventListener("pagehide", () => source.close());
  }

  // -- ticks: one for all in the same table
  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-tick-all]")) return;
    for (const box of event.target.closest("table").querySelectorAll('input[type="checkbox"]')) box.checked = event.target.checked;
  });

  // -- keys: / finds, ? says which there are, g and a letter go to a page; none of them while somebody types
  const places = { d: "/", c: "/commands", t: "/troubleshooting", e: "/events" };
  function takeKeys() {
    const find = document.querySelector("[data-find]");
    const help = document.querySelector("[data-keys]");
    if (!find || !help) return;
    const open = () => { if (!help.open) help.showModal(); };
    for (const button of document.querySelectorAll("[data-help]")) {
      button.hidden = false;
      button.addEventListener("click", open);
    }
    let goes = -Infinity;
    addEventListener("keydown", (event) => {
      const typing = event.target.closest("input, textarea, select, [contenteditable]");
      if (typing && event.key === "Escape") typing.blur();
      if (typing || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
      const went = event.timeStamp - goes < 1500 && places[event.key];
      goes = event.key === "g" ? event.timeStamp : -Infinity;
      if (went) location.assign(document.body.dataset.root + went);
      else if (event.key === "?") open();
      else if (event.key === "/") { find.focus(); find.select(); } else return;
      event.preventDefault();
    });
  }

  // -- forms that say what must come of their numbers while they change
  function calculate(form) {
    const there = document.querySelector("[data-expected]");
    let newest = 0;
    form.addEventListener("input", async (event) => {
      const said = event.target.parentElement.querySelector("output");
      if (said) said.textContent = event.target.value;
      const fields = new FormData(form);
      fields.delete("csrf");
      const mine = ++newest;
      try {
        const answer = await fetch(`${form.dataset.expects}?${new URLSearchParams(fields)}`);
        const text = await answer.text();
        if (answer.ok && mine === newest) there.innerHTML = text;  // made and escaped by the server's templates
      } catch { /* the button says it, too */ }
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-expects]").forEach(calculate);
    takeKeys();
    offerThemes();
    showTimes(document);
    letScroll(document);
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });  // on a phone it may lie outside
    setInterval(() => showTimes(document), 10000);
    document.querySelectorAll("[data-live]").forEach(follow);
  });
})();
