"""A job in Azure's words becomes the spec that a user would have written."""

from pathlib import Path
from typing import Any

import pytest

from potstill.errors import SpecError
from potstill.jobs.entities import DistillationJob, TeacherModelSettings
from potstill.jobs.translate import HYPERPARAMETERS, spec_of, student_label
from potstill.spec import RunSpec


def job(**changes: Any) -> DistillationJob:
    given = {"teacher_model": "deepseek-v3", "student_model": "phi-4-mini", "training_data": "train.jsonl", "task_type": "conversation"}
    return DistillationJob(**given | changes)


def spec(wanted: DistillationJob, **defaults: Any) -> RunSpec:
    return spec_of(wanted, "mine", Path("/data"), {key.replace("__", "."): value for key, value in defaults.items()})


def test_every_word_of_the_job_reaches_the_spec() -> None:
    made = spec(
        job(
            validation_data="./validation.jsonl",
            test_data=Path("/elsewhere/test.jsonl"),
            instruction="Be brief.",
            hyperparameters={"learning_rate": 2e-5, "batch_size": 2, "num_epochs": 3, "temperature": 0.7},
        )
    )
    assert (made.name, made.task.type, made.task.instruction) == ("mine", "conversation", "Be brief.")
    assert (made.teacher.model, made.student.model, made.teacher.temperature) == ("deepseek-v3", "phi-4-mini", 0.7)
    assert (made.training.learning_rate, made.training.batch_size, made.training.epochs) == (2e-5, 2, 3.0)
    assert (made.data.train, made.data.validation) == (Path("/data/train.jsonl"), Path("/data/validation.jsonl"))
    assert made.data.test == Path("/elsewhere/test.jsonl")


@pytest.mark.parametrize("name", ["num_epochs", "n_epochs", "num_train_epochs", "epochs"])
def test_azures_strings_and_all_names_of_the_epochs_are_understood(name: str) -> None:
    assert spec(job(hyperparameters={name: "5", "learning_rate": "0.00002"})).training.epochs == 5.0


def test_every_hyperparameter_names_a_key_of_the_spec() -> None:
    for name in HYPERPARAMETERS:
        value = 0.5 if name in {"learning_rate", "warmup_ratio", "weight_decay", "max_grad_norm", "temperature", "top_p"} else 9
        plain, changed = spec(job(hyperparameters={})), spec(job(hyperparameters={name: value}))
        assert changed != plain, name


def test_unknown_hyperparameters_are_named_with_those_that_are_allowed() -> None:
    with pytest.raises(SpecError, match=r'"lr", "momentum" not known; allowed: batch_size, epochs, learning_rate'):
        spec(job(hyperparameters={"lr": 1, "momentum": 0.9}))


def test_two_names_of_one_setting_are_refused() -> None:
    with pytest.raises(SpecError, match=r'"n_epochs" and "num_epochs" are two names of one setting'):
        spec(job(hyperparameters={"n_epochs": 1, "num_epochs": 2}))


def test_a_value_that_cannot_be_is_explained_in_the_jobs_terms() -> None:
    with pytest.raises(SpecError, match=r"^DistillationJob: `training.epochs`: must be greater than 0"):
        spec(job(hyperparameters={"num_epochs": -1}))


OF_ANOTHER_KIND = [
    ({"teacher_model": None}, "`teacher_model` is missing; give a name, a path, or a mapping"),
    ({"student_model": 5}, "`student_model` is of type int"),
    ({"training_data": None}, "`training_data` is missing; give a path"),
    ({"test_data": ["a.jsonl"]}, "`test_data` is of type list"),
    ({"hyperparameters": [1]}, "`hyperparameters` is of type list; give a mapping"),
    ({"settings": "training.epochs=3"}, "`settings` is of type str"),
    ({"labels": "yes"}, "`labels` is of type str; give a list of texts"),
    ({"task_type": 5}, "`task_type` is of type int"),
    ({"name": 5}, "`name` is of type int"),
    ({"teacher_model_settings": {"temperature": 1}}, "`teacher_model_settings` is of type dict; give TeacherModelSettings"),
]


@pytest.mark.parametrize(("changes", "words"), OF_ANOTHER_KIND)
def test_a_word_of_another_kind_is_refused_where_the_job_is_made(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=f"^DistillationJob: {words}"):
        job(**changes)


