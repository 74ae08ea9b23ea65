"""The batch desk of OpenAI and those who copy it: hand a file of requests in, look at it, fetch what came.

The wire: https://platform.openai.com/docs/api-reference/batch. What fails for the moment is tried again, later and later, for as long
as the endpoint's spec has patience; a batch is looked for by our id before its submission is tried again, for the last try may
have been taken though its reply was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urljoin

import aiohttp

from potstill.errors import EndpointError
from potstill.models.openai_http import OpenAIModel, Query, without_query
from potstill.models.openai_wire import read_complaint
from potstill.records import Fault, Request
from potstill.store.atomic import store_error

MOST_LINES = 50_000
MOST_BYTES = 190_000_000
"""What OpenAI takes in a batch: 50,000 requests, 200 MB (some is left for what surrounds the file)."""
METADATA = "potstill_batch"
"""Our id of a batch stands under this name in the provider's metadata."""
OVER = {"completed", "failed", "expired", "cancelled"}
_NO_REPLY = (aiohttp.ClientError, OSError, UnicodeError)
_NO_BATCHES = "does this endpoint take batches? `generation.mode: live` asks without"
_QUEUE_FULL = "token_limit_exceeded"
_PAGE = 100
_LONGEST_WAIT_S = 60.0
_REDIRECTS = {301, 302, 303, 307, 308}
_CHUNK = 1 << 16
_ID = re.compile(rb'"custom_id"\s*:\s*"([^"\\]+)"')

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProviderBatch:
    """A batch as the provider tells of it. `ours` is the id that we gave it, `problems` why it failed as a whole."""

    id: str
    ours: str
    status: str
    total: int
    done: int
    output_file: str | None
    error_file: str | None
    seconds: float
    problems: tuple[tuple[str, str], ...]

    @property
    def words(self) -> str:
        """Why it failed as a whole, in the provider's words."""
        return "; ".join(dict.fromkeys(f"{code}: {words}" if code else words for code, words in self.problems[:3])) or "without a word"

    @property
    def queue_full(self) -> bool:
        """Whether it failed because too much is waiting at the provider already."""
        return self.status == "failed" and any(code == _QUEUE_FULL or "enqueued token" in words.lower() for code, words in self.problems)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in OVER


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a batch's files: the custom id, and status and body of its answer, or (status 0) an error instead."""

    id: str
    status: int = 0
    body: str = ""
    words: str = ""


class _Passing(Exception):
    """A call that failed, and may do better at another time."""

    def __init__(self, words: str, fault: Fault | None = None) -> None:
        super().__init__(words)
        self.retry_after_s, self.broken = (fault.retry_after_s, fault.broken) if fault is not None else (0.0, False)


