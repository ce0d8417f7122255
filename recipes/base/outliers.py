"""Outlier exposure: what a model of sentiment must not be sure about, made on the spot.

    python -m recipes.base.outliers OUT

writes OUT/outliers/train.jsonl and dev.jsonl: rows of one modality each, without a label; to teach
uniform probabilities for them is the training's business. No content is in both parts, or twice.
Source: Hendrycks, Mazeika, Dietterich. Deep Anomaly Detection with Outlier Exposure. ICLR 2019.
"""

from __future__ import annotations

import argparse
import hashlib
import string
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from moodal.errors import DataError
from moodal.preprocess.audio import SAMPLE_RATE
from moodal.types import MODALITIES, Modality, Record
from recipes.base.manifests import PARTS, save, tally
from recipes.base.sets import Part
from recipes.base.sounds import SOUNDS

ROWS: Mapping[Part, int] = {"train": 1200, "dev": 240}
"""Of each modality, but for TIMES."""
TIMES: Mapping[Modality, int] = {"text": 3, "image": 1, "audio": 1}
"""There are more ways to write nothing than to show or to sound it."""
GROUP = "outliers"
_TRIES = 50
"""Draws for a row before a kind counts as used up."""

Rng = np.random.Generator
Picture = NDArray[np.uint8]
"""(H, W, 3)."""


def write(out: Path, *, seed: int = 0, rows: Mapping[Part, int] = ROWS) -> dict[str, Any]:
    """Write both manifests and, under OUT/media/outliers, their files; counts of each part.

    rows: part -> rows of each modality. Same seed and rows: the same contents.
    Raises: DataError, when so many different ones cannot be drawn.
    """
    out = out.resolve()
    rng = np.random.default_rng(seed)
    seen: set[bytes] = set()
    summary: dict[str, Any] = {}
    for part in PARTS:
        records = [
            _record(f"{GROUP}/{part}/{kind}-{i}", modality, content, out)
            for modality in MODALITIES
            for i, kind, content in _draw(
                KINDS[part][modality], TIMES[modality] * rows[part], seen, rng
            )
        ]
        save(out / GROUP / f"{part}.jsonl", records)
        summary[part] = tally(records)
    return summary


def _draw(
    kinds: Mapping[str, Callable[[Rng], Any]], n: int, seen: set[bytes], rng: Rng
) -> Iterator[tuple[int, str, Any]]:
    """n contents, the kinds in turn, none of which was seen before."""
    names = list(kinds)
    for i in range(n):
        kind = names[i % len(names)]
        for _ in range(_TRIES):
            content = kinds[kind](rng)
            key = _key(content)
            if key not in seen:
                break
        else:
            raise DataError(f"no more different outliers of kind {kind!r}; ask for fewer rows")
        seen.add(key)
        yield i, kind, content


