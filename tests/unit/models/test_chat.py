"""What inference sends and what training learns from are the same ids, whatever the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import ModelError
from potstill.models.chat import prompt_ids, prompt_text, stop_ids, training_ids, training_sequences
from potstill.records import Message
from tiny import CHATML, tiny_llama, tiny_tokenizer

PHI3 = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|header|>{{ message['role'] }}<|/header|>\n\n{{ message['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header|>assistant<|/header|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<|turn|>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<|/turn|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>model\n{% endif %}"
)
SILENT_ON_SYSTEM = (
    "{% for message in messages %}{% if message['role'] != 'system' %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
QWEN3 = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
NO_STOP = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"

SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|header|>", "<|/header|>", "<|eot|>", "<|turn|>", "<|/turn|>")
TEMPLATES = {
    "chatml": CHATML,
    "phi3": PHI3,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "silent": SILENT_ON_SYSTEM,
    "qwen3": QWEN3,
    "no-stop": NO_STOP,
}
STOPS = {
    "chatml": "<|im_end|>",
    "phi3": "<|end|>",
    "llama3": "<|eot|>",
    "gemma": "<|/turn|>",
    "silent": "<|end|>",
    "qwen3": "<|im_end|>",
    "no-stop": "<|im_end|>",
}
CHAT = (
    Message("system", "Be brief."),
    Message("user", "What is the capital of France?"),
    Message("assistant", "Paris is the capital."),
    Message("user", "And of Italy?"),
    Message("assistant", "Rome, end of the story."),
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: tiny_tokenizer(folder / name, template=text, special=SPECIAL) for name, text in TEMPLATES.items()}


@pytest.mark.parametrize("name", TEMPLATES)
def test_training_prefix_equals_inference_prompt(name: str, tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers[name]
    for ids, trained in training_sequences(tokenizer, CHAT, (2, 4)):
        turns = _runs(trained)
        assert turns
        for start, _ in turns:
            assert ids[:start] in [prompt_ids(tokenizer, CHAT[:2]), prompt_ids(tokenizer, CHAT[:4])]


@pytest.mark.parametrize("name", TEMPLATES)
def test_first_answer_token_is_trained(name: str, tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers[name]
    ids, trained = training_ids(tokenizer, CHAT[:3], (2,))
    assert trained.index(True) == len(prompt_ids(tokenizer, CHAT[:2]))
    answer = [token for token, is_trained in zip(ids, trained, strict=True) if is_trained]
    assert tokenizer.decode(answer) == f"Paris is the capital.{STOPS[name]}"


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_trained_turn_is_trained_once_and_ends_with_its_stop_token(name: str, tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers[name]
    answers = [
        tokenizer.decode(ids[start:end]) for ids, trained in training_sequences(tokenizer, CHAT, (2, 4)) for start, end in _runs(trained)
    ]
    assert answers == [f"{CHAT[2].content}{STOPS[name]}", f"{CHAT[4].content}{STOPS[name]}"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_stop_token_of_training_stops_inference(name: str, tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers[name]
    ids, trained = training_ids(tokenizer, CHAT, (4,))
    assert trained[-1]
    assert ids[-1] in stop_ids(tokenizer)


@pytest.mark.parametrize("name", ["chatml", "phi3", "llama3", "gemma", "silent"])
def test_turns_of_one_chat_fit_into_one_sequence_where_history_is_left_as_it_was(name: str, tokenizers: dict[str, Any]) -> None:
    assert len(training_sequences(tokenizers[name], CHAT, (2, 4))) == 1


def test_a_template_that_rewrites_history_gets_a_sequence_a_turn(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["qwen3"]
    sequences = training_sequences(tokenizer, CHAT, (2, 4))
    assert len(sequences) == 2
    assert training_ids(tokenizer, CHAT, (2, 4)) == sequences[-1]


def test_only_named_turns_are_trained(tokenizers: dict[str, Any]) -> None:
    ids, trained = training_ids(tokenizers["chatml"], CHAT, (4,))
    [(start, end)] = _runs(trained)
    assert tokenizers["chatml"].decode(ids[start:end]).startswith("Rome")


@pytest.mark.parametrize("name", ["gemma", "silent"])
def test_a_system_prompt_goes_in_front_of_the_user_where_the_template_knows_no_system(name: str, tokenizers: dict[str, Any]) -> None:
    text = prompt_text(tokenizers[name], CHAT[:2])
    assert "Be brief.\n\nWhat is the capital of France?" in text


def test_nothing_is_added_to_what_the_template_writes(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["llama3"]
    ids = prompt_ids(tokenizer, CHAT[:2])
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids) == prompt_text(tokenizer, CHAT[:2])


def test_an_answer_that_joins_with_the_prompt_keeps_the_prompts_ids(tmp_path: Path) -> None:
    # The prompt ends in a space; the tokenizer has " the" as one token, so the whole text is cut elsewhere than the prompt alone.
    turns = "{% for m in messages %}{{ ' ' if m['role'] == 'assistant' }}{{ m['content'] }}{% endfor %}"
    tokenizer = tiny_tokenizer(tmp_path, template=turns + "{{ ' ' if add_generation_prompt }}")
    chat = (Message("user", "over"), Message("assistant", "the lazy dog"))
    whole = tokenizer("over the lazy dog", add_special_tokens=False)["input_ids"]
    prompt = prompt_ids(tokenizer, chat[:1])
    assert whole[: len(prompt)] != prompt
    ids, trained = training_ids(tokenizer, chat, (1,))
    assert ids[: len(prompt)] == prompt
    assert tokenizer.decode([i for i, t in zip(ids, trained, strict=True) if t]) == "the lazy dog<|im_end|>"


@settings(max_examples=60, deadline=None)
@given(
    answer=st.text(min_size=1, max_size=30).filter(lambda text: text.strip()),
    name=st.sampled_from(["chatml", "phi3", "llama3", "gemma", "qwen3"]),
)
def test_any_answer_is_trained_whole(answer: str, name: str, tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers[name]
    chat = (*CHAT[:2], Message("assistant", answer))
    ids, trained = training_ids(tokenizer, chat, (2,))
    prompt = prompt_ids(tokenizer, chat[:2])
    assert ids[: len(prompt)] == prompt
    assert not any(trained[: len(prompt)])
    assert all(trained[len(prompt) :])
    assert answer.strip() in tokenizer.decode(ids[len(prompt) :])


@pytest.mark.parametrize("answer", ["end", "think", "<|im_end|>", "n", "user", "im"])
def test_answers_that_look_like_the_template_are_still_found(answer: str, tokenizers: dict[str, Any]) -> None:
    for name in ("chatml", "qwen3"):
        ids, trained = training_ids(tokenizers[name], (Message("user", "Say it."), Message("assistant", answer)), (1,))
        [(start, end)] = _runs(trained)
        assert tokenizers[name].decode(ids[start:end]) == f"{answer}<|im_end|>"


def test_the_day_does_not_change_a_prompt(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, template="{{ date_string }} {{ messages[0]['content'] }}")
    assert prompt_text(tokenizer, (Message("user", "Hi"),)) == "26 Jul 2024 Hi"


def test_a_missing_template_says_where_to_name_one(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, template=None)
    with pytest.raises(ModelError, match=r"no chat template; name a Jinja file in `chat_template:`"):
        prompt_ids(tokenizer, CHAT[:2])


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{% for m in", "unexpected 'end of template'"),
        ("{{ 'x' * 10 ** 100 }}", "cannot fit 'int' into an index-sized integer"),
    ],
)
def test_a_template_that_fails_is_quoted(template: str, words: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, template=template)
    with pytest.raises(ModelError, match=rf"the chat template refuses a chat of user, user: .*{words}"):
        prompt_ids(tokenizer, [Message("user", "a"), Message("user", "b")])


def test_stop_ids_are_those_of_tokenizer_model_and_template_together(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    module = LlamaForCausalLM.from_pretrained(tiny_llama(tmp_path / "model"))
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer", template=PHI3, special=SPECIAL)
    module.generation_config.eos_token_id = [0, 7]
    assert stop_ids(tokenizer, module) == sorted({0, 7, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")})


def _runs(trained: list[bool]) -> list[tuple[int, int]]:
    edges = [
        place
        for place in range(len(trained) + 1)
        if (trained[place - 1] if place else False) != (trained[place] if place < len(trained) else False)
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_a_template_that_drops_the_system_prompt_even_there_is_refused(tmp_path: Path) -> None:
    chat = (Message("system", "Be\nbrief."), Message("user", "Hello"))
    last_lines = "{% for m in messages %}{{ m.role }}: {{ m.content.split('\n')[-1] }}\n{% endfor %}"
    with pytest.raises(ModelError, match=r"its chat template drops the system prompt .*name a Jinja file"):
        prompt_text(tiny_tokenizer(tmp_path / "drops", template=last_lines), chat)
    spaced = "{% for m in messages %}{{ m.content | replace('\n', '  ') }}\n{% endfor %}"
    assert "Be  brief." in prompt_text(tiny_tokenizer(tmp_path / "spaces", template=spaced), chat)
