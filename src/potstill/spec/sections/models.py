"""The models of a run: those that teach, and the one that learns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from potstill.spec.sections.base import Auto, Precision, Section

_CARRIES_MORE_THAN_AN_ADDRESS = re.compile(r"[?#]|^[^/]*//[^/]*@")
_NAMES_A_SECRET = re.compile(r"authorization|api[-_]?key|subscription[-_]key|secret|password|cookie|[-_]token$|^token$", re.IGNORECASE)
_IS_A_SECRET = re.compile(r"\s*(bearer|basic)\s|\s*sk-", re.IGNORECASE)
_WHERE_A_KEY_BELONGS = "put a key into an environment variable, and that variable's name into `api_key_env`"


class PriceSpec(Section):
    """What answers cost, in dollars: by tokens, or by the hour of the machine that gives them."""

    input_per_million: float | None = Field(default=None, ge=0.0)
    """Dollars for a million tokens read."""
    output_per_million: float | None = Field(default=None, ge=0.0)
    """Dollars for a million tokens written."""
    per_gpu_hour: float | None = Field(default=None, ge=0.0)
    """Dollars for an hour of one accelerator, where you run the model yourself. It is counted while the model is asked, waits included."""
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


class AdaptSpec(Section):
    """How a local teacher is fine-tuned on the training rows that carry a `reference`, before anything else is asked of it.

    What is set here means what it does in `training`. The defaults brought SmolLM2-135M-Instruct from nothing to 86.6 % of 77 labels, with
    2,000 gold rows.
    """

    rows: int | None = Field(default=None, ge=1)
    """At most so many gold rows are learnt, drawn by `seed`; by default all of them. What the teacher says of rows that it did not learn is
    its own judgement."""
    epochs: float = Field(default=2.0, gt=0.0)
    """Passes over the gold rows. Few: a teacher that knows its rows by heart has little to say of them but their references."""
    learning_rate: Annotated[float, Field(gt=0.0)] | Auto = "auto"
    """Peak rate of AdamW; `auto` is 3e-4 for 135 M weights, and lower for larger models (`training.settings.auto_learning_rate`)."""
    batch_size: Annotated[int, Field(ge=1)] | Auto = 16
    """Rows a step."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows that are padded together, and at most in memory at once; by default the whole batch. (On a CPU they go through in parts.)"""
    precision: Auto | Precision = "auto"
    """Number format of matrix products, as in `training`."""
    max_length: int = Field(default=1024, ge=8)
    """Longest row in tokens, prompt and reference."""
    too_long: Literal["drop", "cut_left", "refuse"] = "drop"
    """What becomes of longer rows, as in `training`."""
    evaluations: int = Field(default=4, ge=1)
    """How often the validation metric is taken; the best checkpoint wins, of equal ones the last."""
    validation_rows: int = Field(default=64, ge=1)
    """At most so many validation rows with a `reference` choose the checkpoint."""
    patience: int = Field(default=2, ge=1)
    """Stop after so many evaluations in a row without a better metric."""
    save_minutes: Annotated[float, Field(gt=0.0)] | Auto = "auto"
    """A checkpoint for resuming is written so often. `auto`: every 2 minutes, or less often where that took more than 5 % of the time."""


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
    """The run stops when the endpoint has given nothing but failures for so long; until then it is tried ever more rarely. Where all
    other rows were answered, those that still fail are given up instead."""
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
    adapt: AdaptSpec | None = None
    """Fine-tune the teacher on your gold rows first (teacher correction); `{}` takes the defaults. Needs a local teacher."""

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
