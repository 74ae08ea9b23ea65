"""Stage 1: the teacher answers each prompt, the gates keep or drop, and what is kept is the student's training set."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill.data.labels import load_labels
from potstill.data.ondisk import Dataset
from potstill.data.splits import open_held_out, open_split
from potstill.errors import BudgetError, EndpointError, ModelError, StoreError
from potstill.generation.asking import ask_rows, rows_of
from potstill.generation.balance import kinds, shortfalls
from potstill.generation.collect import balanced_away, collect_answers, failed_share, judge_rows
from potstill.generation.expand import VERSION as EXPAND_VERSION
from potstill.generation.expand import Expansion, Wish, wishes_of
from potstill.generation.freeze import MANIFEST, PARQUET, freeze
from potstill.generation.gates import check_gates, fingerprint
from potstill.generation.interview import Interview
from potstill.generation.logprobs import are_asked, require_logprobs
from potstill.generation.panel import Noted, Panel, asked_logprobs, learnt_logprobs, note_panel, open_panel, recall_panel
from potstill.generation.pilot import fly_pilot
from potstill.generation.qualify import Examination
from potstill.generation.scoring import lacks_scores, require_scores, scores_wanted
from potstill.generation.workers.on_ray import ask_on_ray, require_ray, take_in_leftovers
from potstill.models.ask import ask
from potstill.models.budget import Budget
from potstill.models.locate import teacher_stamp, template_stamp
from potstill.models.questions import KEY_VERSION
from potstill.models.recall import recall_ledger
from potstill.models.said import SAID
from potstill.records import Example
from potstill.spec.sections import ExpandSpec
from potstill.store.adapted import given_spec, with_adapted
from potstill.store.atomic import as_json, write_json, write_jsonl
from potstill.store.events import StageName
from potstill.store.ledger import Ledger
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.judging import VERSION as JUDGE_VERSION
from potstill.tasks.prompting import build_strategy
from potstill.tasks.prompting.examples import choose_examples

NAME: StageName = "generate"
# The ledger is not among them: an answer stands whatever else changes, because its key holds all that it depends on.
DISCARD = (
    "accepted.jsonl",
    SAID,
    PARQUET,
    MANIFEST,
    "rejected.jsonl",
    "validation.jsonl",
    "usage.json",
    "description.json",
    "expanded.jsonl",
    "qualification.json",
    "panel.json",
)

VERSION = 1
_NEW_ROWS = "expanded.jsonl"
_ROWS_LOOKED_AT = 16
_READ = ("data/train.jsonl", "data/validation.jsonl", "data/labels.json", "data/contamination.npz")
_HOW_TO_REACH = {
    *("api_key_env", "api_key_file", "timeout_s", "connect_timeout_s", "max_attempts", "patience_minutes", "price", "several"),
    *("requests_per_minute", "tokens_per_minute"),
    "adapt",  # the adapted weights themselves count (`store.adapted`)
}
_HOW_TO_ASK = {"concurrency", "budget", "max_failed", "pilot", "ledger", "mode", "batch_size", "judge", "scorer", "qualify"}


def inputs(run: Run) -> dict[str, object]:
    """What the accepted rows depend on; not how the teacher is reached, nor the test rows.

    Caps count where the run goes on without what they did not let it ask.
    """
    spec, generation = run.spec, run.spec.generation
    answering = [*spec.all_teachers, *((generation.judge,) if generation.judge is not None else ())]
    return {
        "version": [VERSION, KEY_VERSION],
        "task": spec.task.model_dump(mode="json"),
        "teachers": [teacher.model_dump(mode="json", exclude=_HOW_TO_REACH) for teacher in spec.all_teachers],
        "judge": generation.judge and generation.judge.model_dump(mode="json", exclude=_HOW_TO_REACH),
        "weights": [teacher_stamp(model) for model in answering],
        "templates": [template_stamp(model) for model in answering],
        "batch_size": generation.batch_size,
        "generation": generation.model_dump(mode="json", exclude=_HOW_TO_ASK),
        "wording": [build_strategy(generation.prompting).version, EXPAND_VERSION, JUDGE_VERSION],
        "caps": generation.budget.model_dump(mode="json") if generation.budget.when_reached == "go_on" else None,
        "comparison": spec.data.model_dump(mode="json", include={"near_duplicate", "test_duplicates"}),
        "gates": fingerprint(spec.gates),
        "seed": spec.seed,
        "files": {path: digest for path, digest in run.stage("data").outputs().items() if path in _READ},
        **({"top_logprobs": asked} if (asked := asked_logprobs(spec)) else {}),
        **_scored_by(run),
    }


def _scored_by(run: Run) -> dict[str, object]:
    scorer = run.spec.generation.scorer
    if scorer is None:
        return {}
    return {"scorer": scorer.model_dump(mode="json", exclude=_HOW_TO_REACH), "scored_logprobs": learnt_logprobs(run.spec)}


def outputs(run: Run) -> list[Path]:
    """The rows that were kept, dropped, and validate. `usage.json` is a record: what it cost changes nothing that is made of them."""
    names = ["accepted.jsonl", "rejected.jsonl", "validation.jsonl", *([SAID] if learnt_logprobs(run.spec) else [])]
    return [run.path("generation", name) for name in names]


def work(run: Run, resumed: bool) -> str:
    """Ask what the ledger lacks, judge everything, write what was kept.

    Raises EndpointError and ModelError where a teacher cannot be asked, does not pass, or nothing was kept; BudgetError where a cap
    is reached; StoreError where the disk fails.
    """
    del resumed  # the ledger knows
    check_gates(run.spec.gates)
    task = build_task(run.spec.task, load_labels(run))
    train, validation = (open_split(run, split, "generation") for split in ("train", "validation"))
    path, made_of = _panel_path(run), _made_of(run)
    with open_panel(run.spec, task) as panel:
        note_panel(path, panel, made_of, complete=False)
        summary = generate(run, task, panel, train, validation)
        note_panel(path, panel, made_of, complete=True)
    return summary


def _made_of(run: Run) -> dict[str, Any]:
    """The stage's inputs as they are on record, wherever the run folder lies."""
    return with_adapted(run, inputs(replace(run, spec=given_spec(run))))


