"""First stage of the base recipe: the data sets it reads, whose they are, and that they are whole.

Nothing is downloaded: the folder of sets is given, and `verify` says what is missing or changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from moodal.data.rows import fingerprint
from moodal.errors import DataError
from moodal.types import Modality

Part = Literal["train", "dev"]

LABELS = ("negative", "neutral", "positive")
BINARY = ("negative", "positive")


@dataclass(frozen=True, slots=True)
class Set:
    """A data set: a folder of the data folder, one manifest a part, perhaps one folder of media.

    files: part -> manifest, relative to the set's folder.
    columns: moodal's name of a column -> the file's, where they differ; `group` is what folds
        must not cut apart (a speaker, a dialogue). A column that is not named so is not read:
        ravdess and casia say the same sentences in every emotion, so that their words are no text.
    labels: those that occur; BINARY sets have no neutral rows.
    licence, permits: as far as known; see README.md.
    sha256: file, or folder ending in `/`, relative to the set's folder -> hash (see `hash_of`).
    """

    name: str
    files: Mapping[Part, str]
    modalities: tuple[Modality, ...]
    languages: tuple[str, ...]
    source: str
    licence: str
    permits: str
    sha256: Mapping[str, str]
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = LABELS


_CSV: Mapping[Part, str] = {"train": "train.csv", "dev": "dev.csv"}
_PARQUET: Mapping[Part, str] = {"train": "train.parquet", "dev": "dev.parquet"}
_RESEARCH = "research and teaching"
_SHARE_ALIKE = "any use that is not commercial, with credit, under the same licence"
_UNKNOWN = "nothing stated: ask the authors for anything but research"

SETS: tuple[Set, ...] = (
    Set(
        name="mvsa-single",
        files=_CSV,
        modalities=("text", "image"),
        languages=("en",),
        source="MVSA-Single: Niu, Zhu, Pang, El Saddik. Sentiment Analysis on Multi-View Social "
        "Data. MMM 2016",
        licence="research use; the tweets are under Twitter's terms",
        permits=_RESEARCH,
        sha256={
            "train.csv": "81340d3a19af0623392186455c904881513e97870da7aa89c75c06a9f054cf09",
            "dev.csv": "5e19aa89ca39b5bcb67497ca14da5e97c8cf0507d80bb68eb6be2c923b3aa1c1",
            "images/": "04314bf7433cf3ea4254af0904c5745a85c6bf02f089f2e71fbe8b90053d23ba",
        },
    ),
    Set(
        name="oasis",
        files={"train": "train.csv"},
        modalities=("text", "image"),
        languages=("en",),
        source="OASIS: Kurdi, Lozano, Banaji. Introducing the Open Affective Standardized Image "
        "Set. Behavior Research Methods 49, 2017. Labels are cut from its valence",
        licence="free for research",
        permits=_RESEARCH,
        sha256={
            "train.csv": "174e9541b324f1f5f5a77df53b5af0459715f69baa7b990d026db240c400b731",
            "images/": "5617f26d578b0557c068fa31e9970b09cd922169bd78ab0733bdff6d830780ef",
        },
    ),
    Set(
        name="fer2013",
        files=_PARQUET,
        modalities=("image",),
        languages=(),
        source="FER-2013: Goodfellow et al. Challenges in Representation Learning: a report on "
        "three machine learning contests. ICONIP 2013",
        licence="research use (the terms of the contest); pictures found on the web",
        permits=_RESEARCH,
        sha256={
            "train.parquet": "d58c3932aa8c8bc3632eedc4279e422550dad0900f0898fbff87d5cf0c170c36",
            "dev.parquet": "ce2d1187fe6af67d490e3ae156cc61e0845054bce2eba088e89704093a25f2c2",
        },
    ),
    Set(
        name="ravdess",
        files=_CSV,
        columns={"group": "speaker"},
        modalities=("audio",),
        languages=("en",),
        source="RAVDESS: Livingstone, Russo. The Ryerson Audio-Visual Database of Emotional "
        "Speech and Song. PLoS ONE 13(5), 2018. Speech, actors 1 to 20",
        licence="CC BY-NC-SA 4.0",
        permits=_SHARE_ALIKE,
        sha256={
            "train.csv": "d464d387ad378356364489163f8818331ac2f62032b86a07e6b11faa58981ec0",
            "dev.csv": "af634a55e29c0ff8911629ddf64d3b950929ac779424f966935f574d873a9505",
            "audio/": "2de939bb3275378f14b16423571351156c1df60e67f88c79cdc557e6029ab177",
        },
    ),
    Set(
        name="casia",
        files={"train": "train.csv"},
        columns={"group": "speaker"},
        modalities=("audio",),
        languages=("zh",),
        source="CASIA Chinese emotional speech corpus, Institute of Automation, Chinese Academy "
        "of Sciences; no paper or year known to us",
        licence="research use",
        permits=_RESEARCH,
        sha256={
            "train.csv": "005389f81bb5d898cb5cfd2c971b9fe4ab1e75d1d7d3471d615282db864d476f",
            "audio/": "ab5d41ad693524f1b8eaa0e8990fc31de9d7345876c979acb4583f9f0b652abe",
        },
    ),
    Set(
        name="semeval2017",
        files=_PARQUET,
        modalities=("text",),
        languages=("en",),
        source="SemEval-2017 Task 4 A: Rosenthal, Farra, Nakov. Sentiment Analysis in Twitter. "
        "SemEval 2017",
        licence="Twitter's terms",
        permits=_RESEARCH,
        sha256={
            "train.parquet": "25c3060089ab72437d993a73d2238ed8a1c9c941dae45b2938e22d8faf86327a",
            "dev.parquet": "99db7b47cb81429380dc32438429b0f1bc2faaabfaad1dfd732d36c4546c766d",
        },
    ),
    Set(
        name="sst2",
        files=_PARQUET,
        modalities=("text",),
        languages=("en",),
        labels=BINARY,
        source="SST-2, whole sentences: Socher et al. Recursive Deep Models for Semantic "
        "Compositionality over a Sentiment Treebank. EMNLP 2013",
        licence="research use",
        permits=_RESEARCH,
        sha256={
            "train.parquet": "bf95957438ff6a75ad67b4d52364d95572b671b4cc6f8fd8a08e7b4e86ad2f16",
            "dev.parquet": "e2b254cae7c30070cf25f3f9ff0260520e6002f1cf995875c1543657a5e073e9",
        },
    ),
    Set(
        name="goemotions",
        files=_PARQUET,
        modalities=("text",),
        languages=("en",),
        source="GoEmotions: Demszky et al. GoEmotions: a Dataset of Fine-Grained Emotions. "
        "ACL 2020",
        licence="Apache-2.0",
        permits="any use, with the licence's notice",
        sha256={
            "train.parquet": "d48ffbd7267c89672db240136996266bd273b7ebd27a238b46ea859ab3c885d0",
            "dev.parquet": "ab46f1403752d5994a40538a179353825fad9254f1cb49fa1de04d24d8760168",
        },
    ),
    Set(
        name="meld-text",
        files=_PARQUET,
        columns={"group": "dialogue"},
        modalities=("text",),
        languages=("en",),
        source="MELD: Poria et al. MELD: a Multimodal Multi-Party Dataset for Emotion Recognition "
        "in Conversations. ACL 2019. The words alone",
        licence="GPL-3.0; the dialogue is a television series'",
        permits="any use; what is derived from it and passed on, under the same licence",
        sha256={
            "train.parquet": "63590f821e501d33de5659e44ce860e2a34022494d7be4870d4a89a46d07b20c",
            "dev.parquet": "4baa2c77c816fbfe80518309978da30afd070f74e25444503aafb165958b6f9a",
        },
    ),
    Set(
        name="chnsenticorp",
        files=_PARQUET,
        modalities=("text",),
        languages=("zh",),
        labels=BINARY,
        source="ChnSentiCorp: Tan, Zhang. An empirical study of sentiment analysis for Chinese "
        "documents. Expert Systems with Applications 34, 2008",
        licence="research use",
        permits=_RESEARCH,
        sha256={
            "train.parquet": "01de7e8e522d17f69b889751d63f80b39faab312e2fb0033339332753942bdd2",
            "dev.parquet": "86d6e9e65a90d44b3fc992a7e3e86fd86d8f22966b36e74a9f71662f3a56bae2",
        },
    ),
    Set(
        name="waimai",
        files=_PARQUET,
        modalities=("text",),
        languages=("zh",),
        labels=BINARY,
        source="waimai_10k, of the collection ChineseNlpCorpus: reviews of a delivery service; no "
        "paper",
        licence="none stated",
        permits=_UNKNOWN,
        sha256={
            "train.parquet": "a9a843d1cad1ff5285fdc79145c4cc8634333ee1ffa1cb7fd13ece94bc9034aa",
            "dev.parquet": "79a7d0584cea0f864bdc1d3e63a9390452dad2f5e26afd3147bd4342ee57bd8d",
        },
    ),
    Set(
        name="online-shopping",
        files={"train": "train.parquet"},
        columns={"group": "category"},
        modalities=("text",),
        languages=("zh",),
        labels=BINARY,
        source="online_shopping_10_cats, of the collection ChineseNlpCorpus: reviews of ten kinds "
        "of goods; no paper",
        licence="none stated",
        permits=_UNKNOWN,
        sha256={
            "train.parquet": "9365d7cd5cebe9eeecdb3ca871504dfe261258c52ada69e652765e2c561117f7",
        },
    ),
    Set(
        name="smp2020-ewect",
        files=_PARQUET,
        modalities=("text",),
        languages=("zh",),
        source="SMP2020-EWECT: the shared task on the emotion of Weibo posts, Conference on "
        "Social Media Processing 2020",
        licence="data of a shared task",
        permits=_RESEARCH,
        sha256={
            "train.parquet": "471ad81730dfea9b5cf912bf2800cb3b06aa369cd72afe62ed1e2ab174d37f4c",
            "dev.parquet": "42d7d49bf0608dcb9b69f8c7027c36362fd7a6e333e2214f5f37ed62bad127a1",
        },
    ),
    Set(
        name="emotiontalk-text",
        files=_PARQUET,
        columns={"group": "dialogue"},
        modalities=("text",),
        languages=("zh",),
        source="EmotionTalk: Sun et al. EmotionTalk: an Interactive Chinese Multimodal Emotion "
        "Dataset With Rich Annotations. arXiv 2505.23018, 2025. The words alone",
        licence="CC BY-NC-SA 4.0",
        permits=_SHARE_ALIKE,
        sha256={
            "train.parquet": "dfd0ea8fd272c6e28d7cca89212799add5420d0674cc07e8989b7b3dfc29e0a5",
            "dev.parquet": "e219af4d0927b2c188cae041c160a100ecb07467d483be56e7349abb95e1e616",
        },
    ),
)


def among(name: str, probabilities: Mapping[str, float]) -> dict[str, float]:
    """Probabilities of LABELS as those of a set's own labels alone, in proportion."""
    own = next(given.labels for given in SETS if given.name == name)
    whole = sum(probabilities[label] for label in own)
    return {label: round(float(probabilities[label] / whole), 4) for label in own}


def verify(data: Path, *, sets: Sequence[Set] = SETS) -> None:
    """Check that every set is there, whole and unchanged. data: the folder that holds the sets.

    Raises: DataError, naming the first file that is missing or not the one the recipe was made for.
    """
    for given in sets:
        if not (data / given.name).is_dir():
            raise DataError(
                f"{data}: has no folder {given.name!r}; the recipe needs it ({given.source}): put "
                "it there, or take the set out of recipes/base/sets.py"
            )
        for name, wanted in given.sha256.items():
            path = data / given.name / name
            found = hash_of(path)
            if found != wanted:
                raise DataError(
                    f"{path}: is not what the recipe was made for (its SHA-256 is {found[:12]}..., "
                    f"not {wanted[:12]}...); restore it, or, if the change is meant, write the new "
                    f"hash, {found}, in recipes/base/sets.py"
                )


def hash_of(path: Path) -> str:
    """The SHA-256 of a file; of a folder, that of the lines `path TAB hash` of all files below.

    The lines are sorted by path, which is relative to the folder. Raises: DataError.
    """
    if not path.is_dir():
        return fingerprint(path)
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    lines = (f"{name}\t{fingerprint(files[name])}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
