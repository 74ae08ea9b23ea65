"""A teacher's examination, the pilot, and what is said of the rows."""

import pytest
from scripted import Scripted, interview, open_ledger, row, seat

from potstill.errors import ModelError
from potstill.generation.describe import Description, diversity
from potstill.generation.pilot import fly_pilot
from potstill.generation.qualify import Examination
from potstill.models.budget import Budget, Caps
from potstill.models.throttle import Limits, Throttle
from potstill.records import Cost
from potstill.spec.sections import GatesSpec, PilotSpec, QualifySpec, TaskSpec
from potstill.store.events import EventLog, Noticed
from potstill.tasks import build_task

LABELS = ("yes", "no")
NLI = build_task(TaskSpec(type="nli", labels=LABELS))
GOLD = [row(f"q{n}", "yes" if n % 2 else "no", number=n) for n in range(20)]


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path) as opened:
        yield opened


def examine(ledger, teacher, rows, **spec):
    return Examination(interview(NLI, ledger, seat(teacher)), LABELS, EventLog(), Budget(Caps())).qualify(rows, QualifySpec(**spec))


def test_the_score_is_the_task_s_own_on_rows_with_references(ledger):
    [grade] = examine(ledger, Scripted(lambda _: "yes"), GOLD)
    assert (grade.value, grade.n) == (0.5, 20)
    assert 0.2 < grade.low < 0.5 < grade.high < 0.8


def test_a_teacher_below_the_threshold_stops_the_run(ledger):
    with pytest.raises(ModelError, match=r"Accuracy 0\.500 .*below `generation\.qualify\.min_score` \(0\.6\)"):
        examine(ledger, Scripted(lambda _: "yes"), GOLD, min_score=0.6)


def test_without_references_a_teacher_is_held_against_itself(ledger):
    bare = [row(f"q{n}", number=n) for n in range(20)]
    [steady] = examine(ledger, Scripted(lambda _: "yes", "steady"), bare)
    assert (steady.what, steady.value) == ("agreement", 1.0)
    fickle = Scripted(lambda request: "no" if request.sampling.seed else "yes", "fickle")
    with pytest.raises(ModelError, match="min_agreement"):
        examine(ledger, fickle, bare, min_agreement=0.9)


def test_unparsable_answers_are_wrong(ledger):
    [grade] = examine(ledger, Scripted(lambda request: "yes" if request.messages[-1].content == "q1" else "dunno"), GOLD)
    assert grade.value == 1 / 20


class Bought(Scripted):
    """A scripted teacher that is behind an endpoint."""

    address, max_attempts, backoff_s, samples_a_call = "http://x", 1, 0.001, 1

    def __init__(self, answer):
        super().__init__(answer)
        self.throttle = Throttle("x", Limits())

    def most(self, request):
        return Cost(1, 10, 0.25)

    def likely(self, request):
        return 5


def pilot(ledger, teacher, known, notices, **spec):
    log = EventLog(listeners=(notices.append,))
    return fly_pilot(interview(NLI, ledger, seat(teacher)), known, PilotSpec(**spec), log, Budget(Caps()))


def test_a_pilot_tells_what_an_accepted_row_costs(ledger):
    notices = []
    teacher = Bought(lambda request: "yes" if request.messages[-1].content != "q1" else "hm")
    result = pilot(ledger, teacher, GOLD, notices, rows=4)
    assert (result.rows, result.kept, result.dollars_per_kept) == (4, 3, 1.0 / 3)
    assert len(teacher.asked) == 4
    [said] = [event.text for event in notices if isinstance(event, Noticed)]
    assert said == "pilot: 3 of 4 rows pass the gates, $0.3333 an accepted row, so about $5.00 for all 20"


def test_a_pilot_counts_every_call_of_a_row(ledger):
    teacher, marker = Bought(lambda _: "yes"), Scripted(lambda _: "Mark: 9", "judge")
    talks = interview(NLI, ledger, seat(teacher), judge=seat(marker), gates=GatesSpec(judge=0.5))
    result = fly_pilot(talks, GOLD, PilotSpec(rows=4), EventLog(), Budget(Caps()))
    asked = len(teacher.asked) + len(marker.asked)
    assert len(marker.asked) > 0
    assert result.dollars == 0.25 * asked


def test_a_pilot_that_fails_stops_before_the_rest_is_bought(ledger):
    teacher = Bought(lambda _: "hm")
    with pytest.raises(ModelError, match=r"pilot: 0 of the first 4 rows pass"):
        pilot(ledger, teacher, GOLD, [], rows=4)
    assert len(teacher.asked) == 4


def test_local_teachers_and_few_rows_fly_no_pilot(ledger):
    assert pilot(ledger, Scripted(lambda _: "yes"), GOLD, [], rows=4) is None
    assert pilot(ledger, Bought(lambda _: "yes"), GOLD, [], rows=16) is None


def test_diversity_is_low_for_one_text_and_high_for_different_ones():
    same, other = diversity(["the same words again"] * 20), diversity([f"word{n} thing{n} item{n} stuff{n}" for n in range(20)])
    assert (same["distinct_2"], other["distinct_2"]) == (pytest.approx(3 / 60), 1.0)
    assert same["self_bleu"] == pytest.approx(100)
    assert other["self_bleu"] < 5
    assert diversity([]) == {"texts": 0, "distinct_1": None, "distinct_2": None, "self_bleu": None}


def test_a_description_counts_kinds():
    said = Description(NLI, 20)
    for known in GOLD:
        said.add(known)
    found = said.to_json()
    assert found["label"] == {"yes": 10, "no": 10}
    assert found["rows"] == 20
