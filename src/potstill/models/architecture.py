"""Which architectures the installed transformers writes text with, known without importing it (it brings torch, and takes seconds)."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

_TABLE = "models/auto/modeling_auto.py"
_START = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict("


@lru_cache(maxsize=1)
def causal_classes() -> Mapping[str, str]:
    """The class that AutoModelForCausalLM takes, by a config's `model_type`; empty where that cannot be told.

    The table is a literal in the source of transformers, and is read from there.
    """
    found = importlib.util.find_spec("transformers")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        try:
            text = Path(folder, _TABLE).read_text(encoding="utf-8")
            return dict(ast.literal_eval(text.partition(_START)[2].partition("\n)")[0].strip()))
        except (OSError, ValueError, SyntaxError, TypeError):
            continue
    return {}