def _key(content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode()
    return hashlib.sha256(str(content.shape).encode() + content.tobytes()).digest()


def _record(id: str, modality: Modality, content: Any, out: Path) -> Record:
    """The row of a content; a picture is written as PNG, a sound as FLAC."""
    if modality == "text":
        return Record(id=id, text=content, group=GROUP)
    path = out / "media" / id
    path.parent.mkdir(parents=True, exist_ok=True)
    if modality == "image":
        path = path.with_suffix(".png")
        Image.fromarray(content).save(path)
        return Record(id=id, image=path, group=GROUP)
    path = path.with_suffix(".flac")
    soundfile.write(path, content, SAMPLE_RATE, subtype="PCM_16")
    return Record(id=id, audio=path, group=GROUP)


# ---- text --------------------------------------------------------------------------------------

_STOPS = ".,!?;:…。！？、，；："
_MARKS = string.punctuation + "…。！？、，；：·—～"
_KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    # first and last code points, of letters (and of vowel signs where they stand after letters)
    "cyrillic": ((0x0430, 0x044F),),
    "greek": ((0x03B1, 0x03C9),),
    "arabic-letters": ((0x0627, 0x063A), (0x0641, 0x064A)),
    "hangul": ((0xAC00, 0xD7A3),),
    "kana": ((0x3042, 0x3093), (0x30A2, 0x30F3)),
    "devanagari": ((0x0915, 0x0939), (0x093E, 0x0948)),
    "thai": ((0x0E01, 0x0E2E), (0x0E30, 0x0E32)),
}
_SENTENCES = {
    "french": """Le train part à huit heures. | Mon voisin promène son chien. | Quel beau jardin !
        | Je ne trouve plus mes clés. | La soupe est froide et trop salée. | On se voit demain ?
        | Il pleut depuis ce matin. | Ce livre m'a beaucoup plu. | Le pain sort du four.
        | Personne n'a répondu à ma lettre. | La salle ouvre à midi. | Nous avons bien ri hier soir.
        | Ce téléphone tombe toujours en panne. | Elle apprend le piano. | Merci pour les fleurs.
        | Le musée est fermé le mardi.""",
    "german": """Der Bus kommt um zehn. | Meine Schwester wohnt am See. | Das war köstlich!
        | Ich habe den Schlüssel verloren. | Das Zimmer war laut und schmutzig. | Wo ist das Salz?
        | Heute regnet es wieder. | Der Film hat mir sehr gefallen. | Das Brot liegt im Schrank.
        | Niemand geht ans Telefon. | Der Laden öffnet um neun. | Wir haben viel gelacht.
        | Diese Kamera taugt nichts. | Er lernt gerade Schwimmen. | Danke für deine Hilfe.
        | Am Montag ist das Museum zu.""",
    "spanish": """El tren sale a las ocho. | Mi hermano vive cerca del río. | ¡Qué lindo jardín!
        | No encuentro mis llaves. | La sopa estaba fría y salada. | ¿Nos vemos mañana?
        | Llueve desde esta mañana. | Este libro me gustó mucho. | El pan está en la mesa.
        | Nadie contestó mi carta. | La sala abre a mediodía. | Anoche nos reímos bastante.
        | Esta cámara se rompe siempre. | Ella aprende a nadar. | Gracias por las flores.
        | El museo cierra los lunes.""",
    "italian": """Il treno parte alle otto. | Mia zia abita vicino al mare. | Che bel giardino!
        | Non trovo più le chiavi. | La zuppa era fredda e salata. | Ci vediamo domani?
        | Piove da stamattina. | Questo libro mi è piaciuto molto. | Il pane è sul tavolo.
        | Nessuno risponde al telefono. | La sala apre a mezzogiorno. | Ieri abbiamo riso tanto.
        | Questa radio si rompe sempre. | Lei impara a nuotare. | Grazie per i fiori.
        | Il museo è chiuso il lunedì.""",
    "portuguese": """O comboio parte às oito. | A minha tia mora junto ao rio. | Que belo jardim!
        | Não encontro as minhas chaves. | A sopa estava fria e salgada. | Vemo-nos amanhã?
        | Chove desde manhã cedo. | Gostei muito deste livro. | O pão está em cima da mesa.
        | Ninguém respondeu à carta. | A sala abre ao meio-dia. | Ontem rimos bastante.
        | Este rádio avaria sempre. | Ela aprende a nadar depressa. | Obrigado pelas flores.
        | O museu fecha às segundas.""",
    "russian": """Поезд уходит в восемь часов. | Моя сестра живёт у реки. | Какой красивый сад!
        | Я не могу найти ключи. | Суп был холодный и солёный. | Увидимся завтра?
        | С утра идёт дождь. | Эта книга мне очень понравилась. | Хлеб лежит на столе.
        | Никто не ответил на письмо. | Зал открывается в полдень. | Вчера мы много смеялись.
        | Этот телефон всё время ломается. | Она учится плавать. | Спасибо за цветы.
        | Музей закрыт по вторникам.""",
    "japanese": """電車は八時に出ます。 | 妹は川のそばに住んでいます。 | とてもきれいな庭ですね。
        | 鍵が見つかりません。 | スープは冷たくて塩辛かったです。 | また明日会いましょうか。
        | 朝から雨が降っています。 | この本はとても面白かったです。 | パンは机の上にあります。
        | だれも手紙に返事をくれません。 | 店は十時に開きます。 | 昨日はたくさん笑いました。
        | このカメラはすぐ壊れます。 | 彼女は泳ぎを習っています。 | お花をありがとう。
        | 美術館は月曜日が休みです。""",
    "korean": """기차는 여덟 시에 떠나요. | 동생은 강가에 살아요. | 정원이 정말 예쁘네요!
        | 열쇠를 찾을 수가 없어요. | 국이 식고 너무 짰어요. | 내일 만날까요?
        | 아침부터 비가 와요. | 이 책은 아주 재미있었어요. | 빵은 식탁 위에 있어요.
        | 아무도 편지에 답하지 않았어요. | 가게는 열 시에 열어요. | 어제는 많이 웃었어요.
        | 이 전화기는 자꾸 고장 나요. | 누나는 수영을 배워요. | 꽃을 보내 줘서 고마워요.
        | 미술관은 월요일에 쉬어요.""",
    "arabic": """يغادر القطار في الثامنة. | أختي تسكن قرب النهر. | ما أجمل هذه الحديقة!
        | لا أجد مفاتيحي. | كان الحساء باردا ومالحا. | هل نلتقي غدا؟
        | المطر ينزل منذ الصباح. | أعجبني هذا الكتاب كثيرا. | الخبز على الطاولة.
        | لم يرد أحد على رسالتي. | يفتح المحل في العاشرة. | ضحكنا كثيرا أمس.
        | هذا الهاتف يتعطل دائما. | هي تتعلم السباحة. | شكرا على الزهور.
        | المتحف مغلق يوم الاثنين.""",
}  # fmt: skip


