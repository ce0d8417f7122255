/** The page: its views by the address, and what stands around them. */

import { html, render, useEffect, useState } from "./vendor/htm-preact.module.js";
import * as service from "./api.js";
import { Door } from "./door.js";
import { Help } from "./help.js";
import { Monitor } from "./monitor.js";
import { Failure, Waiting } from "./notice.js";
import { Review } from "./review.js";
import { Footer, Header, VIEWS } from "./shell.js";
import { Try } from "./try.js";
import { keyPressed } from "./keys.js";
import { t } from "./words.js";

const RETRY_MS = 2000;

const viewNow = () => VIEWS.find((view) => location.hash === `#${view}`) ?? "try";

function Page() {
  const [view, setView] = useState(viewNow);
  const [model, setModel] = useState(null);
  const [error, setError] = useState(null);
  const [away, setAway] = useState(false);
  const [door, setDoor] = useState(null);
  const [help, setHelp] = useState(false);
  const [, redraw] = useState(0);

  useEffect(() => {
    service.doors.reached = (reached) => setAway(!reached);
    service.doors.askForKey = (refused) =>
      new Promise((resolve, reject) => setDoor({ refused, resolve, reject })).finally(() =>
        setDoor(null),
      );
    load();
    const moved = () => setView(viewNow());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    document.title = `${t(`view.${view}`)} · Moodal`;
  });
  useEffect(() => keyPressed({ "?": () => setHelp(true) }), []);
  useEffect(() => {
    if (!away) return;
    const timer = setInterval(async () => {
      if (!(await service.alive())) return;
      setAway(false);
      load();
    }, RETRY_MS);
    return () => clearInterval(timer);
  }, [away]);

  async function load() {
    try {
      setModel(await service.model());
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  }

  return html`
    <a class="skip" href="#main" onClick=${skip}>${t("skip")}</a>
    <${Header} view=${view} redraw=${() => redraw((n) => n + 1)} help=${() => setHelp(true)} />
    ${away && html`<div class="banner" role="alert">${t("error.away")}</div>`}
    <main id="main" tabindex="-1">
      ${model && html`<${Try} model=${model} hidden=${view !== "try"} />`}
      ${model && view === "review" && html`<${Review} model=${model} />`}
      ${view === "monitor" && html`<${Monitor} />`}
      ${!model && !error && html`<${Waiting}>${t("loading")}<//>`}
      ${!model && error && view !== "monitor" && html`<${Failure} error=${error} again=${load} />`}
    </main>
    <${Footer} model=${model} />
    ${door && html`<${Door} ...${door} />`}
    ${help && html`<${Help} close=${() => setHelp(false)} labels=${model?.labels ?? []} />`}
  `;
}

/** @param {Event} event The address stays: it names the view. */
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

render(html`<${Page} />`, document.body);