def test_nothing_set_is_nothing_changed() -> None:
    settings = TeacherModelSettings(inference_parameters=None, endpoint_request_settings=None)  # type: ignore[arg-type]
    assert spec(job(hyperparameters=None, settings=None, tags=None, teacher_model_settings=settings)) == spec(job())


def test_models_may_be_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = job(teacher_model=Path("big"), student_model=Path("models/small one"))
    assert (spec(wanted).teacher.model, spec(wanted).student.model) == (str(tmp_path / "big"), str(tmp_path / "models" / "small one"))
    assert student_label(wanted, "mine") == "small-one"


@pytest.mark.parametrize("settings", [{"task": "nli"}, {"task": None}])
def test_a_section_is_not_replaced_by_a_value(settings: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"settings: `task` is a section, not a value; name one of its keys, as in `task\.type`"):
        spec(job(settings=settings))
    with pytest.raises(SpecError, match=r"`task\.type`: `task` is a value, not a section"):
        spec(job(), task="nli")


@pytest.mark.parametrize("settings", [{"training": {5: 1}}, {"training": 5}])
def test_a_setting_that_cannot_be_is_refused(settings: dict[Any, Any]) -> None:
    with pytest.raises(SpecError):
        spec(job(settings=settings))


def test_a_section_that_is_set_as_a_whole_keeps_what_it_does_not_name() -> None:
    made = spec(job(hyperparameters={"epochs": 2}, settings={"task": {"max_new_tokens": 5}, "training": {"batch_size": 3}}))
    assert (made.task.type, made.task.max_new_tokens, made.training.epochs, made.training.batch_size) == ("conversation", 5, 2.0, 3)


@pytest.mark.parametrize(("given", "meant"), [("NLU_QA", "qa"), ("CONVERSATION", "conversation"), ("Math", "math")])
def test_azures_task_types_are_understood_under_either_name(given: str, meant: str) -> None:
    assert spec(job(task_type=None, data_generation_task_type=given)).task.type == meant


@pytest.mark.parametrize(("types", "words"), [((None, None), "none was given"), (("qa", "MATH"), "two different ones")])
def test_a_job_has_exactly_one_task_type(types: tuple[str | None, str | None], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        spec(job(task_type=types[0], data_generation_task_type=types[1]))


def test_an_unknown_task_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match='"poetry" is not one of nli, conversation'):
        spec(job(task_type="poetry"))


def test_labels_of_an_nli_job_come_from_the_data_unless_they_are_given() -> None:
    assert spec(job(task_type="nli")).task.labels_from == "data"
    assert spec(job(task_type="nli", labels=["yes", "no"])).task.labels == ("yes", "no")


def test_models_may_be_mappings_of_the_specs_keys() -> None:
    made = spec(
        job(teacher_model={"model": "m", "base_url": "http://localhost:1/v1"}, student_model={"model": "org/s", "carve": {"layers": 2}})
    )
    assert (made.teacher.base_url, made.student.model) == ("http://localhost:1/v1", "org/s")
    assert made.student.carve is not None


def test_the_job_goes_before_the_workspaces_settings_and_its_own_settings_before_all() -> None:
    made = spec(job(hyperparameters={"epochs": 2}, settings={"training.batch_size": 4}), training__epochs=9, training__batch_size=9, seed=3)
    assert (made.training.epochs, made.training.batch_size, made.seed) == (2.0, 4, 3)


def test_teacher_model_settings_set_sampling_and_calls_in_flight() -> None:
    settings = TeacherModelSettings(
        inference_parameters={"temperature": 0.2, "max_tokens": 64}, endpoint_request_settings={"request_batch_size": 10}
    )
    made = spec(job(teacher_model_settings=settings))
    assert (made.teacher.temperature, made.task.max_new_tokens, made.generation.concurrency) == (0.2, 64, 10)


def test_inference_parameters_that_nothing_reads_are_refused() -> None:
    with pytest.raises(SpecError, match=r'inference_parameters: "presence_penalty" not known'):
        spec(job(teacher_model_settings=TeacherModelSettings(inference_parameters={"presence_penalty": 1})))


@pytest.mark.parametrize(
    ("model", "label"),
    [("phi-4-mini", "phi-4-mini"), ("microsoft/Phi-4", "Phi-4"), ("./models/my phi", "my-phi"), ({"carve": {"layers": 2}}, "mine")],
)
def test_registered_models_are_called_after_the_student(model: Any, label: str) -> None:
    assert student_label(job(student_model=model), "mine") == label
