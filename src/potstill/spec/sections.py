"""What a run is: one frozen pydantic model a section. A default is a vetted setting; its source stands in the field's text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Auto = Literal["auto"]
TaskType = Literal["nli", "conversation", "qa", "math", "summarization", "translation"]
_CARRIES_MORE_THAN_AN_ADDRESS = re.compile(r"[?#]|^[^/]*//[^/]*@")
_NAMES_A_SECRET = re.compile(r"authorization|api[-_]?key|subscription[-_]key|secret|password|cookie|[-_]token$|^token$", re.IGNORECASE)
_IS_A_SECRET = re.compile(r"\s*(bearer|basic)\s|\s*sk-", re.IGNORECASE)
_WHERE_A_KEY_BELONGS = "put a key into an environment variable, and that variable's name into `api_key_env`"
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """Base of every section: unknown keys are refused, numbers are finite, nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_their_defaults(cls, raw: Any) -> Any:
        """A header over nothing but comments is null in YAML, and means the section as it comes."""
        if not isinstance(raw, dict):
            return raw
        return {name: value for name, value in raw.items() if value is not None or not cls.is_section(name)}

    @classmethod
    def is_section(cls, name: object) -> bool:
        """Whether the field `name` holds a section that is always there."""
        annotation = cls.model_fields[name].annotation if isinstance(name, str) and name in cls.model_fields else None
        return isinstance(annotation, type) and issubclass(annotation, Section)


class TaskSpec(Section):
    """What is asked, and what counts as an answer."""

    type: TaskType
    """The kind of task. `nli` is any closed label set: inference, intent routing, moderation."""
    labels: tuple[str, ...] | None = None
    """The labels of an `nli` task."""
    labels_from: Literal["data"] | None = None
    """`data`: the labels are the references that the training rows carry."""
    answer: Literal["extractive", "open", "choice"] = "extractive"
    """For `qa`: a span of the passage, free text, or the letter of a choice."""
    instruction: str | None = None
    """System prompt for rows that bring none of their own."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens, of teacher and student alike; by default the task type's own limit."""

    @model_validator(mode="after")
    def _labels_belong_to_nli(self) -> TaskSpec:
        if self.type == "nli":
            if (self.labels is None) == (self.labels_from is None):
                raise ValueError("an nli task needs its labels: give either `labels: [...]` or `labels_from: data`")
        elif self.labels is not None or self.labels_from is not None:
            raise ValueError(f"labels belong to nli tasks, not to {self.type}: remove `labels` and `labels_from`")
        return self


class ColumnsSpec(Section):
    """Which column of a CSV or Parquet file holds what."""

    prompt: str = "prompt"
    """The user's text."""
    completion: str | None = None
    """The gold answer; read as `reference`."""
    system: str | None = None
    """A system prompt of the row's own."""
    id: str | None = None
    """The row's name; by default its number."""
    group: str | None = None
    """Rows of one group stay in one split."""
    rationale: str | None = None
    """Why the gold answer holds."""
    tags: str | None = None
    """Comma-separated tags."""


class DataSpec(Section):
    """The rows. A missing validation or test file is split off the training rows."""

    train: Path
    """JSONL, CSV or Parquet: rows with `messages`, `prompt`/`completion`, or named columns."""
    validation: Path | None = None
    """Rows that choose the best checkpoint."""
    test: Path | None = None
    """Rows that are sealed until the final evaluation."""
    columns: ColumnsSpec = ColumnsSpec()
    """Column names of CSV and Parquet files."""
    validation_fraction: Fraction = 0.1
    """Share of the training rows that is split off where `validation` is missing."""
    test_fraction: Fraction = 0.1
    """Share of the training rows that is split off where `test` is missing."""
    test_duplicates: Literal["auto", "error", "drop", "allow"] = "auto"
    """Training or validation rows that stand in the test split too, exactly or nearly: stop (`error`), leave them out of training and
    validation (`drop`), or keep them (`allow`). `auto`: `error` for a test file of its own, `drop` where the test rows were split off."""
    near_duplicate: float = Field(default=0.8, gt=0.0, le=1.0)
    """Prompts whose three-word shingles are at least this similar (Jaccard) are near duplicates (Lee et al. 2021, arXiv 2107.06499)."""


