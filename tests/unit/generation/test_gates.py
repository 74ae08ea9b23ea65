"""The gates: what each drops, what it must not drop, and that the first one gives the reason."""

from dataclasses import replace

import pytest
from gates_at_hand import MATH, NLI, TRANSLATION, context, verdict

from potstill.data.earlier import EarlierRows
from potstill.data.held_out import index_held_out
from potstill.errors import SpecError
from potstill.generation.gates import ALWAYS_ON, GATES, SWITCHES, UNSCORED, as_changed, check_gates, fingerprint, is_on, pass_gates
from potstill.records import Completion, Example, Fault, Message, Verdict
from potstill.spec.sections import GatesSpec, PersonalDataSpec

REFUSALS = """
I'm sorry, but I can't help with that.
I’m sorry, but I can’t assist with that request.
I cannot help with creating malware.
Sorry, I can't help you with this.
As an AI language model, I don't have personal opinions.
As an AI, I cannot generate explicit content.
I'm unable to assist with that.
I cannot provide medical advice.
I can't provide instructions for making weapons.
I must decline to answer.
I won't be able to help with that.
Unfortunately, I cannot comply with this request.
I cannot fulfill your request.
I apologize, but I cannot provide assistance with that.
Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.
Dabei kann ich leider nicht helfen.
Je suis désolé, mais je ne peux pas répondre à cette demande.
Lo siento, pero no puedo ayudar con eso.
Desculpe, mas não posso ajudar com isso.
Mi dispiace, ma non posso aiutarti.
Het spijt me, maar daar kan ik je niet mee helpen.
Извините, но я не могу помочь с этим.
很抱歉，我无法回答这个问题。
申し訳ありませんが、そのご質問にはお答えできません。
죄송하지만 도와드릴 수 없습니다.
""".strip().splitlines()

ANSWERS = """
I'm sorry to hear that, let me help.
I'm sorry, but your order has been delayed until Monday.
I'm sorry, but I can't find your order. Could you give me the number?
I can't help but notice that the battery is swollen.
I can't help with refunds, but my colleague can.
Sorry about that! Here is the refund.
I cannot refund this, but I can offer a voucher.
I can't see an attachment; could you send it again?
I won't be able to make it on Friday.
I am afraid of dogs.
As an AI assistant, I can help you with that.
Es tut mir leid, dass Ihr Paket zu spät ist.
Lo siento mucho, vamos a resolverlo.
Désolé pour le retard, voici votre remboursement.
The model says: I can't help with that.
Unfortunately the item is out of stock.
""".strip().splitlines()


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_dropped_in_many_languages(text):
    assert (verdict(text).gate, verdict(text).keep) == ("refusal", False)


@pytest.mark.parametrize("text", ANSWERS)
def test_polite_and_negative_answers_are_no_refusals(text):
    assert verdict(text).keep


def test_a_long_answer_is_no_refusal():
    assert verdict("I cannot help with that. " + "But here is what I know of it. " * 30).keep


def test_a_refusal_that_is_to_be_translated_is_no_refusal():
    translated = "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen."
    assert not verdict(translated, task=TRANSLATION, asked="Translate: The shop is closed.").keep
    assert verdict(translated, task=TRANSLATION, asked="Translate: I'm sorry, but I can't help with that.").keep


def test_a_refusal_that_the_gold_answer_gives_too_is_kept():
    assert verdict("I can't help with that.", reference=["I cannot help with this."]).keep


def test_an_answer_that_the_endpoint_calls_a_refusal_is_one():
    found = verdict("No.", finish="refusal")
    assert (found.gate, found.keep, found.code) == ("refusal", False, "declared")
    assert verdict("I can't help with that.").code == "declines"


def test_a_failed_call_is_dropped_with_the_reason_of_the_endpoint():
    assert verdict("", finish="error") == Verdict("error", False, "503: busy", 2, "failed")


def test_a_failed_call_is_counted_by_the_kind_of_fault():
    failed = Completion("", "error", error="half a body", fault=Fault("garbled"))
    row = Example("row-1", (Message("user", "Hello?"),))
    found = GATES["error"].judge(replace(context("", finish="error"), example=row, completion=failed))
    assert (found.keep, found.code, found.reason) == (False, "garbled", "half a body")


