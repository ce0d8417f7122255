"""What is written is read again, alike in both databases; every order and count worked by hand."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from moodal.errors import DataError
from moodal.store import journal, questions
from moodal.store.journal import Count, Journal, Latency
from moodal.store.rows import Alert, Event, Served
from tests.store.samples import NOON, judgement, served


def numbers(rows: object) -> list[int]:
    """The numbers of answers, or of answers in pairs."""
    return [int((row[0] if isinstance(row, tuple) else row).id, 16) for row in rows]  # type: ignore[attr-defined]


def test_an_answer_is_read_as_it_was_written(book: Journal) -> None:
    row = served(
        1,
        at=NOON + 1 / 3,
        source="stream",
        caller="商店",
        label="喜悦 👍",
        said="很好",
        confidence=1 / 3,
        probabilities={"喜悦 👍": 1 / 3, "b": 2 / 3},
        modalities="text+image+audio",
        contributions={"text": 1e-300, "image": -0.1},
        abstain=True,
        reason="unsure",
        measures={"text.length": 12.0, "audio.loudness_db": -1e300},
        inputs={"text": "ab" * 32},
        surprise=0.5,
    )
    number = served(2, label=None, value=-1 / 3, probabilities={}, confidence=0.0)
    book.add([row, number])
    assert book.find(row.id) == row
    assert list(book.served()) == [row, number]


def test_what_is_not_there_is_not_found(book: Journal) -> None:
    for id in ("0" * 32, "", "a\0b", "'; DROP TABLE predictions; --", "\ud800"):
        assert book.find(id) is None
    book.add([])
    assert list(book.served()) == []


def test_an_answer_that_comes_twice_is_one_answer(book: Journal) -> None:
    book.add([served(1), served(2)])
    book.add([served(2, label="negative"), served(3)])
    assert list(book.served()) == [served(1), served(2), served(3)]
    book.add([served(4), served(4)])
    assert len(list(book.served())) == 4


def test_what_no_database_holds_is_written_without_it(book: Journal) -> None:
    book.add(
        [
            served(
                1,
                caller="a\0b\ud800",
                value=math.nan,
                confidence=math.inf,
                surprise=math.nan,
                measures={"a": math.nan, "b": math.inf, "c": 1.0},
            )
        ]
    )
    found = book.find(served(1).id)
    assert found is not None
    assert (found.caller, found.value, found.confidence, found.surprise) == (
        "a\ufffdb?",
        None,
        0,
        0,
    )
    assert found.measures == {"c": 1.0}


def test_text_that_looks_like_sql_is_text(book: Journal) -> None:
    nasty = "'); DROP TABLE predictions; -- %s ? :x %(x)s \\"
    book.add([served(1, label=nasty, caller=nasty)])
    book.judge(judgement(1, 1, label=nasty, comment=nasty))
    ((row, said),) = book.judged()
    assert (row.label, said.label, said.comment) == (nasty, nasty, nasty)


def test_answers_come_in_order_of_time_whatever_their_order_of_writing(book: Journal) -> None:
    book.add([served(3), served(1), served(2, at=NOON + 3)])
    assert numbers(book.served()) == [1, 2, 3]


def test_a_span_takes_its_beginning_and_leaves_its_end(book: Journal) -> None:
    book.add([served(n) for n in range(5)])
    assert numbers(book.served(since=NOON + 1, until=NOON + 3)) == [1, 2]


def test_answers_of_one_model_alone(book: Journal) -> None:
    book.add([served(1), served(2, model="other"), served(3)])
    assert numbers(book.served(model="other")) == [2]


@pytest.mark.parametrize("n", [0, 1, 3, 4, 7])
def test_pages_join_without_a_seam(book: Journal, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_PAGE", 3)
    rows = [served(i, at=NOON + i // 5) for i in range(n)]
    book.add(rows)
    for i in range(n):
        book.judge(judgement(i, i, at=NOON + i // 5))
    assert numbers(book.served()) == list(range(n))
    assert numbers(book.judged()) == list(range(n))
    assert book.forget(NOON + 100) == n
    assert list(book.served()) == []


def test_a_judgement_of_nothing_is_refused(book: Journal) -> None:
    with pytest.raises(DataError, match=r"there is no prediction '0{31}1'; give the prediction_id"):
        book.judge(judgement(1, 1))
    assert list(book.judged()) == []


def test_a_judgement_that_comes_twice_is_one(book: Journal) -> None:
    book.add([served(1)])
    book.judge(judgement(1, 1, label="negative"))
    book.judge(judgement(1, 1, label="negative"))
    assert list(book.judged()) == [(served(1), judgement(1, 1, label="negative"))]


def test_the_latest_judgement_counts_and_a_reviewer_over_all_users(book: Journal) -> None:
    book.add([served(n) for n in (1, 2, 3)])
    said = [
        judgement(1, 1),
        judgement(2, 1, label="negative"),  # the same user thought again
        judgement(3, 2, by="reviewer"),
        judgement(4, 2, label="negative"),  # a user after the reviewer
        judgement(5, 3, by="reviewer"),
        judgement(6, 3, by="reviewer", label="negative"),
    ]
    for one in said:
        book.judge(one)
    assert [one for _, one in book.judged()] == [said[1], said[2], said[5]]
    assert [one for _, one in book.judged(reviewed=True)] == [said[2], said[5]]
    since, until = said[2].at, said[5].at
    assert [one for _, one in book.judged(since=since, until=until)] == [said[2]]


def test_the_queue_has_the_least_certain_first(book: Journal) -> None:
    for n, confidence in enumerate([0.9, 0.5, 0.7, 0.5]):
        book.add([served(n, confidence=confidence)])
    assert numbers(book.review("uncertain", limit=9)) == [3, 1, 2, 0]  # of equals, the newest
    assert numbers(book.review("uncertain", limit=2)) == [3, 1]


def test_the_queue_has_first_what_a_user_disputes_then_modalities_at_odds(book: Journal) -> None:
    shares = [
        {"text": 0.5},  # nothing against: 0
        {"text": 0.5, "image": -0.125},  # 0.125
        {"text": 0.25, "image": 0.25, "audio": -0.375},  # 0.375
        {"text": -0.25, "image": -0.25},  # all against the prior, none for: 0
        {"text": 0.125, "image": -0.5},  # no more than is for it: 0.125
    ]
    book.add([served(n, contributions=share) for n, share in enumerate(shares)])
    assert numbers(book.review("disagreeing", limit=9)) == [2, 4, 1, 3, 0]
    book.judge(judgement(1, 0, label="negative"))
    book.judge(judgement(2, 3, label="positive"))  # agrees with the answer
    assert numbers(book.review("disagreeing", limit=9)) == [0, 2, 4, 1, 3]
    book.judge(judgement(3, 0, label="positive"))  # thought again
    assert numbers(book.review("disagreeing", limit=9)) == [2, 4, 1, 3, 0]


def test_a_number_is_disputed_by_another_number(book: Journal) -> None:
    book.add([served(n, label=None, value=1.5) for n in (1, 2, 3)])
    book.judge(judgement(1, 1, label="1.5"))
    book.judge(judgement(2, 2, label="1.6"))
    book.judge(judgement(3, 3, label="not at all"))
    assert numbers(book.review("disagreeing", limit=2)) == [3, 2]


def test_a_text_is_disputed_by_another_text(book: Journal) -> None:
    book.add([served(n, label=None, said="a b") for n in (1, 2)])
    book.judge(judgement(1, 1, label="a c"))
    book.judge(judgement(2, 2, label="a b"))
    assert numbers(book.review("disagreeing", limit=1)) == [1]


def test_the_queue_has_the_most_surprising_of_the_newest_first(
    book: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "NEWEST", 3)
    for n, surprise in enumerate([1.0, 0.25, 0.75, 0.25]):
        book.add([served(n, surprise=surprise)])
    assert numbers(book.review("drifted", limit=9)) == [2, 3, 1]


def test_the_queue_has_the_newest_first(book: Journal) -> None:
    book.add([served(n) for n in (2, 3, 1)])
    assert numbers(book.review("newest", limit=9)) == [3, 2, 1]


def test_what_a_reviewer_judged_leaves_the_queue_and_what_a_user_said_stays_beside_it(
    book: Journal,
) -> None:
    book.add([served(n) for n in (1, 2, 3)])
    book.judge(judgement(1, 1, by="reviewer"))
    book.judge(judgement(2, 2))
    book.judge(judgement(3, 2, label="negative"))
    assert book.review("newest", limit=9) == [
        (served(3), None),
        (served(2), judgement(3, 2, label="negative")),
    ]


def test_answers_to_nothing_are_not_queued(book: Journal) -> None:
    book.add([served(1), served(2, modalities="", reason="empty")])
    assert numbers(book.review("uncertain", limit=9)) == [1]


def test_the_queue_of_what_can_be_shown(book: Journal) -> None:
    book.add([served(1), served(2, inputs={"text": "ab" * 32})])
    assert numbers(book.review("newest", limit=9, kept=True)) == [2]


@pytest.mark.parametrize("order", ["uncertain", "disagreeing", "drifted", "newest"])
def test_the_queue_goes_on_after_the_last_one_seen(book: Journal, order: questions.Order) -> None:
    halves = [n % 3 / 2 for n in range(7)]  # equal keys, too
    rows = [
        served(n, confidence=h, surprise=h, contributions={"text": 1.0, "image": -h})
        for n, h in enumerate(halves)
    ]
    book.add(rows)
    book.judge(judgement(1, 4, label="negative"))
    whole = book.review(order, limit=9)
    pages, after = [], None
    while page := book.review(order, limit=2, after=after):
        pages += page
        after = page[-1][0].id
    assert pages == whole
    assert len(whole) == 7


def test_the_queue_goes_on_though_the_last_one_seen_has_left_it(book: Journal) -> None:
    book.add([served(n) for n in range(4)])
    book.judge(judgement(1, 2, by="reviewer"))
    assert numbers(book.review("newest", limit=9, after=served(2).id)) == [1, 0]
    book.forget(NOON + 1)
    assert numbers(book.review("newest", limit=9, after=served(0).id)) == [3, 1]  # from the start


def test_what_happened_to_models_is_kept_newest_first(book: Journal) -> None:
    numbers = {"better": 0.95, "slices": {"zh": [0.8, 0.9]}, "worst": None}
    events = [
        Event("a" * 32, NOON, "served", "0123456789ab", "base", {}),
        Event("b" * 32, NOON + 1, "promoted", "ba9876543210", "新模型", numbers),
    ]
    for event in events:
        book.record(event)
    book.record(events[0])
    assert book.events() == events[::-1]
    assert book.events(1) == events[1:]


def alert(value: float, **changes: object) -> Alert:
    values = {"id": f"{value:.2f}", "name": "drift:text", "raised": NOON, "cleared": None}
    return Alert(**values | {"value": value, "limit": 0.25, "sentence": f"{value}"} | changes)  # type: ignore[arg-type]


def test_an_alert_lasts_from_its_first_to_its_clearing(book: Journal) -> None:
    assert book.raise_alert(alert(0.5, sentence_zh="变了")) == alert(0.5, sentence_zh="变了")
    worse = book.raise_alert(alert(0.75, raised=NOON + 1))
    assert worse == alert(0.75, id="0.50")  # its beginning, and the worst since
    assert book.raise_alert(alert(0.3, raised=NOON + 2)) == worse
    other = book.raise_alert(alert(0.6, name="drift:audio", raised=NOON + 3))
    assert book.alerts(open_only=True) == [other, worse]
    assert book.clear_alert("drift:text", NOON + 4)
    assert not book.clear_alert("drift:text", NOON + 5)
    assert book.alerts(open_only=True) == [other]
    again = book.raise_alert(alert(0.4, raised=NOON + 6))
    assert book.alerts() == [again, other, alert(0.75, id="0.50", cleared=NOON + 4)]
    assert book.alerts(limit=1) == [again]


def test_an_alert_under_its_limit_worsens_downwards(book: Journal) -> None:
    book.raise_alert(alert(0.2, limit=0.8))
    assert book.raise_alert(alert(0.1, limit=0.8)).value == 0.1
    assert book.raise_alert(alert(0.7, limit=0.8)).value == 0.1


def test_counts_by_hand(book: Journal) -> None:
    kind = {"model": "m", "label": "positive", "modalities": "text", "language": "en"}
    book.add(
        [
            served(0, model="m", confidence=0.5),
            served(9, model="m", confidence=1.0),
            served(10, model="m"),
            served(19, model="m", label=None, abstain=True),
            served(29, model="m"),
            served(30, model="m"),  # the span has ended
        ]
    )
    found = book.counts(since=NOON, until=NOON + 30, bucket=10)
    assert [count.at for count in found] == [NOON, NOON + 10, NOON + 10, NOON + 20]
    assert set(found) == {
        Count(NOON, **kind, abstained=False, n=2, confidence=0.75),
        Count(NOON + 10, **kind, abstained=False, n=1, confidence=0.75),
        Count(NOON + 10, **kind | {"label": None}, abstained=True, n=1, confidence=0.75),
        Count(NOON + 20, **kind, abstained=False, n=1, confidence=0.75),
    }


def test_latencies_by_hand(book: Journal) -> None:
    # Nearest rank: of 100, the 50th and the 99th; of 3, the 2nd and the 3rd; of 1, the only one.
    book.add([served(n, at=NOON, seconds=(n * 7 % 100 + 1) / 1000) for n in range(100)])
    book.add([served(100 + n, at=NOON + 10 + n, seconds=n + 1.0) for n in range(3)])
    book.add([served(200, at=NOON + 29.999, seconds=5.0)])
    assert book.latencies(since=NOON, until=NOON + 30, bucket=10) == [
        Latency(NOON, 0.050, 0.099),
        Latency(NOON + 10, 2.0, 3.0),
        Latency(NOON + 20, 5.0, 5.0),
    ]


def test_what_was_answered_and_said_before_a_time_is_forgotten(book: Journal) -> None:
    book.add([served(n) for n in range(4)])
    for n in range(4):
        book.judge(judgement(n, n))
    book.record(Event("a" * 32, NOON - 1, "served", "0123456789ab", "base", {}))
    assert book.forget(NOON + 2) == 2
    assert numbers(book.served()) == [2, 3]
    assert numbers(book.judged()) == [2, 3]
    assert len(book.events()) == 1
    assert book.forget(NOON + 2) == 0
    book.add([served(0)])  # what was said of it then is not remembered
    assert numbers(book.judged()) == [2, 3]


def test_threads_share_a_journal(book: Journal) -> None:
    def work(n: int) -> Served | None:
        book.add([served(n)])
        book.judge(judgement(n, n))
        return book.find(served(n).id)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(100))) == [served(n) for n in range(100)]
    assert len(list(book.judged())) == 100


def test_answers_written_while_others_are_read_are_no_bother(
    book: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_PAGE", 2)
    book.add([served(n) for n in range(4)])
    rows = book.served()
    seen = [next(rows)]
    book.add([served(9)])
    book.forget(NOON + 2)
    seen += rows
    assert numbers(seen) == [0, 1, 2, 3, 9]
