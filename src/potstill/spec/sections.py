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
    """Longest answer in tokens, of teacher and student alike, reasons aside; by default the task type's own limit."""
    reasons: bool = False
    """Answers come after reasons, on a last line `Answer: ...`; on where `generation.prompting.learn` is `rationale_then_answer`."""
    reasoning_tokens: int | None = Field(default=None, ge=1)
    """Room for the student's reasons, besides the answer's own; by default the teacher's (`generation.prompting.reasoning_tokens`)."""
    answer_schema: dict[str, Any] | None = None
    """A JSON Schema that answers obey: endpoints are held to it (`response_format`), and the gate `format` drops what breaks it. Local
    models are not held to it."""

    @field_validator("answer_schema")
    @classmethod
    def _a_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            from jsonschema.exceptions import SchemaError
            from jsonschema.validators import Draft202012Validator, validator_for

            if not isinstance(schema.get("$schema", ""), str):
                raise ValueError("is no JSON Schema: its `$schema` must be text")
            try:
                validator_for(schema, default=Draft202012Validator).check_schema(schema)
            except SchemaError as error:
                raise ValueError(f"is no JSON Schema: {error.message}") from None
        return schema

    @model_validator(mode="after")
    def _json_stands_alone(self) -> TaskSpec:
        if self.answer_schema is not None and self.reasons:
            raise ValueError(
                "`answer_schema` wants JSON alone, and `reasons` (on where `generation.prompting.learn` is `rationale_then_answer`) puts "
                "words before it: take one of the two"
            )
        return self

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
    """What answers cost, in dollars: by tokens, or by the hour of the machine that gives them."""

    input_per_million: float | None = Field(default=None, ge=0.0)
    """Dollars for a million tokens read."""
    output_per_million: float | None = Field(default=None, ge=0.0)
    """Dollars for a million tokens written."""
    per_gpu_hour: float | None = Field(default=None, ge=0.0)
    """Dollars for an hour of one accelerator, where you run the model yourself. A cap on dollars is then seen between calls, and those in
    flight may pass it."""
    gpus: int = Field(default=1, ge=1)
    """How many accelerators serve it."""

    @model_validator(mode="after")
    def _one_way_to_count(self) -> PriceSpec:
        tokens = (self.input_per_million is None) + (self.output_per_million is None)
        if tokens == 1 or (tokens == 0) == (self.per_gpu_hour is not None):
            raise ValueError("give a price by tokens (`input_per_million` and `output_per_million`), or by the hour (`per_gpu_hour`)")
        return self


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
    name: str | None = None
    """What reports call it; by default `model`."""
    replay: Path | None = None
    """Recorded answers of this model (a ledger, chat rows, a batch's output or a stored-completions export): nobody is asked."""
    base_url: str | None = None
    """Address of an OpenAI-compatible endpoint, `/v1` included. Absent: the catalogue's, or a local model."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key."""
    api_key_file: Path | None = None
    """A file that holds the key."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further headers of each call. Not for secrets: the spec is written into the run folder."""
    api_version: str | None = None
    """Azure's `api-version`; the key then goes into Azure's own header. `base_url` is the deployment's address there."""
    timeout_s: float = Field(default=120.0, gt=0.0)
    """Seconds for one call, connecting included."""
    connect_timeout_s: float = Field(default=15.0, gt=0.0)
    """Seconds for connecting."""
    max_attempts: int = Field(default=6, ge=1)
    """How often one call is tried when the endpoint is busy or unreachable."""
    patience_minutes: float = Field(default=5.0, ge=0.0)
    """The run stops when the endpoint has given nothing but failures for so long; until then it is tried ever more rarely."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """The endpoint's limit of calls; none is broken in any minute."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """The endpoint's limit of tokens read and written."""
    sampling: bool | None = None
    """Whether the endpoint takes `temperature`, `top_p` and `seed`; by default the catalogue's word, else yes."""
    several: bool = True
    """Whether samples of one question may be asked for in one call (`n`), so that its prompt is paid once. Noticed where it fails."""
    price: PriceSpec | None = None
    """Overrides the catalogue's price."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """Sampling temperature; 0 is greedy, the usual choice for labels."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus sampling."""
    weight: float = Field(default=1.0, gt=0.0)
    """Among several teachers: its share of the rows."""
    tags: tuple[str, ...] = ()
    """Among several teachers: the tags of the rows that it answers; none: all other rows."""

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.name or self.model

    @model_validator(mode="before")
    @classmethod
    def _replayed_without_a_model(cls, raw: object) -> object:
        return {"model": "replay", **raw} if isinstance(raw, dict) and raw.get("replay") is not None else raw

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


