"""Tiny, randomly initialised models of the real classes of every student family, with tokenizers of both kinds."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXT = """The quick brown fox jumps over the lazy dog. Pack my box with five dozen liquor jugs.
Return the number of items in a list, or raise a TypeError where there is none. user assistant system
How vexingly quick daft zebras jump! 0123456789 + - * / = ( ) [ ] { } naïve café Zürich 東京 ∑ ✓
def parse(text): return int(text.strip()) if text else None
"""

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|im_start|>", "<|im_end|>", "<pad>", "<|image|>")

FAMILIES = ("phi3", "phi4mini", "llama31", "smollm", "smollm3", "qwen2", "qwen3", "gemma2", "gemma3")
LAYERS = 6


@cache
def byte_level_json(size: int = 480) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([TEXT] * 3, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.add_special_tokens([f"<|reserved_special_token_{number}|>" for number in range(20)])
    start = tokenizer.token_to_id("<|im_start|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]),
        ]
    )
    return tokenizer.to_str()


@cache
def byte_fallback_json(size: int = 500) -> str:
    """Like Llama 2, Phi-3 and Gemma: characters, spaces as ▁, unknown ones spelt as <0x..>."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    latin = TEXT.encode("ascii", "ignore").decode()
    specials = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, show_progress=False, max_token_length=8)
    tokenizer.train_from_iterator([latin] * 3, trainer)
    layout = tokenizer.to_str()
    fresh = Tokenizer.from_str(_without_added(layout, keep=("<unk>", "<s>")))
    fresh.add_special_tokens([AddedToken(content, normalized=False) for content in SPECIALS])
    return fresh.to_str()


def _without_added(layout: str, keep: tuple[str, ...]) -> str:
    import json

    found = json.loads(layout)
    found["added_tokens"] = [token for token in found["added_tokens"] if token["content"] in keep]
    return json.dumps(found)


def tokenizer(kind: str = "byte_level") -> Any:
    from transformers import PreTrainedTokenizerFast

    layout = byte_level_json() if kind == "byte_level" else byte_fallback_json()
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(layout),
        eos_token="<|im_end|>",
        pad_token="<pad>",
        bos_token="<|im_start|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def module(family: str, vocabulary: int = 512, seed: int = 0) -> Any:
    """A model of 6 layers, width 32, in evaluation mode; special ids are those of the byte-level tokenizer."""
    import transformers

    names = {
        "phi3": ("Phi3", {"sliding_window": 8, "pad_token_id": None}),
        "phi4mini": ("Phi3", {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 64, "tie_word_embeddings": True}),
        "llama31": ("Llama", {"rope_parameters": _LLAMA31, "tie_word_embeddings": False}),
        "smollm": ("Llama", {"tie_word_embeddings": True}),
        "smollm3": ("SmolLM3", {}),
        "qwen2": ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3}),
        "qwen3": ("Qwen3", {"head_dim": 8, "tie_word_embeddings": True}),
        "gemma2": ("Gemma2", {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8, "final_logit_softcapping": 0.5}),
        "gemma3": ("Gemma3Text", {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8, "final_logit_softcapping": 0.5}),
    }
    name, extra = names[family]
    ids = {token: number for token, number in tokenizer().get_added_vocab().items() if token in SPECIALS}
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "bos_token_id": ids["<|im_start|>"],
        "eos_token_id": [ids["<|im_end|>"], ids["<|im_start|>"]],
        "pad_token_id": ids["<pad>"],
    }
    config = getattr(transformers, f"{name}Config")(**(settings | extra))
    config.image_token_id = ids["<|image|>"]
    architecture = getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = architecture(config)
    built.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|im_start|>"]]
    built.generation_config.pad_token_id = ids["<pad>"]
    return built.eval()


def module_with_images(vocabulary: int = 512, seed: int = 0) -> Any:
    """Gemma 3 from 4B on: a causal language model inside one that sees images too, whose config holds that of the text apart."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = module("gemma3", vocabulary).config
    sight = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config=text.to_dict() | {"final_logit_softcapping": None},
        vision_config=sight,
        mm_tokens_per_image=4,
        image_token_id=text.image_token_id,
        pad_token_id=text.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = Gemma3ForConditionalGeneration(config)
    built.generation_config.eos_token_id = text.eos_token_id
    return built.eval()


# Phi-4-mini's kind, at its size: rotary factors of each pair, one set for short texts and one for long ones.
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.2],
    "long_factor": [2.0, 3.0, 4.0],
    "original_max_position_embeddings": 64,
}

_LLAMA31 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
