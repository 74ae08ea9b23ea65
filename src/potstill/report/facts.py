"""What page and card both say in words: how it was made, on what it was measured."""

from __future__ import annotations

from typing import Any

import yaml

from potstill.report.units import bytes_text, duration_text, score_text


def measured_note(report: dict[str, Any]) -> str:
    """On which machine, and how."""
    machine = report["machine"]
    threads = {str(found["threads"]) for found in report["timings"]["systems"].values() if "threads" in found}
    note = f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['system']}"
    if threads:
        note += f"; local models each in a process of their own, {', '.join(sorted(threads))} threads"
    return note + "."


def distillation_sentence(report: dict[str, Any]) -> str | None:
    """Whether distillation helped, where that was asked."""
    return report["distillation"]["sentence"] if "distillation" in report else None


def how_made(report: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, text) pairs: models, licences, terms, task, seed, machine, time."""
    machine, spec = report["machine"], report["spec"]
    facts = [
        ("teacher", str(spec["teacher"]["model"])),
        *([("teacher adapted", _adaptation_text(report))] if "adaptation" in report else []),
        ("student", _origin(report)),
        *((f"{role}'s licence", str(known["licence"])) for role, known in report["models"].items() if known["licence"]),
        *(
            (f"{role}'s terms on distillation", str(known["distillation"]))
            for role, known in report["models"].items()
            if known["distillation"]
        ),
        ("task", str(spec["task"]["type"])),
        ("seed", str(report["seed"])),
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
    ]
    if machine["memory_bytes"] is not None:
        facts.append(("memory", bytes_text(machine["memory_bytes"])))
    facts.append(("system", f"{machine['system']}, Python {machine['python']}"))
    stages = report["timings"]["stages"]
    if stages:
        facts.append(("time", ", ".join(f"{stage} {duration_text(seconds)}" for stage, seconds in stages.items())))
    return facts


def _adaptation_text(report: dict[str, Any]) -> str:
    """On how many rows, and what it did to the validation score."""
    adapted = report["adaptation"]
    text = f"fine-tuned on the references of {adapted['gold_rows']:,} training rows before it was asked"
    if adapted["metric"] is None:
        return f"{text}; no validation row has a reference to tell what that did"
    title = report["evaluation"]["metrics"].get(adapted["metric"], {"title": adapted["metric"]})["title"]
    before, after = score_text(adapted["metric_before"]), score_text(adapted["best_metric"])
    return f"{text}; {title} on {adapted['validation_questions']:,} validation questions {before} before, {after} after"


def _origin(report: dict[str, Any]) -> str:
    student, teacher = report["spec"]["student"], report["spec"]["teacher"]
    source = student["model"] or teacher["model"]
    return f"{student['carve']['layers']} layers carved out of {source}" if student["carve"] else str(source)


def yaml_text(value: object) -> str:
    """A value as YAML, keys in their order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
