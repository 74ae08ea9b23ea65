"""A run whose earlier stages are done, ready to be evaluated."""

import shutil

from potstill.spec import spec_from_dict
from potstill.store.atomic import write_json, write_jsonl
from potstill.store.run import open_run

LABELS = {"type": "nli", "labels": ["yes", "no"], "max_new_tokens": 4}


def run_to_examine(folder, student, test, *, train=(), accepted=(), listeners=(), **sections):
    """`student` is the folder of its model; `sections` are the spec's, by default a task of two labels and an evaluation of the teacher."""
    raw = {
        "name": "examined",
        "task": LABELS,
        "data": {"train": "train.jsonl"},
        "teacher": {"model": "echo"},
        "student": {"model": str(student)},
        **sections,
        "evaluation": {"resamples": 100, "latency_rows": 2, "systems": ["teacher"], **sections.get("evaluation", {})},
    }
    run = open_run(spec_from_dict(raw, folder), folder, tuple(listeners))
    for name, rows in (("data/test.jsonl", test), ("data/train.jsonl", train), ("generation/accepted.jsonl", accepted)):
        write_jsonl(folder / name, (row.to_json() for row in rows))
    write_json(folder / "data" / "labels.json", raw["task"].get("labels", []))
    shutil.copytree(student, folder / "training" / "best")
    run.stage("data").finish({}, [folder / "data" / f"{split}.jsonl" for split in ("train", "test")])
    run.stage("generate").finish({}, [folder / "generation" / "accepted.jsonl"])
    run.stage("train").finish({}, [folder / "training" / "best" / "model.safetensors"])
    return run
