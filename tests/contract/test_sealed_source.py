"""No module reads the test rows but by the door, and no module uses the door but the evaluation and the export's parity."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "potstill"

# Who may, and what for.
NAMES_THE_FILE = {
    "store/seal.py": "hashes it, to tell of which rows an opening was",
    "data/splits.py": "the door",
    "evaluation/stage.py": "its hash, from the data stage's record, is an input",
    "cli/init.py": "writes the user's own file",
    "demo.py": "writes the user's own spec",
}
NAMES_A_FILE_BY_SPLIT = {
    "data/splits.py": "train and validation alone",
    "data/stage.py": "writes the splits",
    "demo.py": "writes the user's own files",
    "cli/init.py": "writes the user's own files",
}
OPENS = ("evaluation/sealed.py", "export/parity.py")
TAKES_THE_SPLIT = {
    "data/": "makes it",
    "cli/examine.py": "`potstill check` counts and prices the user's own rows before there is a run",
    "cli/forecast.py": "how long those rows are",
    "pipeline/forecast.py": "how many rows there are",
    "report/trust.py": "how many texts were compared",
    "report/sections.py": "the texts of leaks that the report tells of",
}
LISTS_THE_FOLDER = ("data/", "report/")
READS_WHAT_WAS_ASKED = {
    "evaluation/": "writes it",
    "report/": "shows it",
    "cli/past.py": "adds up what the evaluation's calls cost",
    "pipeline/evaluated.py": "holds evaluated runs against each other",
}


def allowed(where: str, places: object) -> bool:
    return any(where == place or (place.endswith("/") and where.startswith(place)) for place in places)  # type: ignore[attr-defined]


def documentation(tree: ast.AST) -> set[int]:
    """Strings that stand for themselves: docstrings, also of fields."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def text_of(node: ast.AST) -> str:
    """A string as far as it is written out; what is put in later is `{}`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""


def called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def ways_in(where: str, source: str) -> Iterator[str]:
    """Each way to the test rows that a module at `where` (below `src/potstill`) takes and may not take."""
    tree = ast.parse(source)
    skipped = documentation(tree) | {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = "" if id(node) in skipped else text_of(node)
        if "test.jsonl" in text and not allowed(where, NAMES_THE_FILE):
            yield f"names {text!r}"
        if text.endswith("{}.jsonl") and not text.startswith("potstill-") and not allowed(where, {**NAMES_A_FILE_BY_SPLIT, **PARTS}):
            yield f"names a file {text!r}, whose name may be the test's"
        if isinstance(node, ast.Call) and called(node) in ("open_test", "break_seal") and not allowed(where, (*OPENS, "data/splits.py")):
            yield f"calls {called(node)}"
        names = {name.name for name in node.names} if isinstance(node, ast.ImportFrom) else set()
        if names & {"open_test", "break_seal"} and not allowed(where, (*OPENS, "data/splits.py")):
            yield "imports the door"
        if isinstance(node, ast.Call) and called(node) == "path" and node.args and text_of(node.args[0]) in ("data", "evaluation"):
            yield from path_ways(where, node)
        if isinstance(node, ast.Subscript) and text_of(node.slice) == "test" and not allowed(where, TAKES_THE_SPLIT):
            yield "takes the split `test` out of something"
        if isinstance(node, ast.Call) and called(node) == "load_dataset" and not allowed(where, LOADS_FILES):
            yield "reads a data file of the user's"


PARTS = {
    "generation/workers/parts.py": "training rows, in numbered parts",
    "evaluation/stage.py": "predictions, by system",
    "report/gather.py": "predictions, by system",
    "pipeline/evaluated.py": "predictions, by system",
}
LOADS_FILES = {
    "jobs/scoring.py": "scores a model on the rows that the caller gives",
    "library.py": "the caller's own rows",
    "data/": "defines it",
}


def path_ways(where: str, node: ast.Call) -> Iterator[str]:
    """Ways by way of `run.path("data", ...)` and `run.path("evaluation", ...)`."""
    folder, rest = text_of(node.args[0]), [text_of(part) for part in node.args[1:]]
    if folder == "evaluation" and not allowed(where, READS_WHAT_WAS_ASKED):
        yield "reads the folder of what was asked and answered in the evaluation"
    if folder == "data" and (not rest or not all(rest)) and not allowed(where, LISTS_THE_FOLDER):
        yield "names the folder of the splits, or a file in it that only shows when it runs"
    if folder == "data" and "leaks.json" in rest and not allowed(where, LISTS_THE_FOLDER):
        yield "reads examples of test rows"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_finds_another_way_to_the_test_rows(path: Path) -> None:
    assert list(ways_in(str(path.relative_to(SOURCE)), path.read_text())) == []


WAYS = [
    "rows = open_test(run, 'evaluation', artefact='a', settings=1)",
    "from potstill.data.splits import open_test",
    "from potstill.store.seal import break_seal",
    "rows = splits.open_test(run, 'parity', artefact='a', settings=1)",
    "rows = Dataset(run.path('data', 'test.jsonl'))",
    "rows = Dataset(run.folder / 'data/test.jsonl')",
    "rows = Dataset(run.path('data', f'{split}.jsonl'))",
    "rows = [Dataset(run.folder / 'data' / f'{split}.jsonl') for split in SPLITS]",
    "rows = list(run.path('data').glob('*.jsonl'))",
    "rows = Dataset(run.path('data', name))",
    "rows = inspect_data(spec).splits['test']",
    "rows = load_dataset(spec.data.test)",
    "rows = read_jsonl(run.path('evaluation', 'questions.jsonl'))",
    "rows = read_json(run.path('data', 'leaks.json'))",
]


@pytest.mark.parametrize("source", WAYS)
@pytest.mark.parametrize("where", ["generation/stage.py", "training/recipe.py", "pipeline/ablation.py"])
def test_every_way_that_we_know_of_is_seen(where: str, source: str) -> None:
    assert list(ways_in(where, source))


FINE = [
    "rows = open_split(run, 'train', 'training')",
    "labels = read_json(run.path('data', 'labels.json'))",
    'def rows():\n    """Not those of data/test.jsonl."""',
]


@pytest.mark.parametrize("source", FINE)
def test_what_loops_may_do_is_no_way(source: str) -> None:
    assert list(ways_in("training/recipe.py", source)) == []


@pytest.mark.parametrize("place", [*NAMES_THE_FILE, *NAMES_A_FILE_BY_SPLIT, *PARTS, "evaluation/sealed.py"])
def test_nobody_is_excused_who_need_not_be(place: str) -> None:
    assert (SOURCE / place).exists()
    assert list(ways_in("training/somewhere.py", (SOURCE / place).read_text()))