class PriceSpec(Section):
    """What an endpoint asks for a million tokens, in dollars."""

    input_per_million: float = Field(ge=0.0)
    """Dollars for a million tokens read."""
    output_per_million: float = Field(ge=0.0)
    """Dollars for a million tokens written."""


class WeightsSpec(Section):
    """How local weights are loaded."""

    model: str | None = Field(default=None, min_length=1)
    """Catalogue name, hub id, folder, or GGUF file."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    chat_template: Path | None = None
    """A Jinja file, for tokenizers that bring no chat template."""
    trust_remote_code: bool = False
    """Run Python code that a model folder brings. Off, because it is somebody else's code on your machine."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights in memory; `auto` is float32 on CPUs and bfloat16 on accelerators that have it."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""


class TeacherSpec(WeightsSpec):
    """The model that answers: an OpenAI-compatible endpoint, or a local model."""

    # What is refused here may be a secret in the wrong place.
    model_config = ConfigDict(hide_input_in_errors=True)

    model: str = Field(min_length=1)
    """Catalogue name, hub id, folder, GGUF file, or the name that the endpoint knows. `echo` is a fake for dry runs."""
    base_url: str | None = None
    """Address of an OpenAI-compatible endpoint, `/v1` included. Absent: the catalogue's, or a local model."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key."""
    api_key_file: Path | None = None
    """A file that holds the key."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further headers of each call. Not for secrets: the spec is written into the run folder."""
    timeout_s: float = Field(default=120.0, gt=0.0)
    """Seconds for one call, connecting included."""
    max_attempts: int = Field(default=6, ge=1)
    """How often one call is tried when the endpoint is busy or unreachable."""
    price: PriceSpec | None = None
    """Overrides the catalogue's price."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """Sampling temperature; 0 is greedy, the usual choice for labels."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus sampling."""

    @field_validator("base_url")
    @classmethod
    def _address_without_secrets(cls, address: str | None) -> str | None:
        if address is not None and _CARRIES_MORE_THAN_AN_ADDRESS.search(address):
            raise ValueError(f"an address holds no user, password, `?query` or `#fragment`; {_WHERE_A_KEY_BELONGS}")
        return address

    @field_validator("api_key_env")
    @classmethod
    def _name_of_a_variable(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"what stands there is no name of an environment variable (letters, digits, `_`); {_WHERE_A_KEY_BELONGS}")
        return name

    @field_validator("headers")
    @classmethod
    def _headers_without_secrets(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not (re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) and value.isprintable()):
                raise ValueError("a header is a name of letters, digits and `-`, and one line of text")
            if _NAMES_A_SECRET.search(name) or _IS_A_SECRET.match(value):
                raise ValueError(f"the header `{name}` holds a secret, and the spec is written into the run folder; {_WHERE_A_KEY_BELONGS}")
        return headers

    @model_validator(mode="after")
    def _one_key(self) -> TeacherSpec:
        if self.api_key_env and self.api_key_file:
            raise ValueError("give the key once: `api_key_env` or `api_key_file`, not both")
        return self


class CarveSpec(Section):
    """How a student is cut out of its teacher."""

    layers: int = Field(ge=1)
    """How many layers stay: evenly spaced, the first and the last among them."""
    vocabulary: Literal["full", "data"] = "full"
    """`data` keeps the tokens that the rows and the teacher's answers use, and single bytes: any text that the full tokenizer gives back
    unchanged still comes back unchanged."""


class StudentSpec(WeightsSpec):
    """The model that is trained."""

    carve: CarveSpec | None = None
    """Cut the student out of `model`, or, where that is absent, out of the teacher."""

    @model_validator(mode="after")
    def _some_origin(self) -> StudentSpec:
        if self.model is None and self.carve is None:
            raise ValueError("say where the student comes from: `model: <name>`, or `carve: {layers: 8}` to cut it out of the teacher")
        return self


class GenerationSpec(Section):
    """How the teacher is asked."""

    concurrency: int = Field(default=16, ge=1, le=4096)
    """Calls in flight at once, for endpoints."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts answered together, for local models."""