class BatchDesk:
    """Where one model's endpoint takes batches; files are held in `folder` meanwhile, under no name.

    A list of batches may lag `lag_s` behind. Every method raises EndpointError where the endpoint refuses, or stays away for long.
    """

    def __init__(self, model: OpenAIModel, folder: Path, lag_s: float) -> None:
        self.address, self._folder, self._lag_s, self._answered = model.address, folder, lag_s, False
        self._model, self._patience_s = model, model.endpoint.patience_minutes * 60
        # Azure's dated addresses know the route without a version.
        self._target = "/chat/completions" if model.endpoint.api_version else "/v1/chat/completions"

    def new_file(self) -> IO[bytes]:
        """An empty file without a name, for the caller to close. Raises StoreError, as `write`."""
        try:
            return tempfile.TemporaryFile(dir=self._folder)
        except OSError as error:
            raise store_error(self._folder, error) from None

    def write(self, file: IO[bytes], content: bytes) -> None:
        """Append to such a file. Raises StoreError where the disk does not take it."""
        try:
            file.write(content)
            file.flush()
        except OSError as error:
            raise store_error(self._folder, error) from None

    def line(self, key: str, request: Request) -> bytes:
        """A request as a line of a batch's file."""
        body = self._model.body(request)
        return json.dumps({"custom_id": key, "method": "POST", "url": self._target, "body": body}).encode() + b"\n"

    async def submit(self, lines: IO[bytes], ours: str) -> ProviderBatch:
        """Upload the lines and have them answered, under our id: once, however often it has to be tried."""
        file = await self._patiently(lambda: self._upload(lines, ours))
        wanted = {"input_file_id": file, "endpoint": self._target, "completion_window": "24h", "metadata": {METADATA: ours}}
        tried = False

        async def create() -> ProviderBatch:
            nonlocal tried
            if tried and (found := await self.find(ours)) is not None:
                return found
            tried = True
            return _batch(await self._ask("POST", "/batches", json=wanted))

        return await self._patiently(create)

    async def look(self, provider_id: str) -> ProviderBatch:
        """Where a batch stands."""

        async def once() -> ProviderBatch:
            return _batch(await self._ask("GET", f"/batches/{provider_id}", unknown=_gone(provider_id)))

        return await self._patiently(once)

    async def find(self, ours: str) -> ProviderBatch | None:
        """The batch that has our id in its metadata; None where the provider has none, and none a while later."""
        found = await self._look_through(ours)
        if found is None:
            await asyncio.sleep(self._lag_s)
            found = await self._look_through(ours)
        return found

    async def _look_through(self, ours: str) -> ProviderBatch | None:
        after: str | None = None
        while True:
            query = {"limit": str(_PAGE)} | ({"after": after} if after else {})
            page = await self._patiently(functools.partial(self._ask, "GET", "/batches", query=query))
            found = [row for row in page.get("data") or () if isinstance(row, dict)]
            for row in found:
                if _ours(row) == ours:
                    return _batch(row)
            last = str(page.get("last_id") or (found[-1].get("id") if found else "") or "")
            if not page.get("has_more") or not found or last == after:
                return None
            after = last

    async def fetch(self, file: str, provider_id: str) -> IO[bytes]:
        """The content of a batch's file, on disk under no name; for the caller to close."""
        return await self._patiently(lambda: self._download(self._model.route(f"/files/{file}/content"), _gone(provider_id)))

    async def _upload(self, lines: IO[bytes], ours: str) -> str:
        # aiohttp closes what it has sent: so each try gets a handle of its own.
        with os.fdopen(os.dup(lines.fileno()), "rb") as handle:
            handle.seek(0)
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field("file", handle, filename=f"potstill-{ours}.jsonl", content_type="application/jsonl")
            said = await self._ask("POST", "/files", form=form)
        if not said.get("id"):
            raise _Passing("the file was taken without giving it an id")
        return str(said["id"])

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        form: aiohttp.FormData | None = None,
        query: Query = None,
        unknown: str = _NO_BATCHES,
    ) -> dict[str, Any]:
        try:
            url = self._model.route(path)
            async with self._model.call(method, url, json=json, form=form, query=query, long=form is not None) as response:
                text = self._model.without_key(await response.text(encoding="utf-8", errors="replace"))
        except _NO_REPLY as error:
            raise _Passing(*self._model.why(error)) from None
        if response.status not in {200, 201}:
            raise self._refusal(path, response, text, unknown)
        return _object(text)

    async def _download(self, url: str, unknown: str, redirects: int = 3) -> IO[bytes]:
        with contextlib.ExitStack() as unless_whole:
            file = unless_whole.enter_context(self.new_file())
            try:
                async with self._model.call("GET", url, long=True) as response:
                    if response.status == 200:
                        async for chunk in response.content.iter_chunked(_CHUNK):
                            self.write(file, chunk)
                        file.seek(0)
                        unless_whole.pop_all()
                        return file
                    text = self._model.without_key(await response.text(encoding="utf-8", errors="replace"))
            except _NO_REPLY as error:
                raise _Passing(*self._model.why(error)) from None
        if response.status in _REDIRECTS and "Location" in response.headers and redirects:
            return await self._download(urljoin(url, response.headers["Location"]), unknown, redirects - 1)
        if self._model.is_foreign(url):
            # A signed address: its words may repeat the signature, and a refusal says nothing of our key; the next try gets a new one.
            raise _Passing(f"{response.status} from {without_query(url)}, where the file lies")
        raise self._refusal(url.removeprefix(self.address), response, text, unknown)

    def _refusal(self, path: str, response: aiohttp.ClientResponse, text: str, unknown: str) -> Exception:
        complaint = read_complaint(text)
        where = self.address + without_query(path)
        if response.status in {404, 405, 501}:
            words = f"{response.status}: {complaint.words or 'without a word'}"
            return EndpointError(f"{where}: {words}; {unknown}")
        [failed] = self._model.read_refusal(response.status, complaint, response.headers, 1)
        if failed.fault is None:
            return EndpointError(f"{where}: {failed.error}")
        return _Passing(failed.error or "", failed.fault)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it does not fail for the moment: as often as a question is tried, and for as long as patience lasts."""
        started, failures = time.monotonic(), 0
        while True:
            try:
                result = await call()
            except _Passing as error:
                failures += 1
                waited = time.monotonic() - started
                never_there = error.broken and not self._answered
                if failures >= self._model.max_attempts and (never_there or waited >= self._patience_s):
                    raise EndpointError(
                        f"{self.address}: nothing but failures for {waited / 60:.1f} minutes, {failures:,} calls in all; the last: "
                        f"{error}. What was handed in is not lost: run the same command again when it is back"
                    ) from None
                backoff = min(self._model.backoff_s * 2.0 ** (failures - 1), _LONGEST_WAIT_S)
                await asyncio.sleep(max(backoff * random.uniform(0.5, 1.5), error.retry_after_s))
            else:
                self._answered = True
                return result


def _gone(provider_id: str) -> str:
    return (
        "is the key that of the account which handed this batch in? Where it is gone for good, this lets its questions be asked again: "
        f"sqlite3 LEDGER \"UPDATE batch SET state = 'lost' WHERE provider_id = '{provider_id}'\""
    )


def read_line(line: bytes) -> Line | None:
    """What a line of a batch's files says; None where it cannot be read."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("custom_id"), str):
        return None
    response = row.get("response")
    if isinstance(response, dict) and isinstance(response.get("status_code"), int):
        return Line(row["custom_id"], response["status_code"], json.dumps(response.get("body")))
    complaint = read_complaint(json.dumps({"error": row.get("error") or "the line says nothing"}))
    return Line(row["custom_id"], words=f"{complaint.code}: {complaint.words}" if complaint.code else complaint.words)


