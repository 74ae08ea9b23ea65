"""Who is one to the provider and to the ledger is one here, however many seats it takes."""

from scripted import Scripted, ask, interview, open_ledger, row, seat

from potstill.generation.panel import open_panel, seat_panel
from potstill.spec import RunSpec
from potstill.spec.sections import TaskSpec
from potstill.tasks import build_task

NLI = build_task(TaskSpec(type="nli", labels=("yes", "no", "maybe")))
SMALL = {"model": "small", "base_url": "http://127.0.0.1:9/v1", "requests_per_minute": 60}


def spec_of(*teachers: dict[str, object], **generation: object) -> RunSpec:
    return RunSpec.model_validate(
        {
            "name": "p",
            "task": {"type": "nli", "labels": ["yes", "no", "maybe"]},
            "data": {"train": "t.jsonl"},
            "teachers": list(teachers),
            "student": {"model": "x"},
            "generation": generation,
        }
    )


def test_teachers_and_a_judge_of_one_identity_share_one_model_and_so_its_limits():
    other = {**SMALL, "model": "other"}
    warm, timid = {**SMALL, "name": "warm", "temperature": 1.0}, {**SMALL, "name": "timid", "timeout_s": 9.0}
    with open_panel(spec_of({**SMALL, "name": "cold"}, warm, timid, other, choose="judge", judge=SMALL), NLI) as panel:
        first, second, third, fourth = (seat.model for seat in panel.teachers)
        assert panel.judge is not None
        assert first is second is third is panel.judge.model
        assert first is not fourth
        assert [seat.sampling.temperature for seat in panel.teachers] == [0.0, 1.0, 0.0, 0.0]


def test_models_at_hand_of_one_identity_become_one():
    models = [Scripted(lambda _: "yes"), Scripted(lambda _: "yes")]
    with seat_panel(spec_of({"model": "a"}, {"model": "b"}), NLI, models) as panel:
        assert panel.models == models[:1]


def test_one_question_from_two_seats_of_one_identity_is_asked_once(tmp_path):
    first, second = (Scripted(lambda _: "yes") for _ in range(2))
    rows = [row(f"row {number}", number=number) for number in range(8)]
    with open_ledger(tmp_path) as ledger:
        judged = ask(interview(NLI, ledger, seat(first), seat(second), route="vote"), *rows)
        assert all(one.rows for one in judged)
        assert ledger.usage().calls == len(first.asked) + len(second.asked) == len(rows)
