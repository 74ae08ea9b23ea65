"""A model behind an OpenAI-compatible endpoint: one thin adapter of the chat-completions wire on aiohttp.

One call, its retries, and what its outcome means: that is all. How many calls are in flight, and what may be spent, is
the business of whoever asks.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from potstill.errors import EndpointError
from potstill.models import pricing
from potstill.models.base import Capabilities
from potstill.models.openai_wire import Complaint, failure, looks_like_html, payload, read_answer, read_complaint
from potstill.records import Completion, Request
from potstill.spec.sections import TeacherSpec

if TYPE_CHECKING:
    import aiohttp

_ROUTE = "/chat/completions"
_BUSY = {408, 409, 425, 429}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_LONGEST_WAIT_S = 60.0
_LONGEST_RETRY_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why an attempt failed, where another may do better. `broken` faults stop the run when no attempt is left."""

    reason: str
    retry_after_s: float = 0.0
    broken: bool = False


class OpenAIModel:
    """Asks an endpoint. The key is read once, sent as a bearer token, and taken out of every message.

    Raises EndpointError where the section names no usable address, or a key that is not there. `backoff_s` is the first wait
    between attempts; it doubles each time, with jitter, and gives way to a longer `Retry-After`. Without `takes_sampling`, temperature
    and top_p are not sent.
    """

    def __init__(self, endpoint: TeacherSpec, *, concurrency: int = 16, backoff_s: float = 1.0, takes_sampling: bool = True) -> None:
        assert endpoint.base_url is not None, "the caller has filled in the catalogue's address"
        self._address = _checked_address(endpoint.base_url)
        self._endpoint = endpoint
        self._key = _read_key(endpoint)
        self._backoff_s = backoff_s
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answered = False
        self.capabilities = Capabilities(sampling=takes_sampling)
        self.name = endpoint.model
        self.identity = f"endpoint:{self._address}|{endpoint.model}"
        self.batch_size = 1
        self.concurrency = concurrency

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Ask each request in a call of its own, all at once.

        A call that fails by itself (refused prompt, no text, busy through all attempts) comes back with finish_reason
        "error". Raises EndpointError where key, address or model name are wrong, or nobody answers there.
        """
        return list(await asyncio.gather(*(self._ask(request) for request in requests)))

    def dollars(self, completion: Completion) -> float | None:
        """What this answer cost; None where neither the spec nor the catalogue knows the price."""
        return pricing.dollars(completion, self._endpoint.price)

    async def close(self) -> None:
        """Let go of the connections."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    async def _ask(self, request: Request) -> Completion:
        body = payload(self._endpoint.model, request, takes_sampling=self.capabilities.sampling)
        fault = _Fault("")
        for attempt in range(self._endpoint.max_attempts):
            if attempt:
                await asyncio.sleep(self._wait_s(attempt, fault))
            started = time.perf_counter()
            outcome = await self._attempt(body, request)
            if isinstance(outcome, Completion):
                return replace(outcome, latency_s=time.perf_counter() - started)
            fault = outcome
        tries = f"after {self._endpoint.max_attempts} attempt{'s' if self._endpoint.max_attempts > 1 else ''}: "
        if fault.broken:
            raise EndpointError(f"{self._address}: {tries}{fault.reason}")
        return failure(tries + fault.reason, self.name)

    async def _attempt(self, body: dict[str, object], request: Request) -> Completion | _Fault:
        import aiohttp  # here, so that a spec can be checked without it

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            async with self._open_session().post(self._address + _ROUTE, json=body, headers=headers, allow_redirects=False) as response:
                text = await response.text(encoding="utf-8", errors="replace")
        except TimeoutError:
            return _Fault(f"no whole answer within {self._endpoint.timeout_s:g} s")
        except aiohttp.ClientConnectorError as error:
            reason = f"cannot connect ({error.os_error.strerror or error.os_error}); is the address right, and the server running?"
            return _Fault(reason, broken=True)
        except aiohttp.ClientError as error:
            return _Fault(self._without_key(f"the connection broke: {error or type(error).__name__}"))
        if response.status == 200:
            return self._read_body(text, request)
        return self._read_refusal(response.status, self._complaint(text), response.headers)

    def _read_body(self, text: str, request: Request) -> Completion | _Fault:
        try:
            body = json.loads(text)
        except ValueError:
            if looks_like_html(text):
                return _Fault("a web page instead of JSON; does the address lack its /v1?", broken=not self._answered)
            return _Fault("the answer is not JSON, or only half of it")
        if not isinstance(body, dict):
            return failure(f"the answer is a JSON {type(body).__name__}, not an object", self.name)
        if body.get("error") and not body.get("choices"):
            complaint = self._complaint(text)
            status = int(complaint.code) if complaint.code.isdigit() else 400
            return self._read_refusal(status, complaint, {})
        self._answered = True
        return read_answer(body, request, self.name)

    def _read_refusal(self, status: int, complaint: Complaint, headers: Mapping[str, str]) -> Completion | _Fault:
        words = f"{status}: {complaint.words or 'without a word'}"
        if status in {401, 403}:
            raise EndpointError(f"{self._address}: {words}; {self._key_advice()}")
        if complaint.names_the_model or status == 404:
            raise EndpointError(f'{self._address}: {words}; check the model name "{self.name}", and the address (most end in /v1)')
        if status == 402 or complaint.names_the_quota:
            raise EndpointError(f"{self._address}: {words}; the account has no credit left")
        if status in _BUSY or status >= 500:
            return _Fault(words, _retry_after_s(headers))
        if complaint.names_the_content:
            return Completion("", "content_filter", model=self.name, error=words)
        if status in {400, 413, 422}:
            return failure(words, self.name)
        where = f" to {headers['Location']}" if "Location" in headers else ""
        raise EndpointError(f"{self._address}: {words}{where}; this is not an address of chat completions: check `base_url`")

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp

        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                headers=self._endpoint.headers,
                timeout=aiohttp.ClientTimeout(total=self._endpoint.timeout_s),
                connector=aiohttp.TCPConnector(limit=self.concurrency),
                # A server on this machine is never behind the proxy that the environment names.
                trust_env=urlsplit(self._address).hostname not in _LOOPBACK,
            )
        return self._session

    def _wait_s(self, attempt: int, fault: _Fault) -> float:
        backoff = min(self._backoff_s * 2.0 ** (attempt - 1), _LONGEST_WAIT_S)
        # Jitter, so that calls which failed together do not come back together.
        return max(backoff * random.uniform(0.5, 1.5), fault.retry_after_s)

    def _complaint(self, text: str) -> Complaint:
        complaint = read_complaint(text)
        return replace(complaint, words=self._without_key(complaint.words))

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    def _key_advice(self) -> str:
        if self._endpoint.api_key_env:
            return f"check the key in the environment variable {self._endpoint.api_key_env}"
        if self._endpoint.api_key_file:
            return f"check the key in {self._endpoint.api_key_file}"
        return "no key was sent: name the environment variable that holds it in `teacher.api_key_env`"


