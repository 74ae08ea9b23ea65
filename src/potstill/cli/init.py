"""`potstill init`: a short interview, and a commented spec to start from."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import yaml
from pydantic import BaseModel

from potstill.errors import UsageError
from potstill.spec import RunSpec, TaskType
from potstill.store.atomic import write_jsonl, write_text

SPEC_NAME = "potstill.yaml"
_SPLITS = ("train", "validation", "test")
_TEACHER = "Teacher: a name of `potstill models`, a hub id or a path"
_STUDENT = "Student: a name of `potstill models`, a hub id or a path"
_WIDTH = 120
_SAMPLE_ROWS = {"train": range(6), "validation": range(6, 8), "test": range(8, 10)}


@dataclass(frozen=True)
class Answers:
    """What the interview found out; the defaults are those of `--yes`."""

    name: str
    task: str = "nli"
    train: str = "train.jsonl"
    validation: str = "validation.jsonl"
    test: str = "test.jsonl"
    teacher: str = "deepseek-v3"
    student: str = "phi-4-mini"
    carve_layers: int | None = None
    sample: bool = False

    def with_sample(self) -> Answers:
        """The tiny data set in place of rows of one's own, and models that need no key."""
        return replace(self, teacher="smollm2-135m-instruct", student="", carve_layers=10, sample=True)

    def sections(self) -> dict[str, Any]:
        """The parts of the spec that were asked for."""
        files = {split: path for split in _SPLITS if (path := getattr(self, split))}
        labels = {"labels_from": "data"} if self.task == "nli" else {}
        student: dict[str, Any] = {"model": self.student} if self.student else {}
        if self.carve_layers is not None:
            student["carve"] = {"layers": self.carve_layers, "vocabulary": "data"}
        short = {"evaluation": {"latency_rows": 4, "concurrency": [1, 4], "throughput_rows": 4}} if self.sample else {}
        return {
            "name": self.name,
            "task": {"type": self.task} | labels,
            "data": files,
            "teacher": {"model": self.teacher},
            "student": student,
            **short,
        }


def init(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the spec is written.")] = Path(),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the defaults.")] = False,
    sample: Annotated[bool, typer.Option("--sample", help="Write a tiny data set too, and a spec that runs without a key.")] = False,
) -> None:
    """Write a commented run spec, after a short interview."""
    answers = Answers(name=_name_of(folder))
    if sample:
        answers = answers.with_sample()
    if not yes and sys.stdin.isatty():
        answers = interview(answers)
    elif not yes and not sample:
        raise UsageError("there is no terminal to ask questions at; `potstill init --yes` takes the defaults")
    files = [SPEC_NAME, *(f"{split}.jsonl" for split in _SPLITS)] if answers.sample else [SPEC_NAME]
    for name in files:
        if (folder / name).exists():
            raise UsageError(f"{folder / name}: is there already, and is not overwritten; remove it, or name another folder")
    if answers.sample:
        for split in _SPLITS:
            write_jsonl(folder / f"{split}.jsonl", sample_rows(split))
    write_text(folder / SPEC_NAME, spec_text(answers.sections()))
    path = folder / SPEC_NAME
    typer.echo(f"wrote {', '.join(str(folder / name) for name in files)}")
    if answers.sample:
        typer.echo("The sample shows how a run works, in a minute. Its teacher is too small for labels: see `potstill demo` for a result.")
    typer.echo(f"next: `potstill check {path}`, then `potstill run {path}`")


def interview(answers: Answers) -> Answers:
    """Ask for what a spec cannot do without; who has no rows yet is offered the sample."""
    if not answers.sample and not typer.confirm(
        "Have you rows already? (no: a tiny sample is written, to see how a run works)", default=True
    ):
        answers = answers.with_sample()
    if answers.sample:
        teacher = typer.prompt(_TEACHER, default=answers.teacher)
        student = typer.prompt(f"{_STUDENT} (empty: carved out of the teacher)", default="", show_default=False)
        return replace(answers, teacher=teacher, student=student, carve_layers=None if student else answers.carve_layers)
    tasks = get_args(TaskType)
    task = ""
    while task not in tasks:
        task = typer.prompt(f"What kind of task? ({', '.join(tasks)})", default=answers.task)
    optional = "(empty: split off the training rows)"
    return Answers(
        name=answers.name,
        task=task,
        train=typer.prompt("Training rows, a JSONL, CSV or Parquet file", default=answers.train),
        validation=typer.prompt(f"Validation rows {optional}", default="", show_default=False),
        test=typer.prompt(f"Test rows {optional}", default="", show_default=False),
        teacher=typer.prompt(_TEACHER, default=answers.teacher),
        student=typer.prompt(_STUDENT, default=answers.student),
    )


def sample_rows(split: str) -> Iterator[dict[str, Any]]:
    """The rows of one split of the sample data set: messages to a parcel service, and what they are about."""
    sample = json.loads(resources.files("potstill.cli").joinpath("sample.json").read_text(encoding="utf-8"))
    for number in _SAMPLE_ROWS[split]:
        for label, texts in sample["labels"].items():
            messages = [{"role": "system", "content": sample["system"]}, {"role": "user", "content": texts[number]}]
            yield {"id": f"{label.replace(' ', '-')}-{number}", "messages": messages, "reference": label}


def spec_text(sections: dict[str, Any]) -> str:
    """A spec in YAML: what `sections` gives is set, every other field stands commented out at its default, explained."""
    lines = ["# A run of Potstill: a teacher, a task, data, a student. Paths are relative to this file's folder."]
    lines += ["# Lines that are commented out show the defaults. `potstill check` finds mistakes before anything is spent.", ""]
    for name, field in RunSpec.model_fields.items():
        section = _section(field.annotation)
        given = sections.get(name)
        lines += _wrapped("# ", (section.__doc__ if section else field.description) or "")
        if section is None:
            lines.append(_pair(name, given) if given is not None else f"# {_pair(name, field.default)}")
        else:
            # A header over nothing but comments is fine, and so is any of them alone without its `#`.
            lines.append(f"{name}:")
            lines += _section_lines(section, given or {})
        lines.append("")
    return "\n".join(lines)


def _section_lines(section: type[BaseModel], given: dict[str, Any]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        default = field.get_default(call_default_factory=True)
        value = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
        pair = _pair(name, given[name]) if name in given else f"# {_pair(name, value)}"
        yield from _wrapped(f"  {pair}  # ", f"{field.description} {_keys_of(field.annotation)}")


def _pair(name: str, value: Any) -> str:
    plain = json.loads(json.dumps(value, default=str))
    in_brackets = yaml.safe_dump([plain], default_flow_style=True, width=10_000, allow_unicode=True).strip()
    return f"{name}: {in_brackets[1:-1]}"


def _section(annotation: object) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _keys_of(annotation: object) -> str:
    """The keys of a section that need not be there: nothing else in the file tells them."""
    inner = [section for choice in get_args(annotation) if (section := _section(choice)) is not None]
    return "".join(f"Its keys: {', '.join(section.model_fields)}." for section in inner)


def _wrapped(start: str, text: str) -> list[str]:
    indent = " " * (len(start) - len(start.lstrip()))
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=f"{indent}#     ", break_long_words=False, break_on_hyphens=False
    )


def _name_of(folder: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.absolute().name).strip("-._")
    return name[:100] or "distillation"