@pytest.mark.parametrize(("finish", "words"), [("length", "token limit after 8 tokens"), ("content_filter", "content filter")])
def test_answers_that_were_cut_are_dropped(finish, words):
    found = verdict("The answer to your question is", finish=finish)
    assert (found.gate, found.keep) == ("truncation", False)
    assert words in found.reason


@pytest.mark.parametrize("text", ["", " \n\t ", "\u200b\ufeff"])
def test_white_space_is_no_answer(text):
    assert (verdict(text).gate, verdict(text).keep) == ("empty", False)


def test_what_the_task_cannot_read_is_dropped_and_quoted():
    found = verdict("Perhaps.", task=NLI)
    assert (found.gate, found.keep) == ("format", False)
    assert '"Perhaps."' in found.reason
    assert verdict("Yes.", task=NLI).keep


def test_what_the_task_proves_wrong_is_dropped():
    found = verdict("So the answer is 5.", task=MATH, asked="2 + 2?", reference=["4"])
    assert (found.gate, found.keep) == ("verifier", False)
    assert verdict("So the answer is 4.", task=MATH, asked="2 + 2?", reference=["4"]).keep


def test_the_first_gate_that_drops_an_answer_is_the_last_that_is_asked():
    verdicts = pass_gates(context("Perha", task=NLI, finish="length"), GatesSpec())
    assert [(said.gate, said.keep) for said in verdicts] == [("error", True), ("truncation", False)]


HELD_OUT_TEXT = "Which of the two trains to the coast leaves first on a Sunday morning in winter, and from which platform?"
HELD_OUT = index_held_out([], [], [Example("t", (Message("user", HELD_OUT_TEXT),))])


def seen(text: str, asked: str = "Hello?") -> EarlierRows:
    earlier = EarlierRows(0.8)
    assert earlier.offer("row-0", asked, text) is None
    return earlier


def longer_than_five(row: Example, text: str, parsed: str | None) -> str | None:
    return None if len(text) > 5 else "too terse"


# For each gate an answer that it drops, the settings that turn it on, and those that turn it off.
DROPPED = {
    "truncation": (lambda: context("The answer", finish="length"), {}, {"truncation": False}),
    "refusal": (lambda: context("I can't help with that."), {}, {"refusal": False}),
    "format": (lambda: context("Perhaps.", task=NLI), {}, {"format": False}),
    "verifier": (lambda: context("5", task=MATH, reference=["4"]), {}, {"verifier": False}),
    "length": (lambda: context("Hi"), {"min_characters": 3}, {}),
    "language": (lambda: context("Das ist leider nicht mehr auf Lager, wir bestellen es nach."), {"language": "en"}, {}),
    "personal_data": (lambda: context("Write to me@example.org"), {"personal_data": PersonalDataSpec(action="drop")}, {}),
    "custom": (lambda: context("Well"), {"custom": (f"{__name__}:longer_than_five",)}, {}),
    "contamination": (lambda: context("The first.", asked=HELD_OUT_TEXT, held_out=HELD_OUT), {}, {"contamination": False}),
    "agreement": (lambda: context("Hi", agreement=0.4), {"min_agreement": 0.5}, {}),
    "gold": (lambda: context("yes", task=NLI, reference=["no"]), {"gold": True}, {}),
    "judge": (lambda: context("Hi", mark=0.1), {"judge": 0.5}, {}),
    "duplicates": (lambda: context("Hello to you too.", earlier=seen("Hello to you too.")), {"duplicates": True}, {}),
}


@pytest.mark.parametrize("name", sorted(DROPPED))
def test_a_gate_that_is_off_drops_nothing(name):
    at_the_gate, turned_on, turned_off = DROPPED[name]
    on, off, scope = GatesSpec(**turned_on), GatesSpec(**turned_off), GATES[name].scope
    assert (is_on(name, on), is_on(name, off)) == (True, False)
    dropped = pass_gates(at_the_gate(), on, scope)[-1]
    assert (dropped.gate, dropped.keep) == (name, False)
    assert dropped.code
    assert dropped.reason
    verdicts = pass_gates(at_the_gate(), off, scope)
    assert all(found.keep for found in verdicts)
    assert name not in {found.gate for found in verdicts}


