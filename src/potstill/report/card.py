"""`model_card.md`, the student's card in the hub's format, drawn from the content of `report.json` alone.

The front matter is that of https://github.com/huggingface/hub-docs/blob/main/modelcard.md; what it says, the hub takes for its filters.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from potstill.report.facts import distillation_sentence, how_made, measured_note, yaml_text
from potstill.report.table import comparison_table, headline
from potstill.report.trust import leak_sentences, seal_sentence

_HUB_LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit"}
"""Licences that ask nothing of a derived model but to be named; any other is for its owner to state."""
_HUB_METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "exact_match": "exact_match",
    "token_f1": "squad",
    "math_accuracy": "accuracy",
    "rouge_1": "rouge",
    "rouge_2": "rouge",
    "rouge_l": "rouge",
    "bleu": "sacrebleu",
    "chrf": "chrf",
}
"""Names that https://hf.co/metrics knows; a metric without one goes by its own."""


def render_card(report: dict[str, Any]) -> str:
    """The student's model card: YAML front matter, then what it is, how good, for what, from which data, and under which terms."""
    environment = Environment(loader=PackageLoader("potstill.report"), autoescape=False, undefined=StrictUndefined, trim_blocks=True)
    table = comparison_table(report)
    return environment.get_template("model_card.md.j2").render(
        report=report,
        front_matter=yaml_text(_front_matter(report)).strip(),
        headline=headline(report),
        columns=table.columns,
        rows=[[_cell(cell) for cell in row] for row in table.rows],
        caption=table.caption,
        measured_note=measured_note(report),
        distillation=distillation_sentence(report),
        goals=[goal["sentence"] for goal in report["evaluation"].get("goals", [])],
        data=_data(report),
        trust=[sentence for sentence in (seal_sentence(report), *leak_sentences(report)) if sentence],
        limits=_limits(report),
        licences=_licences(report),
        facts=[fact for fact in how_made(report) if "licence" not in fact[0] and "terms" not in fact[0]],
    )


def _data(report: dict[str, Any]) -> list[str]:
    data = report["data"]
    said = [", ".join(f"{count:,} {split} rows" for split, count in data["rows"].items())]
    said += [f"{split}: `{source['path']}`, SHA-256 {source['sha256']}" for split, source in data.get("sources", {}).items()]
    split_off = data.get("split_off")
    if split_off:
        said.append(f"split off the training rows by seed {data['seed']}: {', '.join(split_off)}")
    rows = report["generation"]["rows"]["train"]
    said.append(f"{rows['accepted']:,} of {rows['asked']:,} training rows have a teacher's answer that the gates kept")
    return said


def _limits(report: dict[str, Any]) -> list[str]:
    """What the figures do not tell, or tell against the student."""
    evaluation = report["evaluation"]
    student = evaluation["systems"].get("student", {})
    said = [
        f"It answers prompts like those that it learnt ({report['spec']['task']['type']}), and was measured on no others.",
        "What the teacher gets wrong, it learnt too.",
    ]
    if student.get("unparsable"):
        said.append(f"{student['unparsable']:,} of its {evaluation['questions']:,} answers could not be parsed; they count as wrong.")
    if student.get("truncated"):
        said.append(f"{student['truncated']:,} of its {evaluation['questions']:,} answers were cut at the token limit.")
    if evaluation["scored"] != evaluation["questions"]:
        said.append(f"{evaluation['questions'] - evaluation['scored']:,} of the {evaluation['questions']:,} questions could not be scored.")
    if evaluation["primary"] is None:
        said.append("No test row has a reference: only agreement with the teacher is known.")
    return said


def _licences(report: dict[str, Any]) -> list[str]:
    said = []
    for role, known in report["models"].items():
        model = known["hub_id"] or report["spec"][role]["model"] or report["spec"]["teacher"]["model"]
        terms = "; ".join(filter(None, [known["licence"], known["distillation"] if role == "teacher" else None]))
        made = {"teacher": "teacher", "student": "the student was made of"}[role]
        said.append(f"{made} {model}: {terms or 'licence and terms are not on record; look them up'}")
    return said


def _front_matter(report: dict[str, Any]) -> dict[str, Any]:
    base = report["models"]["student"]
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    # The hub takes its own names alone; a folder is told in the text.
    if base["hub_id"] is not None:
        front |= {"base_model": base["hub_id"], "base_model_relation": "finetune"}
    if base["licence"] in _HUB_LICENCES:
        front["license"] = _HUB_LICENCES[base["licence"]]
    front["tags"] = ["potstill", "distillation", report["spec"]["task"]["type"]]
    results = _model_index(report)
    if results:
        front["metrics"] = list(dict.fromkeys(metric["type"] for metric in results[0]["metrics"]))
        front["model-index"] = [{"name": report["name"], "results": results}]
    return front


def _model_index(report: dict[str, Any]) -> list[dict[str, Any]]:
    evaluation, task = report["evaluation"], report["spec"]["task"]["type"]
    student = evaluation["systems"].get("student", {"scores": {}})
    metrics = [
        {"type": _HUB_METRICS.get(name, name), "name": evaluation["metrics"][name]["title"], "value": round(score["value"], 6)}
        for name, score in student["scores"].items()
        if score["value"] is not None
    ]
    if not metrics:
        return []
    dataset = {"type": "private", "name": f"{report['name']} test split ({evaluation['rows']} rows)"}
    return [{"task": {"type": "text-generation", "name": task}, "dataset": dataset, "metrics": metrics}]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