class BudgetSpec(Section):
    """The most that a run may spend on its teachers, restarts and evaluation included. No cap is ever passed."""

    dollars: float | None = Field(default=None, gt=0.0)
    """Needs a known price of every teacher."""
    tokens: int | None = Field(default=None, ge=1)
    """Read and written."""
    calls: int | None = Field(default=None, ge=1)
    """Each try counts."""
    minutes: float | None = Field(default=None, gt=0.0)
    """Of asking."""
    when_reached: Literal["stop", "go_on"] = "stop"
    """`go_on`: train on what was answered until then."""


class PilotSpec(Section):
    """The first rows are asked before the rest is bought, where there are at least four times as many rows to buy."""

    rows: int = Field(default=16, ge=0)
    """How many; 0 for no pilot."""
    pass_rate: float = Field(default=0.5, ge=0.0, le=1.0)
    """The run stops where a smaller share of them passes the gates."""


class PromptingSpec(Section):
    """What the teacher is told besides the row's own messages. The student never sees it."""

    strategy: Literal["direct", "chain_of_thought", "chain_of_density"] = "direct"
    """`chain_of_thought` (Wei et al. 2022, arXiv 2201.11903): reasons, then the answer. `chain_of_density` (Adams et al. 2023,
    arXiv 2309.04269), for summaries: rounds that each fit in more."""
    instruction: str | None = None
    """Takes the place of the strategy's own words; they are added to the row's system prompt, never put in its place."""
    examples: int = Field(default=0, ge=0, le=64)
    """So many training rows with references stand before each question as worked examples; for `chain_of_thought`, rows with a
    `rationale`."""
    version: str = Field(default="", max_length=100)
    """A name for the wording; where it changes, every question is a new one."""
    rounds: int = Field(default=3, ge=2, le=10)
    """Rounds of `chain_of_density`."""
    reasoning_tokens: int = Field(default=256, ge=1)
    """Room for the reasons of `chain_of_thought`, besides the answer's own."""
    learn: Literal["answer", "rationale_then_answer", "both"] = "answer"
    """What the student writes: the answer alone, the reasons before it, or, as two tasks, both (step-by-step distillation, Hsieh et
    al. 2023, arXiv 2305.02301)."""


class ExpandSpec(Section):
    """The teacher writes new prompts from training rows, where these are few."""

    rows: int = Field(ge=1)
    """How many new rows, at most."""
    how: Literal["paraphrase", "rare", "harder"] = "paraphrase"
    """`paraphrase` says the same in other words, `rare` writes rows of the labels or tags that have fewest, `harder` makes them harder."""
    by: Literal["label", "tag"] = "label"
    """What `rare` counts."""
    temperature: float = Field(default=0.8, ge=0.0, le=2.0)
    """Sampling temperature of the new prompts."""
    instruction: str | None = None
    """Takes the place of Potstill's own words."""


class QualifySpec(Section):
    """A teacher is examined on validation rows before it teaches."""

    rows: int = Field(default=64, ge=1)
    """At most so many."""
    min_score: float | None = Field(default=None, ge=0.0)
    """The run stops where its score on rows with references is lower, in the metric's own unit."""
    min_agreement: float | None = Field(default=None, ge=0.0, le=1.0)
    """The run stops where it agrees with itself, asked again, less often; for rows without references."""


class BalanceSpec(Section):
    """How the accepted rows are evened out."""

    by: Literal["label", "tag", "length", "language"]
    """What is counted."""
    to: int | Literal["fewest", "median"] = "median"
    """Rows wanted of each kind."""
    how: Literal["sample", "ask"] = "sample"
    """`sample` leaves out rows of kinds that have more; `ask` has the teacher write more of those that have fewer, too."""