def generate(run: Run, task: Task, panel: Panel, train: Sequence[Example], validation: Sequence[Example]) -> str:
    """`work` on rows and a panel that are open already."""
    if run.spec.engine.kind == "ray":
        require_ray(run.spec.engine)  # before anything is spent
    take_in_leftovers(run)
    with Ledger(run.ledger_path, run=run.spec.name) as ledger:
        if ledger.orphaned:
            run.events.info(f"{ledger.orphaned:,} calls were cut off when this run was stopped; of the answered ones none is asked again")
        if ledger.read_only:
            run.events.warn(f"{ledger.path}: {ledger.read_only}; it is open for reading, so nothing can be asked")
        return _Generation(run, task, panel, ledger, train=train, validation=validation).make()


class _Generation:
    """The stage's steps: examine, try out, expand, ask, judge, even out."""

    def __init__(
        self, run: Run, task: Task, panel: Panel, ledger: Ledger, *, train: Sequence[Example], validation: Sequence[Example]
    ) -> None:
        self._run, self._spec, self._task, self._panel, self._ledger = run, run.spec.generation, task, panel, ledger
        self._validation = validation
        self._asks_validation = lacks_references(task, validation)
        self._interview = open_interview(run, task, panel, ledger, train)
        self._budget = Budget.left(self._spec.budget, ledger)
        self._rows: Sequence[Example] = train
        """The rows, new ones included as soon as they may be asked: what is collected where a cap ends the asking."""
        recall_ledger(panel.models, ledger)
        self._new: list[Example] = []
        """Rows whose prompts a teacher wrote."""

    def make(self) -> str:
        """All of it; returns the line for people."""
        self._run.path("generation", _NEW_ROWS).unlink(missing_ok=True)  # an attempt's that was cut off; written again below
        try:
            self._examine()
            fly_pilot(self._interview, self._rows, self._spec.pilot, self._run.events, self._budget)
            self._require_logprobs()
            self._score(list(itertools.islice(self._rows, _ROWS_LOOKED_AT)))
            self._expand()
            self._ask()
            self._require_logprobs()
            self._top_up()
            self._score(self._rows)
        except BudgetError as reached:
            if self._spec.budget.when_reached == "stop":
                raise
            self._run.events.warn(f"{reached}. Going on with what was answered")
        summary = collect_answers(self._run.path("generation"), self._interview, self._rows, self._validation, self._asks_validation)
        freeze(self._run.path("generation"), self._run.spec, self._ledger.usage())
        return summary

    def _examine(self) -> None:
        if self._spec.qualify is None:
            return
        labels = load_labels(self._run)
        grades = Examination(self._interview, labels, self._run.events, self._budget).qualify(self._validation, self._spec.qualify)
        write_json(self._run.path("generation", "qualification.json"), [grade.to_json() for grade in grades])

    def _ask(self) -> None:
        splits = (self._rows, self._validation) if self._asks_validation else (self._rows,)
        rows_to_ask, count = rows_of(*splits), sum(map(len, splits))
        if self._run.spec.engine.kind == "ray":
            ask_on_ray(self._run, self._interview, rows_to_ask, count, self._budget)
        # Everything; or what workers left, because the last calls of a budget fit into no share of it.
        batched = self._spec.mode == "batch"
        ask_rows(self._interview, rows_to_ask, count, self._run.events, budget=self._budget, batched=batched)
        failed, total = failed_share(self._interview, itertools.chain.from_iterable(splits))
        if failed and failed > self._spec.max_failed * total:
            # They are asked again by the next run, and by none once the stage stands.
            raise EndpointError(
                f"{failed:,} of {total:,} rows failed at the endpoint (`generation.max_failed` lets {self._spec.max_failed:.0%} go); what "
                "was answered is kept: run the same command again to ask the others, or raise `generation.max_failed` to do without them"
            )

    def _require_logprobs(self) -> None:
        if are_asked(self._interview):
            require_logprobs(self._interview, itertools.islice(self._rows, _ROWS_LOOKED_AT))

    def _score(self, rows: Sequence[Example]) -> None:
        """Have the accepted answers scored, of the first rows early: whoever cannot do it is found out before the rest is bought."""
        if self._interview.scorer is None:
            return
        left_out = balanced_away(self._interview, rows)

        def learnt() -> Iterator[Example]:
            judged = (one for one in judge_rows(self._interview, rows, note=False) if one.example.id not in left_out)
            return itertools.chain.from_iterable(one.rows for one in judged)

        with self._run.events.progress("answers scored", None, "answers") as progress:
            answers = ask(self._interview.scorer.model, scores_wanted(self._interview, learnt()), self._ledger, progress, self._budget)
        require_scores(self._interview, itertools.islice(learnt(), _ROWS_LOOKED_AT))
        if answers.failed > self._spec.max_failed * (answers.asked + answers.stood):
            raise EndpointError(
                f"{answers.failed:,} of {answers.asked + answers.stood:,} answers were not scored, because calls failed "
                f"(`generation.max_failed` lets {self._spec.max_failed:.0%} go); what was said is kept: run the same command again"
            )

    def _expand(self) -> None:
        spec = self._spec.expand
        if spec is not None:
            self._add_new(spec, wishes_of(spec, self._rows, kinds(self._task)[spec.by]))

    def _top_up(self) -> None:
        """New prompts of the kinds that have too few accepted rows, asked in their turn."""
        balance = self._spec.balance
        if balance is None or balance.how != "ask":
            return
        accepted = [row for judged in judge_rows(self._interview, self._rows) for row in judged.rows[:1]]
        wishes = shortfalls(accepted, balance, kinds(self._task)[balance.by])
        spec = ExpandSpec(rows=max(sum(wish.count for wish in wishes), 1), how="rare")
        # Written like accepted rows: without their answers.
        asked = {row.id: row for row in self._rows}
        plain = [Wish(wish.count, tuple(asked[row.id] for row in wish.rows if row.id in asked), wish.kind) for wish in wishes]
        self._add_new(spec, plain, name="even")
        self._ask()

    def _add_new(self, spec: ExpandSpec, wishes: Sequence[Wish], *, name: str = "") -> None:
        expansion = Expansion(self._panel.teachers[0], spec, self._ledger, self._run.events, self._budget, name=name)
        known = [*self._rows, *self._validation]
        fresh = expansion.write(wishes, known, self._repeats, threshold=self._run.spec.data.near_duplicate)
        wished = sum(wish.count for wish in wishes)
        self._run.events.info(f"{len(fresh):,} new prompts of {wished:,} that were wanted; the others repeat known ones")
        self._new += fresh
        write_jsonl(self._run.path("generation", _NEW_ROWS), (row.to_json() for row in self._new))
        if fresh:
            self._rows = Dataset.of(itertools.chain(self._rows, fresh))

    def _repeats(self, row: Example) -> bool:
        """Whether a new prompt gives a validation or test row away."""
        held_out = self._interview.held_out
        questions = "\n".join(message.content for message in row.messages if message.role == "user")
        return held_out is not None and held_out.find(questions) is not None


