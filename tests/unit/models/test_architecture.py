"""The table of architectures is that of the installed transformers, though it is not imported."""

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from potstill.models.architecture import causal_classes, reads_more_than_text


def test_the_table_is_that_of_transformers() -> None:
    assert dict(causal_classes()) == dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_models_that_take_images_are_told_from_those_that_take_text_alone() -> None:
    classes = causal_classes()
    assert [reads_more_than_text(classes[kind]) for kind in ("gemma3", "gemma3_text", "llama", "gpt2")] == [True, False, False, False]
