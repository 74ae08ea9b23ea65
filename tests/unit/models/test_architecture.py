"""The table of architectures is that of the installed transformers, though it is not imported."""

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from potstill.models.architecture import causal_classes


def test_the_table_is_that_of_transformers() -> None:
    assert dict(causal_classes()) == dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