@dataclass(frozen=True, slots=True)
class JudgedAgain:
    """The line for people, how many rows would need further answers, and whether generating would write the same files."""

    summary: str
    waiting: int
    whole: bool


def judge_again(run: Run) -> JudgedAgain:
    """Run the gates over the answers that are there, and write what they keep; nobody is asked, no model is loaded.

    Raises StoreError where nothing was generated yet, or of another spec; ModelError where nothing is kept, which leaves the files as
    they were; the gates' own errors.
    """
    with recall_answers(run) as (interview, train):
        validation = open_split(run, "validation", "generation")
        asked = lacks_references(interview.task, validation)
        _require_some(interview, train, validation if asked else ())
        summary = collect_answers(run.path("generation"), interview, train, validation, asked)
        freeze(run.path("generation"), run.spec, interview.ledger.usage())
        splits = (train, validation) if asked else (train,)
        waiting = sum(interview.outcome(example) is None for example in itertools.chain.from_iterable(splits))
        if interview.scorer is not None:
            learnt = itertools.chain.from_iterable(one.rows for one in judge_rows(interview, train, note=False))
            waiting += sum(lacks_scores(interview, row) for row in learnt)
    return JudgedAgain(summary, waiting, not waiting and _has_all_prompts(run))


def _require_some(interview: Interview, train: Sequence[Example], validation: Sequence[Example]) -> None:
    for split, rows in (("train", train), ("validation", validation)):
        judged = judge_rows(interview, rows, note=False, validation=split == "validation")
        if rows and not any(one.rows for one in judged if split == "train" or one.drop is None):
            raise ModelError(
                f"of {len(rows):,} {split} rows none has an answer that these gates keep, so nothing was changed; loosen `gates`, or run "
                "`potstill generate` where they need further answers"
            )


