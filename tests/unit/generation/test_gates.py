"""The gates: what each drops, what it must not drop, and that the first one gives the reason."""

from collections.abc import Sequence

import pytest

from potstill.generation.gates import ALWAYS_ON, GATES, GateContext, pass_gates
from potstill.records import Completion, Example, FinishReason, Message, Usage, Verdict
from potstill.spec.sections import GatesSpec, TaskSpec
from potstill.tasks import build_task

NLI = build_task(TaskSpec(type="nli", labels=("yes", "no")))
MATH = build_task(TaskSpec(type="math"))
CONVERSATION = build_task(TaskSpec(type="conversation"))
TRANSLATION = build_task(TaskSpec(type="translation"))

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


def context(
    text: str, *, task=CONVERSATION, asked: str = "Hello?", finish: FinishReason = "stop", reference: Sequence[str] = ()
) -> GateContext:
    messages = (Message("user", asked),)
    completion = Completion(text, finish, Usage(3, 8), error="503: busy" if finish == "error" else None)
    return GateContext(Example("row-1", messages, tuple(reference)), task, messages, completion)


def verdict(text: str, **rest) -> Verdict:
    return pass_gates(context(text, **rest), GatesSpec())[-1]


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


def test_a_failed_call_is_dropped_with_the_reason_of_the_endpoint():
    assert verdict("", finish="error") == Verdict("error", False, "503: busy", 1)


@pytest.mark.parametrize(("finish", "words"), [("length", "token limit after 8 tokens"), ("content_filter", "content filter")])
def test_answers_that_were_cut_are_dropped(finish, words):
    found = verdict("The answer to your question is", finish=finish)
    assert (found.gate, found.keep) == ("truncation", False)
    assert words in found.reason


@pytest.mark.parametrize("text", ["", " \n\t "])
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


@pytest.mark.parametrize("name", sorted(GatesSpec.model_fields))
def test_a_gate_that_is_off_drops_nothing(name):
    dropped = {
        "truncation": context("The answer", finish="length"),
        "refusal": context("I can't help with that."),
        "format": context("Perhaps.", task=NLI),
        "verifier": context("5", task=MATH, reference=["4"]),
    }[name]
    on, off = GatesSpec(), GatesSpec(**{name: False})
    assert not pass_gates(dropped, on)[-1].keep
    verdicts = pass_gates(dropped, off)
    assert verdicts[-1].keep
    assert name not in {said.gate for said in verdicts}


def test_every_gate_is_either_always_on_or_a_switch_of_the_spec():
    assert set(GATES) == ALWAYS_ON | set(GatesSpec.model_fields)


@pytest.mark.parametrize("name", sorted(GATES))
def test_a_verdict_carries_the_name_and_the_version_of_its_gate(name):
    found = GATES[name](context("yes", task=NLI))
    assert (found.gate, found.keep) == (name, True)
    assert found.version >= 1
