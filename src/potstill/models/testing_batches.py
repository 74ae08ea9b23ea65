"""The batch desk of the test server: files and batches in memory, which go as they are told to."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

ROUTES = {
    "upload": ("POST", "/v1/files"),
    "content": ("GET", "/v1/files/{id}/content"),
    "create": ("POST", "/v1/batches"),
    "list": ("GET", "/v1/batches"),
    "poll": ("GET", "/v1/batches/{id}"),
}
"""The calls about batches: name to method and path."""

Line = dict[str, Any]
AnswerLine = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How one batch goes: a status each time it is looked at (the last stays, and comes after `delay_s` at the soonest), and its files.

    `answered` rows are answered (None: all); the others stand in the error file, as expired or cancelled (`silent`: nowhere).
    `line_errors` are status and words of rows that fail, by their place. `shuffled`, `duplicated` and `strangers` (so many lines
    with unknown ids) tell what the output is like, `errors` (code, words) why the whole batch failed.
    """

    statuses: tuple[str, ...] = ("validating", "in_progress", "completed")
    delay_s: float = 0.0
    answered: int | None = None
    silent: bool = False
    line_errors: dict[int, tuple[int, str]] = field(default_factory=dict)
    shuffled: bool = False
    duplicated: bool = False
    strangers: int = 0
    errors: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Batch:
    """One batch that was handed in."""

    id: str
    plan: BatchPlan
    lines: list[Line]
    metadata: dict[str, str]
    created: float = field(default_factory=time.time)
    looks: int = 0

    @property
    def status(self) -> str:
        """Where it stands, by the looks that were taken at it."""
        last = len(self.plan.statuses) - 1
        early = time.time() < self.created + self.plan.delay_s
        return self.plan.statuses[min(self.looks, last - 1 if early and last else last)]

    @property
    def over(self) -> bool:
        """Whether its status stays."""
        return self.status in {"completed", "failed", "expired", "cancelled"}


class Desk:
    """Takes files and batches, and gives them out again. `batches` are in the order in which they came."""

    def __init__(self, plans: Sequence[BatchPlan], answer: AnswerLine) -> None:
        self.batches: list[Batch] = []
        self._plans, self._answer = list(plans), answer
        self._files: dict[str, bytes] = {}

    @property
    def asked(self) -> list[list[str]]:
        """The custom ids of each batch."""
        return [[line["custom_id"] for line in batch.lines] for batch in self.batches]

    async def handle(self, route: str, request: web.Request) -> web.StreamResponse:
        """What a call to one of ROUTES is answered."""
        match route:
            case "upload":
                return await self._upload(request)
            case "content":
                content = self._files.get(request.match_info["id"])
                return _not_found("file") if content is None else web.Response(body=content, content_type="application/octet-stream")
            case "create":
                return self._create(await request.json())
            case "list":
                return self._list(request)
            case _:
                return self._look(request.match_info["id"])

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        assert form["purpose"] == "batch"
        name = f"file-{len(self._files)}"
        self._files[name] = file.file.read()
        return web.json_response({"id": name, "object": "file", "bytes": len(self._files[name]), "purpose": "batch"})

    def _create(self, wanted: dict[str, Any]) -> web.Response:
        lines = [json.loads(line) for line in self._files[wanted["input_file_id"]].splitlines()]
        assert wanted["completion_window"] == "24h"
        assert all(line["method"] == "POST" and line["url"] == wanted["endpoint"] for line in lines)
        plan = self._plans.pop(0) if self._plans else BatchPlan()
        batch = Batch(f"batch_{len(self.batches)}", plan, lines, wanted.get("metadata") or {})
        self.batches.append(batch)
        return web.json_response(self._told(batch))

    def _list(self, request: web.Request) -> web.Response:
        """The newest first, a page after a batch's id."""
        newest = self.batches[::-1]
        names = [batch.id for batch in newest]
        start = names.index(request.query["after"]) + 1 if "after" in request.query else 0
        end = start + int(request.query.get("limit", "20"))
        page = newest[start:end]
        return web.json_response({"object": "list", "data": [self._told(batch) for batch in page], "has_more": end < len(newest)})

    def _look(self, name: str) -> web.Response:
        batch = next((batch for batch in self.batches if batch.id == name), None)
        if batch is None:
            return _not_found("batch")
        batch.looks += 1
        return web.json_response(self._told(batch))

    def _told(self, batch: Batch) -> dict[str, Any]:
        total = len(batch.lines)
        good, bad = self._results(batch) if batch.over and not batch.plan.errors else ([], [])
        files = {"output_file_id": self._keep(f"{batch.id}-output", good), "error_file_id": self._keep(f"{batch.id}-errors", bad)}
        done = len(good) if batch.over else total // 2 if batch.status == "in_progress" else 0
        return {
            "id": batch.id,
            "object": "batch",
            "status": batch.status,
            "endpoint": "/v1/chat/completions",
            "created_at": int(batch.created),
            "completed_at": int(time.time()) if batch.over else None,
            "request_counts": {"total": total, "completed": done, "failed": len(bad)},
            "metadata": batch.metadata,
            "errors": {"object": "list", "data": [{"code": code, "message": words, "line": None} for code, words in batch.plan.errors]},
            **files,
        }

    def _keep(self, name: str, lines: list[Line]) -> str | None:
        if not lines:
            return None
        self._files[name] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return name

    def _results(self, batch: Batch) -> tuple[list[Line], list[Line]]:
        """Lines of the output and of the error file."""
        plan = batch.plan
        lines = [self._result(batch, place, line) for place, line in enumerate(batch.lines)]
        good = [line for line in lines if line["response"] and line["response"]["status_code"] == 200]
        answered = {line["id"] for line in good}
        bad = [line for line in lines if line["id"] not in answered and not (plan.silent and line["error"])]
        good += [{**line, "id": "again"} for line in good] if plan.duplicated else []
        good += [{"id": f"s{n}", "custom_id": f"stranger-{n}", "response": {"status_code": 200, "body": {}}} for n in range(plan.strangers)]
        if plan.shuffled:
            random.Random(0).shuffle(good)
        return good, bad

    def _result(self, batch: Batch, place: int, line: Line) -> Line:
        plan = batch.plan
        result: Line = {"id": f"r{place}", "custom_id": line["custom_id"], "response": None, "error": None}
        if plan.answered is not None and place >= plan.answered:
            words = "This request could not be executed before the completion window expired."
            return {**result, "error": {"code": f"batch_{batch.status}", "message": words}}
        told = plan.line_errors.get(place)
        status, body = self._answer(line["body"]) if told is None else (told[0], {"error": {"message": told[1]}})
        return {**result, "response": {"status_code": status, "request_id": f"q{place}", "body": body}}


def _not_found(what: str) -> web.Response:
    return web.json_response({"error": {"message": f"No such {what}", "code": None}}, status=404)
