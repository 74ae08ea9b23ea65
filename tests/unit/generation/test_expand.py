"""New prompts: new indeed, of known origin, of the wanted kinds, and the same at every resumption."""

from collections import Counter

import pytest
from scripted import Scripted, open_ledger, row, seat

from potstill.generation.balance import kinds, shortfalls, surplus
from potstill.generation.expand import Expansion, Wish, wishes_of
from potstill.models.budget import Budget, Caps
from potstill.records import Message
from potstill.spec.sections import BalanceSpec, ExpandSpec, TaskSpec
from potstill.store.atomic import fingerprint
from potstill.store.events import EventLog
from potstill.tasks import build_task

NLI = build_task(TaskSpec(type="nli", labels=("yes", "no", "maybe")))
ROWS = [row(f"Question number {n} about the weather in town {n}?", "yes" if n % 4 else "no", number=n, tags=("a",)) for n in range(8)]


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path) as opened:
        yield opened


def expand(ledger, teacher, spec, rows=ROWS, repeats=lambda _: False):
    wishes = wishes_of(spec, rows, kinds(NLI)[spec.by])
    return Expansion(seat(teacher), spec, ledger, EventLog(), Budget(Caps())).write(wishes, rows, repeats, threshold=0.8)


def invent():
    """A teacher that never writes the same twice."""
    written = Counter()

    def answer(request):
        written["prompts"] += 1
        return f"Wholly new request {written['prompts']} on subject {written['prompts'] * 7} please, kind stranger {written['prompts']}"

    return Scripted(answer)


def test_a_paraphrase_keeps_gold_group_and_tags_of_the_row_that_it_was_made_from(ledger):
    fresh = expand(ledger, invent(), ExpandSpec(rows=3))
    by_id = {known.id: known for known in ROWS}
    assert len(fresh) == 3
    for new in fresh:
        seed = by_id[new.source]
        assert (new.reference, new.group, new.tags) == (seed.reference, seed.id, seed.tags)
        assert new.messages[0] == seed.messages[0]
        assert new.id.startswith(f"{seed.id}~paraphrase-")


def test_what_nearly_equals_a_known_or_a_new_prompt_is_left_out(ledger):
    assert expand(ledger, Scripted(lambda _: ROWS[0].messages[-1].content + " "), ExpandSpec(rows=3)) == []
    assert len(expand(ledger, Scripted(lambda _: "The very same new request each time, word by word", "same"), ExpandSpec(rows=3))) == 1


def test_what_stands_in_another_split_is_left_out(ledger):
    assert expand(ledger, invent(), ExpandSpec(rows=3), repeats=lambda _: True) == []


def test_written_again_the_rows_are_the_same_and_nobody_is_asked(ledger):
    teacher = invent()
    first = expand(ledger, teacher, ExpandSpec(rows=4))
    asked = len(teacher.asked)
    assert expand(ledger, teacher, ExpandSpec(rows=4)) == first
    assert len(teacher.asked) == asked


def test_rare_kinds_are_topped_up_and_their_answers_are_left_open(ledger):
    teacher = invent()
    fresh = expand(ledger, teacher, ExpandSpec(rows=4, how="rare"))
    assert {{known.id: known for known in ROWS}[new.source].reference for new in fresh} == {("no",)}
    assert all(new.reference == () for new in fresh)
    shown = teacher.asked[0].messages[-1].content
    assert shown.count("---") == 2  # both rows of that label


def test_wishes_bring_the_rarest_kinds_level():
    many = [row("x", label, number=n) for n, label in enumerate(["yes"] * 5 + ["no"] * 2 + ["maybe"])]
    wishes = wishes_of(ExpandSpec(rows=7, how="rare"), many, kinds(NLI)["label"])
    assert {wish.kind: wish.count for wish in wishes} == {"maybe": 4, "no": 3}


def test_sampling_down_leaves_every_kind_with_no_more_than_wanted():
    pairs = [(f"r{n}", "a" if n % 4 else "b") for n in range(40)]
    left_out = surplus(pairs, BalanceSpec(by="label", to="fewest"))
    kept = Counter(kind for identity, kind in pairs if identity not in left_out)
    assert kept == {"a": 10, "b": 10}
    assert surplus(reversed(pairs), BalanceSpec(by="label", to="fewest")) == left_out
    assert surplus(pairs, BalanceSpec(by="label", to=100)) == frozenset()


def test_shortfalls_are_what_the_kinds_lack():
    rows = [row("x", label, number=n) for n, label in enumerate(["yes"] * 5 + ["no"] * 2)]
    [wish] = shortfalls(rows, BalanceSpec(by="label", to=5), kinds(NLI)["label"])
    assert (wish.kind, wish.count, len(wish.rows)) == ("no", 3, 2)
    assert isinstance(wish, Wish)


@pytest.mark.parametrize(
    ("text", "language"), [("Wie wird das Wetter morgen in der Stadt?", "de"), ("What will the weather be like tomorrow?", "en")]
)
def test_the_language_is_the_prompt_s(text, language):
    assert kinds(NLI)["language"](row(text)) == language


def test_a_harder_row_has_another_answer(ledger):
    assert all(new.reference == () for new in expand(ledger, invent(), ExpandSpec(rows=2, how="harder")))


def test_in_a_conversation_the_last_user_turn_is_written_anew(ledger):
    turns = (Message("user", "Hello there"), Message("assistant", "Hello"), Message("user", "What is the fee for a parcel?"))
    [new] = expand(ledger, invent(), ExpandSpec(rows=1), rows=[row("x").__class__("c", turns)])
    assert new.messages[:2] == turns[:2]
    assert new.messages[2].content.startswith("Wholly new request")


def test_in_a_conversation_that_ends_with_an_answer_the_history_stays_and_the_answer_goes(ledger):
    turns = (Message("system", "Be kind."), Message("user", "Hello"), Message("assistant", "Hello"), Message("user", "What is the fee?"))
    [new] = expand(ledger, invent(), ExpandSpec(rows=1), rows=[row("x").__class__("c", (*turns, Message("assistant", "Two.")))])
    assert new.messages[:-1] == turns[:-1]
    assert new.messages[-1].role == "user"
    assert new.messages[-1].content.startswith("Wholly new request")


def seeded(request):
    """What a teacher says that draws by seed: the same to the same question whenever it is asked."""
    drawn = fingerprint([request.messages[-1].content, request.sampling.seed + request.sample])
    return " ".join(drawn[start : start + 4] for start in range(0, 48, 4))


def test_a_second_pass_over_the_same_rows_writes_other_prompts_and_gives_no_id_twice(ledger):
    teacher = Scripted(seeded)

    def both():
        known = list(ROWS)
        for name in ("", "even"):
            writer = Expansion(seat(teacher), ExpandSpec(rows=10, how="rare"), ledger, EventLog(), Budget(Caps()), name=name)
            fresh = writer.write([Wish(10, tuple(ROWS))], known, lambda _: False, threshold=0.8)
            assert len(fresh) == 10
            known += fresh
        return known

    written = both()
    assert len({row.id for row in written}) == len(ROWS) + 20
    asked = len(teacher.asked)
    assert both() == written
    assert len(teacher.asked) == asked


def test_rows_of_no_kind_stay_and_do_not_count():
    pairs = [("bare", ""), *((f"r{n}", "a" if n % 4 else "b") for n in range(12))]
    left_out = surplus(pairs, BalanceSpec(by="tag", to="fewest"))
    assert "bare" not in left_out
    assert Counter(kind for identity, kind in pairs if identity not in left_out) == {"": 1, "a": 3, "b": 3}
