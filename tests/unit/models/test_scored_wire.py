"""vLLM's `prompt_logprobs` are read as what its server documents, and what it says of a given text is found in its prompt."""

import asyncio

import pytest

from potstill.models.load import load_teacher
from potstill.models.scored_wire import NO_SCORES, read_scores
from potstill.models.testing import OpenAIStub
from potstill.records import Message, Request, Sampling
from potstill.spec import GenerationSpec, TeacherSpec

# Ids, rank and order as vLLM writes them: the token that stands there first, likeliest or not.
BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "\n"}, "finish_reason": "length"}],
    "prompt_logprobs": [
        None,
        {
            "872": {"logprob": -9.5, "rank": 4000, "decoded_token": "user"},
            "77091": {"logprob": -0.1, "rank": 1, "decoded_token": "assistant"},
        },
        {"198": {"logprob": 0.0, "rank": 1, "decoded_token": "\n"}},
        {"38": {"logprob": -4.0, "rank": 9, "decoded_token": "Paris"}, "40": {"logprob": -0.7, "rank": 1, "decoded_token": "I"}},
        {"151645": {"logprob": -0.5, "rank": 1, "decoded_token": "<|im_end|>"}},
        {"198": {"logprob": 0.0, "rank": 1, "decoded_token": "\n"}},
        {"77091": {"logprob": -0.2, "rank": 1, "decoded_token": "assistant"}},
        {"198": {"logprob": 0.0, "rank": 1, "decoded_token": "\n"}},
        {"59604": {"logprob": -0.3, "rank": 1, "decoded_token": "Paris"}, "785": {"logprob": -1.9, "rank": 2, "decoded_token": "The"}},
        {"13": {"logprob": -2.3, "rank": 2, "decoded_token": "."}, "151645": {"logprob": -0.1, "rank": 1, "decoded_token": "<|im_end|>"}},
        {
            "151645": {"logprob": -0.01, "rank": 1, "decoded_token": "<|im_end|>"},
            "198": {"logprob": -5.0, "rank": 2, "decoded_token": "\n"},
        },
        {"198": {"logprob": 0.0, "rank": 1, "decoded_token": "\n"}},
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13},
}


def scores_of(text, *entries, **more):
    found = [None, *({str(n): {"logprob": p, "rank": n + 1, "decoded_token": t} for n, (t, p) in enumerate(entry)} for entry in entries)]
    return read_scores({"prompt_logprobs": found} | more, text)


def test_the_tokens_of_the_last_occurrence_and_the_one_that_ends_it_are_found():
    tokens = read_scores(BODY, " Paris.\n")
    assert [(one.token, one.logprob) for one in tokens] == [("Paris", -0.3), (".", -2.3), ("<|im_end|>", -0.01)]
    assert tokens[1].top == ((".", -2.3), ("<|im_end|>", -0.1))


def test_ids_of_the_prompt_say_which_token_stands_there_where_the_server_gives_them():
    entry = [("The", -0.1), ("Paris", -2.0)]
    assert [one.token for one in scores_of("Paris", entry, prompt_token_ids=[7, 1])] == ["Paris"]
    assert scores_of("Paris", entry) == ()
    assert [one.token for one in scores_of("The", entry, prompt_token_ids=[7, 99])] == ["The"]


def test_a_token_may_begin_before_the_text_and_end_after_it():
    tokens = scores_of("is warm", [("It", -1.0)], [(" is", -0.5)], [(" warm!", -0.25)], [("<|im_end|>", -0.1)])
    assert [one.token for one in tokens] == [" is", " warm!", "<|im_end|>"]


def test_pieces_that_show_nothing_count_with_the_character_that_they_make():
    tokens = scores_of("😀!", [("\n", 0.0)], [("", -1.0), ("x", -2.0)], [("", -0.5)], [("😀", -0.25)], [("!", -0.125)], [("", -3.0)])
    assert [(one.token, one.logprob, len(one.top)) for one in tokens] == [("😀", -1.75, 0), ("!", -0.125, 1)]


@pytest.mark.parametrize("text", ["Rome", "", "   ", "Paris. "])
def test_a_text_that_is_not_there_has_no_scores(text):
    assert (read_scores(BODY, text) == ()) == (text != "Paris. ")


@pytest.mark.parametrize("found", [None, "yes", [None, {}], [None, {"1": {"logprob": "much", "decoded_token": "a"}}], [None, {"1": 3}]])
def test_another_shape_is_none(found):
    assert read_scores({"prompt_logprobs": found}, "a") is None


def ask(stub, request):
    model = load_teacher(TeacherSpec(model="m", base_url=stub.base_url), GenerationSpec())

    async def asked():
        try:
            return await model.complete([request])
        finally:
            await model.close()

    [answer] = asyncio.run(asked())
    return answer


CHAT = (Message("user", "Is it warm?"), Message("assistant", "It is warm."))


def test_a_call_gives_the_chat_with_its_answer_and_asks_for_one_token_that_nobody_reads():
    with OpenAIStub(scores=True) as stub:
        answer = ask(stub, Request(CHAT, Sampling(1), prompt_logprobs=2))
    [call] = stub.calls
    assert call["messages"] == [{"role": "user", "content": "Is it warm?"}, {"role": "assistant", "content": "It is warm."}]
    assert {key: call[key] for key in ("max_tokens", "prompt_logprobs", "add_generation_prompt", "return_token_ids")} == {
        "max_tokens": 1,
        "prompt_logprobs": 2,
        "add_generation_prompt": False,
        "return_token_ids": True,
    }
    assert [(one.token, one.logprob) for one in answer.logprobs] == [("It", -1.2), (" is", -1.2), (" warm.", -1.2), ("<|im_end|>", -1.2)]
    assert answer.logprobs[1].top == ((" is", -1.2), (" other0", -0.7), (" other1", -2.2))
    assert (answer.text, answer.finish_reason, answer.raw) == ("", "stop", None)


def test_a_server_that_passes_over_the_wish_has_failed():
    with OpenAIStub() as stub:
        answer = ask(stub, Request(CHAT, Sampling(1), prompt_logprobs=2))
    assert (answer.finish_reason, answer.error) == ("error", NO_SCORES)