def test_every_gate_that_may_be_off_has_its_example():
    assert set(DROPPED) | ALWAYS_ON == set(GATES)


def test_every_gate_is_either_always_on_or_a_switch_of_the_spec():
    switches = {field for name in set(GATES) - ALWAYS_ON for field in SWITCHES.get(name, (name,))}
    assert switches == set(GatesSpec.model_fields)


def test_the_default_gates_are_those_that_evidence_supports():
    on = {name for name in GATES if is_on(name, GatesSpec())}
    assert on == ALWAYS_ON | {"format", "refusal", "truncation", "verifier", "contamination"}


def test_a_judge_that_drops_nothing_is_asked_all_the_same():
    assert is_on("judge", GatesSpec(judge=0.0))


@pytest.mark.parametrize("name", sorted(GATES))
def test_a_verdict_carries_the_name_and_the_version_of_its_gate(name):
    found = GATES[name].judge(context("yes", task=NLI))
    assert (found.gate, found.keep) == (name, True)
    assert found.version >= 1


def test_gates_of_answers_and_of_rows_are_asked_apart():
    gates = GatesSpec(gold=True, duplicates=True, judge=0.5, min_agreement=0.5)
    for scope in ("answer", "row"):
        asked = [found.gate for found in pass_gates(context("yes", task=NLI), gates, scope)]
        assert asked == [name for name, gate in GATES.items() if gate.scope == scope and is_on(name, gates)]


@pytest.mark.parametrize("name", ["agreement", "contamination", "duplicates", "gold", "judge"])
def test_what_cannot_be_judged_is_kept_and_called_unscored(name):
    gates = GatesSpec(gold=True, duplicates=True, judge=0.5, min_agreement=0.5)
    found = next(found for found in pass_gates(context("yes", task=NLI), gates, "row") if found.gate == name)
    assert (found.keep, found.code) == (True, UNSCORED)


def test_votes_and_marks_at_the_limit_are_kept():
    gates = GatesSpec(min_agreement=0.5, judge=0.5)
    assert all(found.keep for found in pass_gates(context("Hi", agreement=0.5, mark=0.5), gates, "row"))


def test_a_row_that_another_gate_drops_does_not_outdo_its_twin():
    gates, earlier = GatesSpec(judge=0.5, duplicates=True), EarlierRows(0.8)
    assert not pass_gates(context("Hello to you too.", mark=0.1, earlier=earlier), gates, "row")[-1].keep
    assert pass_gates(context("Hello to you too.", mark=0.9, earlier=earlier, name="row-2"), gates, "row")[-1].keep
    assert pass_gates(context("Hello to you too.", mark=0.9, earlier=earlier, name="row-3"), gates, "row")[-1].code == "exact"


def test_gates_after_one_that_changes_an_answer_see_it_changed():
    gates = GatesSpec(personal_data=PersonalDataSpec(), custom=(f"{__name__}:says_its_text",))
    verdicts = pass_gates(context("Write to me@example.org"), gates)
    assert verdicts[-1].reason.endswith(": Write to [EMAIL]")
    assert as_changed(context("Write to me@example.org").completion, verdicts).text == "Write to [EMAIL]"


def says_its_text(row: Example, text: str, parsed: str | None) -> str:
    return text


def test_settings_that_cannot_be_followed_are_refused_before_anybody_is_asked():
    check_gates(GatesSpec(language="de-AT", custom=(f"{__name__}:longer_than_five",)))
    check_gates(GatesSpec(language="same"))
    for gates in (GatesSpec(language="klingon"), GatesSpec(custom=("no_such_module:f",))):
        with pytest.raises(SpecError):
            check_gates(gates)


def test_the_fingerprint_changes_with_the_settings_and_with_the_user_s_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fingerprint(GatesSpec()) == fingerprint(GatesSpec()) != fingerprint(GatesSpec(gold=True))
    file, gates = tmp_path / "a_gate_of_mine.py", GatesSpec(custom=("a_gate_of_mine:f",))
    file.write_text("def f(row, text, parsed): return None\n")
    before = fingerprint(gates)
    file.write_text("def f(row, text, parsed): return 'no'\n")
    assert fingerprint(gates) != before
