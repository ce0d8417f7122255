/** Try: a question on the left, its answer on the right. */

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { predict } from "./api.js";
import { Answer } from "./answer.js";
import { Ask, canGive } from "./ask.js";
import { LiveAnswers } from "./live_answers.js";
import { Empty, Failure, Waiting } from "./notice.js";
import { prefer, preference } from "./preferences.js";
import { labelName, modalityName, number, percent, t } from "./words.js";

/** Of the window, from its top: an answer that begins further down is brought up. */
const IN_SIGHT = 0.6;
const MODALITIES = ["text", "image", "audio"];
const NOTHING = { text: "", image: null, audio: null };

/** @param {{model: object, hidden: boolean}} props */
export function Try({ model, hidden }) {
  const [question, setQuestion] = useState({
    ...NOTHING,
    explain: preference("explain", "yes") === "yes",
  });
  /** @type {[{is: "nothing" | "waiting" | "live" | "unheard" | "answer" | "failed"}, Function]} */
  const [outcome, setOutcome] = useState({ is: "nothing" });
  const latest = useRef(new AbortController());
  const place = useRef(null);
  const now = useRef(question); // a live turn outlasts the render that began it
  now.current = question;

  useEffect(() => {
    const isBelow = place.current?.getBoundingClientRect().top > IN_SIGHT * innerHeight;
    if (outcome.is !== "nothing" && isBelow) place.current.scrollIntoView();
  }, [outcome.is]);

  function change(part) {
    if ("explain" in part) prefer("explain", part.explain ? "" : "no");
    setQuestion((before) => ({ ...before, ...part }));
  }

  async function send() {
    latest.current.abort();
    const { signal } = (latest.current = new AbortController());
    const asked = {
      text: question.text,
      image: question.image?.blob ?? null,
      audio: question.audio?.blob ?? null,
    };
    setOutcome({ is: "waiting" });
    const began = performance.now();
    try {
      const answer = await predict(formOf(question), signal);
      setOutcome({ is: "answer", answer, asked, milliseconds: performance.now() - began });
    } catch (error) {
      if (!signal.aborted) setOutcome({ is: "failed", error, again: send });
    }
  }

  const live = {
    began() {
      latest.current.abort();
      setOutcome({ is: "live", messages: [] });
    },
    message: (message) =>
      setOutcome((before) => ({ is: "live", messages: [...(before.messages ?? []), message] })),
    unheard: () => setOutcome({ is: "unheard" }),
    final: (answer, audio) =>
      setOutcome({
        is: "answer",
        answer,
        asked: { text: now.current.text, image: null, audio },
        milliseconds: null,
      }),
  };

  if (!MODALITIES.some((modality) => canGive(model, modality)))
    return html`<div hidden=${hidden}><${Empty} title=${t("ask.vectors")}>${t("ask.vectorsHint")}<//></div>`;
  return html`
    <div class="try" hidden=${hidden}>
      <div class="try-ask">
        <h1>${t("ask.title")}</h1>
        <p class="lead">${lead(model)}</p>
        <${Ask} question=${question} change=${change} send=${send} model=${model} live=${live}
          failed=${(error) => setOutcome({ is: "failed", error })} />
      </div>
      <div class="try-answer" ref=${place}>
        <${Outcome} outcome=${outcome} model=${model} />
        <p class="unseen" role="status">${spoken(outcome)}</p>
      </div>
    </div>
  `;
}

/** @param {{outcome: object, model: object}} props */
function Outcome({ outcome, model }) {
  switch (outcome.is) {
    case "nothing":
      return html`<${Empty} title=${t("answer.none")}>${t("answer.noneHint")}<//>`;
    case "waiting":
      return html`<${Waiting}>${t("answer.waiting")}<//>`;
    case "live":
      return html`<${LiveAnswers} messages=${outcome.messages} labels=${model.labels} />`;
    case "unheard":
      return html`<${Empty} title=${t("live.unheard")}>${t("live.unheardHint")}<//>`;
    case "failed":
      return html`<${Failure} error=${outcome.error} again=${outcome.again} />`;
    default:
      return html`<${Answer} ...${outcome} model=${model} />`;
  }
}

/** What may be asked. @param {object} model */
function lead(model) {
  const given = MODALITIES.filter((modality) => canGive(model, modality));
  if (given.length === MODALITIES.length) return t("ask.lead");
  return t("ask.reads", { what: given.map(modalityName).join(t("and")) });
}

/** @param {import("./ask.js").Question} question */
function formOf({ text, image, audio, explain }) {
  const form = new FormData();
  if (text.trim()) form.set("text", text);
  if (image) form.set("image", image.blob, "image");
  if (audio) form.set("audio", audio.blob, "audio");
  form.set("explain", String(explain));
  return form;
}

/** The answer in a sentence, for those who hear the page. @param {object} outcome */
function spoken({ is, answer, messages }) {
  if (is === "live") answer = messages.findLast((message) => message.type === "answer");
  if (is === "unheard") return t("live.unheard");
  if (!answer) return "";
  const said =
    answer.text ?? (answer.label === null ? number(answer.value, 3) : labelName(answer.label));
  if (is === "live") return said;
  return (
    t("answer.spoken", { said, sure: percent(answer.confidence) }) +
    (answer.abstain ? ` ${t("abstain.title")}` : "")
  );
}