class GenerationSpec(Section):
    """How the teacher is asked."""

    concurrency: int = Field(default=64, ge=1, le=4096)
    """Calls in flight at once for an endpoint, at most; how many really are follows what helps."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts answered together, for local models; halved where memory runs out."""
    mode: Literal["live", "batch"] = "live"
    """`batch`: by the provider's batch endpoint (half the price at most providers, within a day)."""
    ledger: Path | None = None
    """A ledger that several runs share, so that none pays for what another was answered; by default the run's own."""
    budget: BudgetSpec = BudgetSpec()
    """Caps."""
    max_failed: float = Field(default=0.05, ge=0.0, le=1.0)
    """The stage stops where a larger share of the rows failed at the endpoint; the same command asks those again."""
    pilot: PilotSpec = PilotSpec()
    """The first rows, asked before the rest is bought."""
    prompting: PromptingSpec = PromptingSpec()
    """What the teacher is told besides."""
    samples: int = Field(default=1, ge=1, le=64)
    """Answers to each question; more than one needs a `temperature` above 0."""
    choose: Literal["auto", "first", "verifier", "vote", "judge", "all"] = "auto"
    """Which of several answers is learnt: the first that the gates keep, the first that the task proves right, the one that most
    agree on (self-consistency, Wang et al. 2022, arXiv 2203.11171; the shares of the votes are kept), the judge's best, or all that are
    kept. `auto`: `vote` where answers can be counted (nli, math, qa by choice), else `first`."""
    turns: Literal["all", "last"] = "all"
    """Of a conversation, the assistant turns that the teacher answers anew: all, or the last alone, after the row's own history."""
    route: Literal["weight", "tag", "cascade", "vote"] = "weight"
    """Which of several `teachers` is asked: one by `weight`; the one that has one of the row's tags; the first, and the next where the
    gates drop its answer; or all, and the answer that most agree on is kept."""
    judge: TeacherSpec | None = None
    """Who compares answers; by default the last teacher that is not the one that answered."""
    qualify: QualifySpec | None = None
    """Examine the teacher before it teaches."""
    expand: ExpandSpec | None = None
    """Have the teacher write new prompts."""
    balance: BalanceSpec | None = None
    """Even out the accepted rows."""


class PersonalDataSpec(Section):
    """What happens to personal data in answers."""

    action: Literal["mask", "drop"] = "mask"
    """`mask` writes `[EMAIL]` and the like in its place, `drop` drops the row."""
    kinds: tuple[Literal["email", "phone", "card", "iban", "ip"], ...] = Field(
        default=("email", "phone", "card", "iban", "ip"), min_length=1
    )
    """What is looked for."""


class GatesSpec(Section):
    """Which answers are kept. On by default are those that evidence supports."""

    format: bool = True
    """Drop answers that the task cannot parse: no label, no number, nothing at all. How leniently one was read is recorded."""
    refusal: bool = True
    """Drop answers that decline to answer."""
    truncation: bool = True
    """Drop answers that ran into the token limit, or end inside a bracket, a quote or a code block."""
    verifier: bool = True
    """Drop answers that the task can prove wrong: math against a gold value, a span that is not in the passage."""
    contamination: bool = True
    """Drop training rows that repeat or paraphrase validation or test rows; not where `data.test_duplicates` is `allow`."""
    min_characters: int | None = Field(default=None, ge=1)
    """Drop shorter answers."""
    max_characters: int | None = Field(default=None, ge=1)
    """Drop longer answers."""
    language: str | None = None
    """Drop answers in another language than this (`en`), or, with `same`, than the prompt's."""
    duplicates: bool = False
    """Drop rows whose answer and prompt nearly equal an earlier row's."""
    gold: bool = False
    """Drop answers that disagree with the row's reference."""
    min_agreement: float | None = Field(default=None, gt=0.0, le=1.0)
    """Drop rows where the chosen answer has a smaller share of the votes among several samples."""
    judge: float | None = Field(default=None, ge=0.0, le=1.0)
    """Drop answers to which the judge (`generation.judge`) gives a lower mark, of 0 to 1; what it says without a mark drops nothing."""
    personal_data: PersonalDataSpec | None = None
    """Mask or drop e-mail addresses, telephone and card numbers, IBANs, IP addresses."""
    custom: tuple[str, ...] = ()
    """Your own gates: `module:function`, called with the row, the answer's text and its parsed answer; returns None to keep it, or why it
    is dropped."""


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


