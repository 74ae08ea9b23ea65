"""From a spec, or a name, to a model that can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from potstill.errors import ModelError
from potstill.models import catalogue
from potstill.models.base import Model
from potstill.models.echo import EchoModel
from potstill.models.locate import ECHO, is_local
from potstill.models.pricing import price_of
from potstill.spec.sections import GenerationSpec, PriceSpec, TeacherSpec, WeightsSpec

if TYPE_CHECKING:
    from potstill.models.transformers_local import TransformersModel


def load_teacher(spec: TeacherSpec, generation: GenerationSpec) -> Model:
    """The model that a spec's teacher section names: an endpoint, local weights, or the echo.

    Raises EndpointError where a key is missing, ModelError where there is no such model.
    """
    if spec.replay is not None:
        from potstill.models.replay import ReplayModel

        return ReplayModel(spec.replay, name=spec.title)
    if spec.model == ECHO and spec.base_url is None:
        return EchoModel()
    if is_local(spec):
        return load_local(weights_of(spec), generation.batch_size, price=spec.price)
    from potstill.models.openai_http import OpenAIModel

    entry = catalogue.find(spec.model) if spec.base_url is None else None
    return OpenAIModel(endpoint_of(spec), concurrency=generation.concurrency, takes_sampling=entry is None or entry.sampling)


def load_local(weights: WeightsSpec, batch_size: int = 32, price: PriceSpec | None = None) -> TransformersModel:
    """A local model by catalogue name, hub id, folder or GGUF file; `price` is what its machine costs by the hour. Raises ModelError."""
    from potstill.models.weights import load_weights, require_torch

    require_torch(str(weights.model))
    from potstill.models.transformers_local import TransformersModel

    return TransformersModel(load_weights(weights), name=str(weights.model), batch_size=batch_size, price=price, frozen=True)


def load_model(
    name_or_path_or_url: str | Path,
    *,
    model: str | None = None,
    api_key_env: str | None = None,
    device: str = "auto",
    batch_size: int = 32,
) -> Model:
    """A model to ask, by catalogue name, hub id, folder, GGUF file, or the URL of an OpenAI-compatible endpoint.

    With a URL, `model` is the name that the endpoint knows, and `api_key_env` the environment variable that holds its key.
    Raises ModelError.
    """
    generation = GenerationSpec(batch_size=batch_size)
    name = str(name_or_path_or_url.expanduser().absolute()) if isinstance(name_or_path_or_url, Path) else name_or_path_or_url
    if not isinstance(name, str):
        raise ModelError(f"a model is named by a text or a path, not by {type(name).__name__}")
    if name.startswith(("http://", "https://")):
        if model is None:
            raise ModelError(f'{name}: which model there? load_model("{name}", model="its name")')
        return load_teacher(_teacher(model=model, base_url=name, api_key_env=api_key_env), generation)
    return load_teacher(_teacher(model=name, api_key_env=api_key_env, device=device), generation)


def _teacher(**settings: str | None) -> TeacherSpec:
    try:
        return TeacherSpec.model_validate({name: value for name, value in settings.items() if value is not None})
    except ValidationError as error:
        problem = error.errors()[0]
        key = f"`{problem['loc'][0]}`: " if problem["loc"] else ""
        raise ModelError(f"{key}{problem['msg'].removeprefix('Value error, ')}") from None


def weights_of(spec: TeacherSpec) -> WeightsSpec:
    """The part of a teacher's section that says how weights are loaded."""
    return WeightsSpec.model_validate(spec.model_dump(include=set(WeightsSpec.model_fields)))


def endpoint_identity(spec: TeacherSpec) -> str:
    """The name of an endpoint's model in ledgers; nobody is asked, so no key is needed."""
    from potstill.models.openai_http import OpenAIModel

    return OpenAIModel(endpoint_of(spec).model_copy(update={"api_key_env": None, "api_key_file": None})).identity


def endpoint_of(spec: TeacherSpec) -> TeacherSpec:
    """The section with address, model name, key and price of the catalogue's entry, where it gives none itself.

    A price that the catalogue does not know either is that of `pricing.price_of`.
    """
    entry = catalogue.find(spec.model) if spec.base_url is None else None
    if entry is not None:
        spec = spec.model_copy(
            update={
                "base_url": entry.base_url,
                "model": entry.api_model,
                "api_key_env": spec.api_key_env or (None if spec.api_key_file else entry.api_key_env),
                "price": spec.price or entry.price_spec(),
            }
        )
    return spec.model_copy(update={"price": spec.price or price_of(spec.base_url, spec.model)})