def id_in(line: bytes) -> str | None:
    """The custom id in a line that cannot be read as a whole, for it is cut off or garbled behind it."""
    found = _ID.search(line)
    return found.group(1).decode("utf-8", "replace") if found else None


def _batch(row: dict[str, Any]) -> ProviderBatch:
    if not row.get("id") or not row.get("status"):
        raise _Passing("what came back is no batch: it has no id, or no status")
    counts = row.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    errors = row.get("errors")
    data = errors.get("data") if isinstance(errors, dict) else errors
    problems = [problem if isinstance(problem, dict) else {"message": problem} for problem in data] if isinstance(data, list) else []
    return ProviderBatch(
        str(row["id"]),
        _ours(row),
        str(row["status"]).lower(),
        _number(counts.get("total")),
        _number(counts.get("completed")) + _number(counts.get("failed")),
        str(row["output_file_id"]) if row.get("output_file_id") else None,
        str(row["error_file_id"]) if row.get("error_file_id") else None,
        float(max(_number(row.get("completed_at") or row.get("expired_at")) - _number(row.get("created_at")), 0)),
        tuple((str(problem.get("code") or ""), str(problem.get("message") or "")) for problem in problems),
    )


def _ours(row: dict[str, Any]) -> str:
    metadata = row.get("metadata")
    return str(metadata.get(METADATA) or "") if isinstance(metadata, dict) else ""


def _number(said: object) -> int:
    return said if isinstance(said, int) and said > 0 else 0


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _Passing("the answer is not JSON, or only half of it")
    return found
