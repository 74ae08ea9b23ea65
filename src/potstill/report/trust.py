"""How far the figures can be trusted, in sentences: how often the test was opened, and what of it was learnt."""

from __future__ import annotations

from typing import Any

from potstill.report.units import percent_text

_TIMES = {1: "once", 2: "twice"}


def seal_sentence(report: dict[str, Any]) -> str | None:
    """How often the test rows were opened, and for how many students; None of a run that kept no count."""
    seal = report.get("seal")
    if not seal or not seal["opened"]:
        return None
    students = len({opening["artefact"] for opening in seal["openings"]})
    said = f"The test rows of this run were opened {_times(seal['opened'])}, for {students} {'student' if students == 1 else 'students'}"
    before = seal.get("of_other_rows", 0)
    return f"{said}, and {_times(before)} before, when they were other rows." if before else f"{said}."


def leak_sentences(report: dict[str, Any]) -> list[str]:
    """What stands in train and test, and what of the test's references the teacher's answers hold; empty where nobody looked."""
    leaks = report.get("leaks", {})
    told = [_between(leaks["train_test"])] if "train_test" in leaks else []
    answers = leaks.get("answers_references")
    if answers is not None and answers["compared"]["learnt"] and answers["compared"]["test"]:
        told.append(_answers(answers))
    return told


def _between(found: dict[str, Any]) -> str:
    compared, left_out = found["compared"], sum(found["left_out"].values())
    rows, test_rows = compared["for_paraphrases"]
    said = f"Of {compared['learnt']:,} training rows {found['exact']:,} stand in the test exactly, {found['near']:,} nearly"
    if rows == compared["learnt"] - found["exact"] - found["near"] and test_rows == compared["test"]:
        said += f", and {found['paraphrase']:,} may say the same in other words"
    else:
        share = percent_text(found["paraphrase"] / rows) if rows else "0 %"
        said += f"; of {rows:,} others {found['paraphrase']:,} ({share}) may say in other words what one of {test_rows:,} test rows says"
    return f"{said}; {left_out:,} more that stand there were left out." if left_out else f"{said}."


def _answers(found: dict[str, Any]) -> str:
    return (
        f"Of {found['compared']['learnt']:,} of the teacher's answers {found['exact']:,} are a reference of the test exactly, "
        f"{found['near']:,} nearly, and {found['paraphrase']:,} may say the same in other words."
    )


def _times(count: int) -> str:
    return _TIMES.get(count, f"{count:,} times")
