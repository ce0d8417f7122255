/** The form of a question: words, a picture and a recording, whichever there are. */

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { kindOf, useUrl } from "./attachment.js";
import { Camera } from "./camera.js";
import { Icon } from "./icons.js";
import { Speech } from "./speech.js";
import { number, t } from "./words.js";

/** @typedef {import("./attachment.js").Attachment} Attachment */
/** @typedef {{text: string, image: Attachment | null, audio: Attachment | null, explain: boolean}} Question */

/** From this share of the characters that are read their number is shown. */
const NEARLY = 0.8;
const EXAMPLES = ["example.1", "example.2", "example.3"];

/**
 * Whether a person can give the model this: vectors are for programs, and a transcriber hears for a
 * model of words.
 * @param {object} model @param {string} modality
 */
export const canGive = ({ kinds, transcriber }, modality) =>
  (modality in kinds && kinds[modality] !== "vectors") || (modality === "audio" && transcriber);

/**
 * @param {object} props
 * @param {Question} props.question
 * @param {(change: Partial<Question>) => void} props.change
 * @param {() => void} props.send
 * @param {object} props.model
 * @param {import("./speech.js").OnLive} props.live
 * @param {(error: Error) => void} props.failed
 */
export function Ask({ question, change, send, model, live, failed }) {
  const [camera, setCamera] = useState(false);
  const [over, setOver] = useState(false);
  const [refused, setRefused] = useState("");
  const words = useRef(null);
  const reads = (modality) => canGive(model, modality);
  const most = model.limits.characters;
  const says = question.text.trim() || question.image || question.audio;

  useEffect(() => words.current?.focus({ preventScroll: true }), []);

  async function take(files) {
    setRefused("");
    for (const file of files) {
      const kind = kindOf(file);
      if (kind === null || !reads(kind)) setRefused(t("ask.refused", { name: file.name }));
      else
        change({ [kind]: kind === "text" ? await file.text() : { blob: file, name: file.name } });
    }
  }

  const taking = {
    onDragOver: (event) => {
      event.preventDefault();
      setOver(true);
    },
    onDragLeave: () => setOver(false),
    onDrop: (event) => {
      event.preventDefault();
      setOver(false);
      take(event.dataTransfer.files);
    },
    onPaste: (event) => {
      if (event.clipboardData.files.length === 0) return;
      event.preventDefault();
      take(event.clipboardData.files);
    },
  };
  const submit = (event) => {
    event.preventDefault();
    if (says) send();
  };
  const enter = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };

  return html`
    <form class=${over ? "card ask over" : "card ask"} aria-label=${t("ask.title")} onSubmit=${submit} ...${taking}>
      ${
        reads("text") &&
        html`<label class="ask-words"><span class="unseen">${t("ask.text")}</span>
        <textarea ref=${words} rows="4" placeholder=${t("ask.placeholder")}
          value=${question.text} onKeyDown=${enter}
          onInput=${(event) => change({ text: event.currentTarget.value })}></textarea>
      </label>`
      }
      ${
        question.text.length > NEARLY * most &&
        html`<p class=${question.text.length > most ? "small caution-text" : "small muted"}>
        ${t("ask.long", { n: number(question.text.length), most: number(most) })}</p>`
      }
      <${Attached} question=${question} remove=${(modality) => {
        change({ [modality]: null });
        words.current?.focus();
      }} />
      ${refused && html`<p class="small caution-text" role="alert">${refused}</p>`}
      <div class="tools">
        ${(reads("image") || reads("audio")) && html`<${Files} reads=${reads} take=${take} />`}
        ${
          reads("image") &&
          html`<button type="button" class="tool" onClick=${() => setCamera(true)}>
            <${Icon} name="camera" />${t("ask.camera")}
          </button>`
        }
        ${
          reads("audio") &&
          html`<${Speech} text=${question.text} explain=${question.explain} live=${live} failed=${failed}
            limit=${model.limits.seconds}
          recorded=${(blob) => change({ audio: { blob, name: t("ask.ownRecording") } })} />`
        }
      </div>
      <div class="ask-last">
        <label class="small"><input type="checkbox" checked=${question.explain}
          onChange=${() => change({ explain: !question.explain })} />${t("ask.explain")}</label>
        <button type="submit" class="send" disabled=${!says}>${t("ask.send")}<${Icon} name="send" /></button>
      </div>
      ${reads("text") && !says && html`<${Examples} choose=${(text) => change({ text })} />`}
      ${
        camera &&
        html`<${Camera} close=${() => setCamera(false)} taken=${(blob) => {
          setCamera(false);
          change({ image: { blob, name: t("ask.ownPicture") } });
        }} />`
      }
    </form>
  `;
}

/** @param {{reads: (modality: string) => boolean, take: (files: FileList) => void}} props */
const Files = ({ reads, take }) => html`
  <label class="tool file"><${Icon} name="attach" />${t("ask.files")}
    <input type="file" multiple accept=${["image", "audio"]
      .filter(reads)
      .map((kind) => `${kind}/*`)
      .join()}
      onChange=${(event) => {
        take(event.currentTarget.files);
        event.currentTarget.value = ""; // so that the same file may be chosen again
      }} />
  </label>
`;

/** @param {{question: Question, remove: (modality: "image" | "audio") => void}} props */
function Attached({ question: { image, audio }, remove }) {
  const picture = useUrl(image?.blob);
  const recording = useUrl(audio?.blob);
  if (!image && !audio) return null;
  const cross = (modality, name) => html`
    <button type="button" class="bare" aria-label=${t("ask.remove", { name })} onClick=${() => remove(modality)}>
      <${Icon} name="close" />
    </button>
  `;
  return html`
    <ul class="attached">
      ${
        image &&
        html`<li>
        ${picture && html`<img src=${picture} alt="" />`}
        <span class="attached-name">${image.name}</span>${cross("image", image.name)}
      </li>`
      }
      ${
        audio &&
        html`<li>${recording && html`<audio src=${recording} controls aria-label=${audio.name}></audio>`}
        <span class="attached-name">${audio.name}</span>${cross("audio", audio.name)}</li>`
      }
    </ul>
  `;
}

/** @param {{choose: (text: string) => void}} props */
const Examples = ({ choose }) => html`
  <div class="examples">
    <p class="small muted">${t("ask.examples")}</p>
    ${EXAMPLES.map(
      (key) => html`
      <button type="button" class="example" onClick=${() => choose(t(key))}>${t(key)}</button>`,
    )}
  </div>
`;