class EngineSpec(Section):
    """Where the teachers are asked from: `local`, `ray`, or `kind` with its settings. What comes out is the same."""

    kind: Literal["local", "ray"] = "local"
    """`local`: this process. `ray`: workers on a Ray cluster, each with its share of the rows, the rates and the budget; every node must
    see the run folder under one path."""
    address: str | None = None
    """Of a Ray cluster that runs: `auto` is the one that this machine belongs to, else `host:port` of its head. Absent: one is
    started on this machine for the run."""
    workers: int = Field(default=2, ge=1, le=512)
    """How many processes ask on a Ray cluster; fewer where a share of the rates would be less than a call."""
    cpus: float = Field(default=1.0, ge=0.0)
    """Processors that Ray sets aside for a worker."""
    gpus: float = Field(default=0.0, ge=0.0)
    """Accelerators that Ray sets aside for a worker, for local teachers."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, raw: object) -> object:
        return {"kind": raw} if isinstance(raw, str) else raw

    @field_validator("address")
    @classmethod
    def _of_a_head(cls, address: str | None) -> str | None:
        if address is not None and re.fullmatch(r"auto|[^\s/]+:\d{1,5}", address) is None:
            raise ValueError(
                f"expected `auto`, or `host:port` of the cluster's head (found {address!r}); where only `ray://` leads there, run Potstill "
                "on a machine of the cluster, with `auto`"
            )
        return address

    @model_validator(mode="after")
    def _settings_belong_to_ray(self) -> EngineSpec:
        stray = [name for name in sorted(self.model_fields_set - {"kind"}) if getattr(self, name) != type(self).model_fields[name].default]
        if self.kind == "local" and stray:
            raise ValueError(f"`{stray[0]}` belongs to the engine `ray`: add `kind: ray`, or remove it")
        return self


def _or_one_word(schema: dict[str, Any]) -> None:
    """Editors complete the word, too."""
    schema["anyOf"] = [{"enum": ["local", "ray"]}, {"$ref": schema.pop("$ref")}]


class RunSpec(Section):
    """One run: a teacher, a task, data, a student. Paths are relative to the spec's own folder."""

    model_config = ConfigDict(hide_input_in_errors=True)  # as in TeacherSpec

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Names the run's folder: letters, digits, `.`, `_`, `-`."""
    task: TaskSpec
    data: DataSpec
    teacher: TeacherSpec
    teachers: tuple[TeacherSpec, ...] = ()
    """Several teachers, instead of `teacher`; `generation.route` says which is asked. The first is the one that is evaluated."""
    student: StudentSpec
    generation: GenerationSpec = GenerationSpec()
    gates: GatesSpec = GatesSpec()
    targets: TargetsSpec = TargetsSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    engine: EngineSpec = Field(default=EngineSpec(), json_schema_extra=_or_one_word)
    """Where the teachers are asked from: `local`, or `ray`."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Splits, sampling, initial order of the rows and bootstrap all start from it."""

    @model_validator(mode="before")
    @classmethod
    def _first_of_several(cls, raw: object) -> object:
        if isinstance(raw, dict) and "teacher" not in raw and isinstance(raw.get("teachers"), list | tuple) and raw["teachers"]:
            return {**raw, "teacher": raw["teachers"][0]}
        return raw

    @model_validator(mode="before")
    @classmethod
    def _reasons_are_learnt(cls, raw: object) -> object:
        """A student that writes its reasons is read accordingly, and has as much room for them as its teacher."""
        generation = raw.get("generation") if isinstance(raw, dict) else None
        prompting = generation.get("prompting") if isinstance(generation, dict) else None
        if not isinstance(raw, dict) or not isinstance(raw.get("task"), dict) or not isinstance(prompting, dict):
            return raw
        task = {"reasons": prompting.get("learn") == "rationale_then_answer", **raw["task"]}
        if task["reasons"] is not True:
            return raw
        if task.get("reasoning_tokens") is None and "reasoning_tokens" in prompting:
            task["reasoning_tokens"] = prompting["reasoning_tokens"]
        return {**raw, "task": task}

    @property
    def all_teachers(self) -> tuple[TeacherSpec, ...]:
        """Every teacher that answers rows, the evaluated one first."""
        return self.teachers or (self.teacher,)

    @model_validator(mode="after")
    def _several_are_one_and_others(self) -> RunSpec:
        if self.teachers and self.teacher != self.teachers[0]:
            raise ValueError("give `teacher` or `teachers`, not both")
        titles = [teacher.title for teacher in self.teachers]
        if len(set(titles)) < len(titles):
            raise ValueError("two of the `teachers` have one name: give each a `name`")
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> RunSpec:
        if self.generation.samples > 1 and not all(teacher.temperature for teacher in self.all_teachers):
            raise ValueError("`generation.samples` above 1 needs a teacher with a `temperature` above 0: greedy answers are all the same")
        return self

    @model_validator(mode="after")
    def _sections_fit_together(self) -> RunSpec:
        misfits = []
        if self.student.model is None and self.teacher.base_url is not None:
            misfits.append("a student is carved out of a local model, but the teacher is an endpoint: name one in `student.model`")
        if self.targets.positions == "all" and self.training.objective == "sft":
            misfits.append(
                "`targets.positions: all` needs the teacher's probabilities: set `training.objective: logits`, or `positions: answer`"
            )
        strategy = self.generation.prompting.strategy
        if self.task.answer_schema is not None and strategy != "direct":
            misfits.append(
                f"`task.answer_schema` wants JSON alone, and `generation.prompting.strategy: {strategy}` has more written: take `direct`, "
                "or remove the schema"
            )
        if self.engine.kind == "ray" and self.generation.mode == "batch":
            misfits.append("`engine: ray` shares out live calls, and `generation.mode: batch` makes none: take one of the two")
        if misfits:
            raise ValueError("\n".join(misfits))
        return self