def _joined(make: Callable[[], str], least: int, most: int, rng: Rng, between: str = " ") -> str:
    return between.join(make() for _ in range(rng.integers(least, most + 1)))


def _signs(marks: str, n_marks: int, n_runs: int) -> Callable[[Rng], str]:
    """At most n_marks different ones, over and over, in at most n_runs pieces."""

    def draw(rng: Rng) -> str:
        few = rng.choice(list(marks), size=rng.integers(1, n_marks + 1))
        n = int(rng.integers(1, n_runs + 1))

        def run() -> str:
            return _joined(lambda: str(rng.choice(few)), 1, 14 // n, rng, between="")

        return _joined(run, n, n, rng)

    return draw


def _digits(rng: Rng) -> str:
    between = str(rng.choice([" ", "-", "", ".", ":", "/"]))
    return _joined(lambda: str(rng.integers(10 ** rng.integers(1, 7))), 1, 6, rng, between)


def _letters(rng: Rng) -> str:
    return _joined(lambda: _word(((0x61, 0x7A),), 4, 12, rng), 1, 8, rng)


def _mashing(rng: Rng) -> str:
    """Neighbouring keys of one row, back and forth."""

    def run() -> str:
        row = _KEY_ROWS[rng.integers(len(_KEY_ROWS))]
        first, steps = rng.integers(len(row)), rng.integers(-2, 3, size=rng.integers(4, 16))
        return "".join(row[place % len(row)] for place in first + np.cumsum(steps))

    return _joined(run, 1, 4, rng)


def _word(spans: tuple[tuple[int, int], ...], least: int, most: int, rng: Rng) -> str:
    """Letters of a script at random, the spans in turn (letter, vowel sign, letter, ...)."""
    n = int(rng.integers(least, most + 1))
    return "".join(chr(rng.integers(*spans[i % len(spans)], endpoint=True)) for i in range(n))


def _pseudo_words(spans: tuple[tuple[int, int], ...]) -> Callable[[Rng], str]:
    return lambda rng: _joined(lambda: _word(spans, 2, 7, rng), 1, 9, rng)


def _sentences(language: str, part: Part) -> Callable[[Rng], str]:
    """One to three sentences of a language; every fourth of them is for dev alone."""
    every = [" ".join(sentence.split()) for sentence in _SENTENCES[language].split("|")]
    own = [s for i, s in enumerate(every) if (i % 4 == 3) == (part == "dev")]
    return lambda rng: " ".join(rng.permutation(own)[: rng.integers(1, 4)])


def _texts(part: Part) -> dict[str, Callable[[Rng], Any]]:
    return {
        "mark": _signs(_MARKS, 1, 1),
        "marks": _signs(_MARKS, 3, 1),
        "marks-and-gaps": _signs(_MARKS, 5, 4),
        "stops": _signs(_STOPS, 3, 2),
        "digits": _digits,
        "letters": _letters,
        "mashing": _mashing,
        **{script: _pseudo_words(spans) for script, spans in _SCRIPTS.items()},
        **{language: _sentences(language, part) for language in _SENTENCES},
    }


# ---- pictures ----------------------------------------------------------------------------------


def _size(rng: Rng) -> tuple[int, int]:
    height, width = rng.integers(48, 161, size=2)
    return int(height), int(width)


def _to_picture(values: NDArray[Any]) -> Picture:
    """values: of 0 to 255, anything that broadcasts to (H, W, 3)."""
    return np.ascontiguousarray(np.clip(values, 0, 255).astype(np.uint8))


def _black(rng: Rng) -> Picture:
    """Black, or nearly: a level under 8, with or without a sensor's noise."""
    noise = rng.normal(rng.integers(8), rng.choice([0.0, 1.0, 3.0]), (*_size(rng), 1))
    return _to_picture(np.repeat(noise, 3, axis=2))


def _white(rng: Rng) -> Picture:
    return np.asarray(255 - _black(rng))


def _flat(rng: Rng) -> Picture:
    return _to_picture(np.broadcast_to(rng.integers(256, size=3), (*_size(rng), 3)))


def _noise(rng: Rng) -> Picture:
    """White noise, grey or coloured, around a level."""
    channels = int(rng.choice([1, 3]))
    values = rng.normal(rng.uniform(60, 195), rng.uniform(15, 90), (*_size(rng), channels))
    return _to_picture(np.repeat(values, 3 // channels, axis=2))


def _ramp(rng: Rng) -> NDArray[np.float64]:
    """(H, W, 1): the distance along a direction, or from a point, as 0 to 1."""
    height, width = _size(rng)
    y, x = np.mgrid[0:height, 0:width]
    angle = rng.uniform(0, 2 * np.pi)
    far = np.hypot(y - rng.integers(height), x - rng.integers(width))
    along = np.cos(angle) * x + np.sin(angle) * y if rng.random() < 0.6 else far
    return np.asarray((along - along.min()) / np.ptp(along))[..., None]


def _blend(share: NDArray[np.float64], rng: Rng) -> Picture:
    one, two = rng.integers(256, size=(2, 3))
    return _to_picture(one + share * (two - one))


def _gradient(rng: Rng) -> Picture:
    return _blend(_ramp(rng), rng)


def _stripes(rng: Rng) -> Picture:
    """Bars or rings, with soft or hard edges."""
    waves = np.sin(2 * np.pi * rng.uniform(2, 16) * _ramp(rng))
    return _blend(0.5 + 0.5 * (np.sign(waves) if rng.random() < 0.5 else waves), rng)


def _clouds(rng: Rng) -> Picture:
    """A few random colours, blurred into each other."""
    coarse = _to_picture(rng.integers(256, size=(*rng.integers(2, 12, size=2), 3)))
    height, width = _size(rng)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


_PICTURES: dict[str, Callable[[Rng], Any]] = {
    "black": _black,
    "white": _white,
    "flat": _flat,
    "noise": _noise,
    "gradient": _gradient,
    "stripes": _stripes,
    "clouds": _clouds,
}


KINDS: dict[Part, dict[Modality, dict[str, Callable[[Rng], Any]]]] = {
    part: {"text": _texts(part), "image": _PICTURES, "audio": SOUNDS} for part in PARTS
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.base.outliers")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for part, found in write(given.out, seed=given.seed).items():
        sys.stdout.write(f"outliers {part}: {found['rows']:,}\n")


if __name__ == "__main__":
    main()