class GatesSpec(Section):
    """Which answers are kept. On by default are those that evidence supports."""

    format: bool = True
    """Drop answers that the task cannot parse: no label, no number, nothing at all."""
    refusal: bool = True
    """Drop answers that decline to answer."""
    truncation: bool = True
    """Drop answers that ran into the token limit."""
    verifier: bool = True
    """Drop answers that the task can prove wrong: math against a gold value, a span that is not in the passage."""


class TargetsSpec(Section):
    """What the student is pulled to."""

    positions: Literal["answer", "all"] = "answer"
    """`answer`: tokens of the answer alone. `all`: prompt tokens too (needs the teacher's probabilities), so that a carved student heals
    on fewer rows."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Temperature of both distributions in the loss (1: the teacher as it is)."""


class TrainingSpec(Section):
    """How the student is trained."""

    objective: Literal["auto", "sft", "logits"] = "auto"
    """`sft`: the teacher's text. `logits`: its probabilities (forward KL). `auto`: `logits` where the teacher is local and shares the
    student's tokenizer, else `sft`."""
    learning_rate: Annotated[float, Field(gt=0.0)] | Auto = "auto"
    """Peak rate; `auto` follows `training.settings.auto_learning_rate`."""
    batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Rows a step; `auto` follows `training.settings.auto_batch_size`."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows in memory at once; by default the whole batch."""
    epochs: float = Field(default=3.0, gt=0.0)
    """Passes over the accepted rows."""
    warmup_ratio: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the steps in which the rate rises; it falls linearly after."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW's decay; 0 for short fine-tunings, where it hardly acts."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """Gradients are clipped to this norm."""
    max_length: int = Field(default=1024, ge=8)
    """Longest row in tokens, prompt and answer; longer rows are left out and counted."""
    evaluations: int = Field(default=4, ge=1)
    """How often in the run the validation metric is taken; the best checkpoint wins, of equal ones the last."""
    validation_rows: int = Field(default=64, ge=1)
    """At most so many validation rows choose the checkpoint."""
    patience: int = Field(default=2, ge=1)
    """Stop after so many evaluations in a row without a better metric. With 2 of 4, only a student that is past its best after the
    first quarter is stopped: while the rate still falls, a metric that stands still often rises again."""
    save_minutes: float = Field(default=2.0, gt=0.0)
    """A checkpoint for resuming is written at least so often."""


class EvaluationSpec(Section):
    """How teacher, baseline and student are compared."""

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | Auto = "auto"
    """Names of metrics; `auto`: those of the task type."""
    systems: tuple[Literal["teacher", "baseline", "student"], ...] = Field(default=("teacher", "baseline", "student"), min_length=1)
    """Who is measured."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Level of the intervals."""
    resamples: int = Field(default=10_000, ge=100)
    """Bootstrap resamples (10,000: Efron & Tibshirani 1993, §13)."""
    latency_rows: int = Field(default=12, ge=1)
    """Test rows answered one by one to measure latency."""


class RunSpec(Section):
    """One run: a teacher, a task, data, a student. Paths are relative to the spec's own folder."""

    model_config = ConfigDict(hide_input_in_errors=True)  # as in TeacherSpec

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Names the run's folder: letters, digits, `.`, `_`, `-`."""
    task: TaskSpec
    data: DataSpec
    teacher: TeacherSpec
    student: StudentSpec
    generation: GenerationSpec = GenerationSpec()
    gates: GatesSpec = GatesSpec()
    targets: TargetsSpec = TargetsSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Splits, sampling, initial order of the rows and bootstrap all start from it."""

    @model_validator(mode="after")
    def _sections_fit_together(self) -> RunSpec:
        misfits = []
        if self.student.model is None and self.teacher.base_url is not None:
            misfits.append("a student is carved out of a local model, but the teacher is an endpoint: name one in `student.model`")
        if self.targets.positions == "all" and self.training.objective == "sft":
            misfits.append(
                "`targets.positions: all` needs the teacher's probabilities: set `training.objective: logits`, or `positions: answer`"
            )
        if misfits:
            raise ValueError("\n".join(misfits))
        return self