def _checked_address(base_url: str) -> str:
    address = base_url.rstrip("/").removesuffix(_ROUTE)
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        raise EndpointError(f"`base_url` {base_url!r} is not an address; expected something like https://api.example.com/v1") from None
    if parts.username or parts.password:
        raise EndpointError(
            "`base_url` holds a user name or password; put the key into an environment variable and name it in `api_key_env`"
        )
    if not usable:
        raise EndpointError(f"`base_url` {base_url!r} is not an address; expected something like https://api.example.com/v1")
    return address


def _read_key(endpoint: TeacherSpec) -> str:
    if endpoint.api_key_env:
        key = os.environ.get(endpoint.api_key_env, "").strip()
        where = f"the environment variable {endpoint.api_key_env}"
        if not key:
            raise EndpointError(f"{endpoint.model}: {where} is not set; set it to the key of {endpoint.base_url}")
    elif endpoint.api_key_file:
        where = str(endpoint.api_key_file)
        try:
            key = endpoint.api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise EndpointError(
                f"{endpoint.model}: `api_key_file` {where} cannot be read; write the key, and nothing else, into it"
            ) from None
        if not key:
            raise EndpointError(f"{endpoint.model}: `api_key_file` {where} is empty; write the key into it")
    else:
        return ""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise EndpointError(
            f"{endpoint.model}: {where} holds something that is no key (spaces, line breaks or odd characters); set it anew"
        )
    return key


def _retry_after_s(headers: Mapping[str, str]) -> float:
    said = headers.get("Retry-After", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        then = email.utils.parsedate_tz(said)
        seconds = email.utils.mktime_tz(then) - time.time() if then else 0.0
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)
