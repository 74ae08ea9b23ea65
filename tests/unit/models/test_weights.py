"""What is loaded, what is refused, and how each refusal is put."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from potstill.errors import ModelError
from potstill.models.folder import count_parameters
from potstill.models.gguf_header import read_gguf_header
from potstill.models.weights import Weights, load_weights
from potstill.spec.sections import WeightsSpec
from tiny import edit_json, tiny_gguf, tiny_llama, without


def load(path: Path, **settings: object) -> Weights:
    return load_weights(WeightsSpec(model=str(path), **settings))  # type: ignore[arg-type]


@pytest.fixture
def folder(tiny_teacher: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_teacher, tmp_path / "model"))


def pickled(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def truncated(folder: Path) -> Path:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def beheaded(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"\xff" * 200)
    return folder


def without_a_layer(folder: Path) -> Path:
    edit_json(folder / "config.json", num_hidden_layers=5)
    return folder


def of_another_size(folder: Path) -> Path:
    edit_json(folder / "config.json", hidden_size=48)
    return folder


def with_config(**changes: object) -> Callable[[Path], Path]:
    def change(folder: Path) -> Path:
        edit_json(folder / "config.json", **changes)
        return folder

    return change


def with_file(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return write


def with_bad_merges(folder: Path) -> Path:
    layout = json.loads((folder / "tokenizer.json").read_text())
    layout["model"]["merges"] = [["no such", "tokens"]]
    (folder / "tokenizer.json").write_text(json.dumps(layout))
    return folder


def header(**tensor: object) -> bytes:
    written = json.dumps({"a": tensor}).encode()
    return len(written).to_bytes(8, "little") + written


def of_unknown_architecture(folder: Path) -> Path:
    edit_json(folder / "config.json", model_type="quux", architectures=["QuuxForCausalLM"])
    return folder


def without_its_index(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / "model-00002-of-00003.safetensors")
    return folder


def with_own_code(folder: Path) -> Path:
    edit_json(folder / "config.json", model_type="quux", auto_map={"AutoModelForCausalLM": "quux.Quux"})
    (folder / "quux.py").write_text("raise SystemExit('code of a stranger ran')")
    return folder


def with_broken_config(folder: Path) -> Path:
    (folder / "config.json").write_text("{")
    return folder


def an_adapter(folder: Path) -> Path:
    (folder / "config.json").rename(folder / "adapter_config.json")
    return folder


def with_missing_shards(folder: Path) -> Path:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-00002-of-00002.safetensors")
    return folder


def with_a_larger_tokenizer(folder: Path) -> Path:
    layout = json.loads((folder / "tokenizer.json").read_text())
    more = [dict(layout["added_tokens"][0], id=600 + n, content=f"<|more{n}|>") for n in range(50)]
    edit_json(folder / "tokenizer.json", added_tokens=[*layout["added_tokens"], *more])
    return folder


def only_gguf(folder: Path) -> Path:
    for path in folder.iterdir():
        path.unlink()
    (folder / "some.gguf").write_bytes(b"GGUF")
    return folder


def a_gguf(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "some.gguf").write_bytes(content)
        return folder / "some.gguf"

    return write


def u64(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


GGUF_3 = b"GGUF\x03\0\0\0"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no folder": (lambda folder: folder / "nowhere", r"there is no such folder or file"),
    "a file": (lambda folder: folder / "config.json", r"is a file; name the model's folder"),
    "no config": (lambda folder: without(folder, "config.json"), r"has no config.json, so it is not a model folder"),
    "broken config": (with_broken_config, r"config.json: cannot be read as JSON"),
    "no tokenizer": (lambda folder: without(folder, "tokenizer.json"), r"has no tokenizer .*copy those of the model"),
    "no weights": (lambda folder: without(folder, "model.safetensors"), r"has no weights \(\*\.safetensors\)"),
    "pickle": (pickled, r"its weights are a pickle \(pytorch_model.bin\).*safetensors and GGUF only.*save_pretrained"),
    "truncated": (truncated, r"model.safetensors: is cut off: [\d,]+ bytes of [\d,]+ are there"),
    "not safetensors": (beheaded, r"is not a safetensors file, or damaged"),
    "missing layer": (without_a_layer, r"9 tensors that LlamaForCausalLM needs are not in its weights, model.layers.4"),
    "another size": (of_another_size, r"its weights have other shapes than its config.json says"),
    "heads that do not divide": (with_config(num_attention_heads=3), r"config.json: cannot be used: .*32.*not a multiple of .*3"),
    "no heads": (with_config(num_attention_heads=0), r"`num_attention_heads` is 0, must be a whole number above 0"),
    "layers in words": (with_config(num_hidden_layers="four"), r'`num_hidden_layers` is "four", must be a whole number'),
    "no width": (with_config(hidden_size=None), r"`hidden_size` is null, must be a whole number"),
    "a list of kinds": (with_config(model_type=["llama"]), r'`model_type` is \["llama"\], must be a name'),
    "inner config a list": (with_config(text_config=[1]), r"`text_config` must be an object"),
    "deep config": (with_file("config.json", "[" * 100_000), r"config.json: cannot be read as JSON"),
    "bad merges": (with_bad_merges, r"its tokenizer cannot be loaded"),
    "header without places": (with_file("model.safetensors", header(dtype="F32", shape=[2])), r"is not a safetensors file, or damaged"),
    "header without shapes": (with_file("model.safetensors", header(data_offsets=[0, 8])), r"is not a safetensors file, or damaged"),
    "index of numbers": (with_file("model.safetensors.index.json", '{"weight_map": {"a": 1}}'), r"is not an index of weights"),
    "unknown architecture": (
        of_unknown_architecture,
        r"architecture 'quux' is not one that the installed transformers can write text with",
    ),
    "another kind": (with_config(model_type="t5"), r"architecture 't5' is not one that the installed transformers can write text with"),
    "no index": (without_its_index, r"2 of 3 weight files are missing"),
    "own code": (with_own_code, r"brings Python code of its own; read it, then set `trust_remote_code: true`"),
    "adapter": (an_adapter, r"is an adapter, not a whole model; merge it"),
    "missing shards": (with_missing_shards, r"1 of 2 weight files are missing, model-00001-of-00002.safetensors first"),
    "larger tokenizer": (with_a_larger_tokenizer, r"its tokenizer has \d+ tokens, its embedding \d+"),
    "only gguf": (only_gguf, r"has no config.json, but GGUF files; name one of them: .*some.gguf"),
    "empty gguf": (a_gguf(b""), r"some.gguf: is not a GGUF file, or damaged"),
    "not gguf": (a_gguf(b"hello world"), r"some.gguf: is not a GGUF file, or damaged"),
    "gguf of another version": (a_gguf(b"GGUF\x01" + b"\0" * 20), r"is GGUF version 1; versions 2 and 3 can be read"),
    "gguf with endless entries": (a_gguf(GGUF_3 + u64(0, 1 << 40)), r"is cut off: its header goes on after its 24 bytes"),
    "gguf with a kind of value that is none": (a_gguf(GGUF_3 + u64(0, 1, 1) + b"a" + b"\x63\0\0\0"), r"is not a GGUF file, or damaged"),
    "gguf with a tensor of endless dimensions": (a_gguf(GGUF_3 + u64(1, 0, 1) + b"a" + b"\xff" * 4), r"is not a GGUF file, or damaged"),
    "gguf of nothing": (a_gguf(GGUF_3 + u64(0, 0)), r"its tokenizer cannot be loaded"),
    "no gguf": (lambda folder: folder / "nowhere.gguf", r"nowhere.gguf: there is no such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_model_gets_one_clear_message(case: str, folder: Path) -> None:
    spoil, message = BAD[case]
    with pytest.raises(ModelError, match=message) as caught:
        load(spoil(folder))
    assert "\n" not in str(caught.value)


def test_a_folder_loads_in_float32_on_the_cpu_ready_for_inference(tiny_teacher: Path) -> None:
    weights = load(tiny_teacher, device="cpu")
    assert weights.folder == tiny_teacher
    assert weights.module.dtype == torch.float32
    assert not weights.module.training


def test_another_number_format_is_honoured(tiny_teacher: Path) -> None:
    assert load(tiny_teacher, dtype="bfloat16").module.dtype == torch.bfloat16


def test_identity_is_that_of_the_content_not_of_the_place(tiny_teacher: Path, folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"whatever")
    assert load(folder).identity == load(tiny_teacher).identity


def test_identity_changes_with_weights_tokenizer_template_and_format(tiny_teacher: Path, folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "other.jinja"
    template.write_text("{{ messages[0]['content'] }}")
    found = {load(tiny_teacher).identity, load(folder, chat_template=template).identity, load(folder, dtype="bfloat16").identity}
    found.add(load(tiny_llama(tmp_path / "seed", seed=1)).identity)
    edit_json(folder / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    found.add(load(folder).identity)
    assert len(found) == 5


def test_a_chat_template_of_ones_own_takes_the_place_of_the_tokenizers(tiny_teacher: Path, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[0]['content'] }}!")
    assert load(tiny_teacher, chat_template=template).tokenizer.chat_template == "{{ messages[0]['content'] }}!"


def test_a_missing_template_file_is_named(tiny_teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jinja").write_text("")
    (tmp_path / "latin.jinja").write_bytes(b"caf\xe9")
    for name, reason in (("none", "cannot be read: no such file"), ("empty", "is empty"), ("latin", "is not UTF-8 .byte 3.")):
        with pytest.raises(ModelError, match=rf"{name}.jinja: `chat_template` names this file, but it {reason}"):
            load(tiny_teacher, chat_template=tmp_path / f"{name}.jinja")


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str, tiny_teacher: Path) -> None:
    with pytest.raises(ModelError, match=rf'device "{device}" is not to be had here.*use `device: auto` or `cpu`'):
        load(tiny_teacher, device=device)


def test_a_gguf_file_computes_what_its_folder_computes(tiny_teacher: Path, tmp_path: Path) -> None:
    original, dequantised = load(tiny_teacher), load(tiny_gguf(tmp_path / "tiny.gguf", tiny_teacher))
    ids = original.tokenizer("The quick brown fox jumps over the lazy dog", return_tensors="pt")["input_ids"]
    assert dequantised.tokenizer("The quick brown fox jumps over the lazy dog", return_tensors="pt")["input_ids"].tolist() == ids.tolist()
    with torch.inference_mode():
        assert torch.allclose(dequantised.module(ids).logits, original.module(ids).logits, atol=1e-5)
    assert dequantised.folder is None


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 1.0])
def test_a_gguf_file_that_is_cut_off_anywhere_is_told_with_its_size(share: float, tiny_teacher: Path, tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", tiny_teacher)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size) - 1])
    with pytest.raises(ModelError, match=rf"tiny.gguf: is cut off.*{path.stat().st_size:,} bytes.*download it again"):
        load(path)


def test_the_header_of_a_gguf_file_says_what_its_folder_says(tiny_teacher: Path, tmp_path: Path) -> None:
    header = read_gguf_header(tiny_gguf(tmp_path / "tiny.gguf", tiny_teacher))
    assert (header.parameters, header.context, header.layers) == (count_parameters(tiny_teacher), 512, 4)


def test_a_gguf_file_can_be_cast_and_saved_as_an_ordinary_folder(tiny_teacher: Path, tmp_path: Path) -> None:
    weights = load(tiny_gguf(tmp_path / "tiny.gguf", tiny_teacher))
    weights.module.double().float()
    weights.module.save_pretrained(tmp_path / "saved")
    weights.tokenizer.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        assert torch.equal(again.module(ids).logits, weights.module(ids).logits)
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())


def test_parameters_are_counted_without_loading(tiny_teacher: Path) -> None:
    assert count_parameters(tiny_teacher) == sum(p.numel() for p in load(tiny_teacher).module.parameters())


def test_loading_leaves_the_terminal_alone(tiny_teacher: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(tiny_teacher)
    assert capfd.readouterr() == ("", "")


def test_without_torch_the_extra_is_named(tiny_teacher: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None  # as if it were not installed
from potstill.errors import ModelError
from potstill.models.load import load_local
from potstill.spec.sections import WeightsSpec
try:
    load_local(WeightsSpec(model={str(tiny_teacher)!r}))
except ModelError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "local models need torch: pip install 'potstill[train]'" in said