def _has_all_prompts(run: Run) -> bool:
    """Whether generating with these gates would write no other new prompts than are there."""
    noted, balance = Noted.read(_panel_path(run)), run.spec.generation.balance
    evened = balance is not None and balance.how == "ask"
    if noted.complete and not (evened and noted.gates != as_json(fingerprint(run.spec.gates))):
        return True
    run.events.warn("with these gates other new prompts may be wanted: `potstill generate` writes them")
    return False


@contextlib.contextmanager
def recall_answers(run: Run) -> Iterator[tuple[Interview, Sequence[Example]]]:
    """The interview as the ledger holds it, and the training rows; nobody is asked, no model is loaded.

    Raises StoreError where nothing was generated yet, or of another spec; other gates are none.
    """
    spec, task = run.spec, build_task(run.spec.task, load_labels(run))
    noted = Noted.read(_panel_path(run))
    _require_same(run, noted)
    panel = recall_panel(noted, spec, task)
    take_in_leftovers(run)
    with Ledger(run.ledger_path, run=spec.name) as ledger:
        train = open_split(run, "train", "generation")
        yield open_interview(run, task, panel, ledger, train), with_new_rows(run, train)


def _require_same(run: Run, noted: Noted) -> None:
    now = {name: value for name, value in as_json(_made_of(run)).items() if name != "gates"}
    if changed := _differing(noted.inputs, now):
        raise StoreError(
            f"{_panel_path(run)}: the answers that are there are not those of this spec, which differs in {', '.join(changed)}, and other "
            "answers cannot be judged without asking; run `potstill generate`"
        )


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of the inputs that differ; of sections, of their fields."""
    found: list[str] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [f"{name}.{field}" for field in sorted({*old, *new}) if old.get(field) != new.get(field)]
        elif old != new:
            found.append(name)
    return found


def _panel_path(run: Run) -> Path:
    return run.path("generation", "panel.json")


def open_interview(run: Run, task: Task, panel: Panel, ledger: Ledger, train: Sequence[Example]) -> Interview:
    """The interview of a run. Raises DataError where the training rows do not give the worked examples that the spec asks for."""
    spec = run.spec.generation
    examples = choose_examples(spec.prompting.examples, build_strategy(spec.prompting), task, train)
    return Interview(
        task,
        panel.teachers,
        ledger,
        generation=spec,
        gates=run.spec.gates,
        judge=panel.judge,
        scorer=panel.scorer,
        examples=examples,
        held_out=open_held_out(run),
        near_duplicate=run.spec.data.near_duplicate,
    )


def with_new_rows(run: Run, train: Sequence[Example]) -> Sequence[Example]:
    """The training rows, and those whose prompts a teacher wrote, where there are such."""
    path = run.path("generation", _NEW_ROWS)
    return Dataset.of(itertools.chain(train, Dataset(path))) if path.exists() else train


def lacks_references(task: Task, rows: Iterable[Example]) -> bool:
    """True where some question of these rows has no gold answer to be scored on."""
    return any(not question.reference for row in rows for question in task.expand(row))
