"""A model behind an OpenAI-compatible endpoint: one thin adapter of the chat-completions wire on aiohttp.

One call, and what its outcome means: that is all. Whether it is tried again, how many calls are in flight, and what may be spent,
is the business of whoever asks (`models.ask`), by the limits that stand here.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from potstill.errors import EndpointError
from potstill.models import pricing
from potstill.models.base import Capabilities
from potstill.models.openai_wire import (
    STREAMED,
    Complaint,
    Dialect,
    failure,
    likely_tokens,
    looks_like_html,
    most_tokens,
    payload,
    read_answers,
    read_complaint,
    retry_after_s,
    thinking_tokens,
)
from potstill.models.streaming import Stream
from potstill.models.throttle import Limits, Throttle
from potstill.records import Completion, Cost, Fault, FaultKind, Request, Usage, question_of
from potstill.spec.sections import TeacherSpec

if TYPE_CHECKING:
    import aiohttp

Query = Mapping[str, str] | None
_ROUTE = "/chat/completions"
_DEPLOYMENTS = "/deployments/"
_BUSY = {408, 409, 425, 429, 499}
_MAY_HAVE_WORKED = {408, 499, 502, 504, 520, 524}
"""Said by a gateway that stopped waiting: the model behind it may go on, and be paid for."""
_SLOW_DOWN = {429, 503, 529}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_SAMPLES_A_CALL = 8
_COMPLETION_TOKENS = "max_completion_tokens"
_HANG_UP_S = 0.05
"""Some servers (llama.cpp) hang up after a stream without having said so: by then it is known that their connection is of no use."""
_BROKEN_STREAMS = 2
"""So many one after the other, and no stream is asked for any more: a gateway in between may spoil them all."""


class OpenAIModel:
    """Asks one model of an endpoint, `concurrency` calls at once at most, over kept connections.

    The first use opens the connections, `close` lets go of them; each event loop has its own. Samples of one question go out
    in one call where the endpoint gives several (`n`). Raises EndpointError where the address makes no sense, or the key that the
    spec names is missing.
    """

    batch_size = 1

    def __init__(self, endpoint: TeacherSpec, *, concurrency: int = 16, backoff_s: float = 1.0, takes_sampling: bool = True) -> None:
        assert endpoint.base_url is not None, "the caller has filled in the catalogue's address"
        self.address = _checked_address(endpoint.base_url)
        self._endpoint = endpoint
        self._route = self.route(_ROUTE)
        self._key = _read_key(endpoint)
        self._key_as_written = re.compile("".join(_as_written(character) for character in self._key))
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        limits = Limits(concurrency, endpoint.requests_per_minute, endpoint.tokens_per_minute, endpoint.patience_minutes * 60)
        self._throttle = Throttle(self.address, limits)
        self._answered, self._broken_streams = False, 0
        self._dialect = Dialect(sampling=takes_sampling if endpoint.sampling is None else endpoint.sampling, several=endpoint.several)
        self.capabilities = Capabilities(sampling=self._dialect.sampling, logprobs=True)
        self.name = endpoint.model
        self.identity = f"endpoint:{self.address}|{endpoint.model}"
        self.concurrency = concurrency
        self.max_attempts = endpoint.max_attempts
        self.backoff_s = backoff_s

    @property
    def endpoint(self) -> TeacherSpec:
        """What the spec says of the endpoint."""
        return self._endpoint

    @property
    def samples_a_call(self) -> int:
        """How many samples of one question go into one call."""
        return _SAMPLES_A_CALL if self._dialect.several else 1

    @property
    def throttle(self) -> Throttle:
        """Who admits the calls."""
        return self._throttle

    def most(self, request: Request) -> Cost:
        """The most that one call for this request can cost; by the hour it is time that costs, not calls."""
        tokens = most_tokens(request)
        usage = Usage(tokens - request.sampling.max_new_tokens, request.sampling.max_new_tokens)
        return Cost(1, tokens, self.dollars(Completion("", "stop", usage)))

    def likely(self, request: Request) -> int:
        """About how many tokens a call for this request uses, as providers count them when they admit it."""
        return likely_tokens(request) + request.sampling.max_new_tokens

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Ask once: samples of one question in one call where the spec lets it, else a call each, all at the same time.

        A call that fails by itself (refused prompt, no text, busy) comes back with finish_reason "error", with a `fault` where
        another attempt may do better. Raises EndpointError where key, address or model name are wrong.
        """
        # What was admitted as one call stays one, also where the endpoint has just turned out to refuse it.
        most = _SAMPLES_A_CALL if self._endpoint.several else 1
        if len(requests) > 1 and (len(requests) > most or len({question_of(request) for request in requests}) > 1):
            return [answer for [answer] in await asyncio.gather(*(self.complete([request]) for request in requests))]
        if len(self._sessions) > 1:
            await self._close_sessions()
        if requests[0].streamed:
            await asyncio.sleep(_HANG_UP_S)
        started = time.perf_counter()
        answers = await self._attempt(requests[0], len(requests))
        seconds = time.perf_counter() - started
        return [replace(answer, latency_s=seconds) if answer.finish_reason != "error" else answer for answer in answers]

    def dollars(self, completion: Completion) -> float | None:
        """What this answer cost; None where neither the spec nor the catalogue knows the price."""
        return pricing.dollars(completion, self._endpoint.price)

    async def close(self) -> None:
        """Let go of the connections, those of event loops that are over included."""
        await self._close_sessions(asyncio.get_running_loop())

    async def _close_sessions(self, here: asyncio.AbstractEventLoop | None = None) -> None:
        for loop in [loop for loop in self._sessions if loop is here or loop.is_closed()]:
            await self._sessions.pop(loop).close()

    def route(self, path: str) -> str:
        """The full address of a path; what does not belong to one deployment of Azure stands above the deployments."""
        version = self._endpoint.api_version
        if not version:
            return self.address + path
        root = self.address if path == _ROUTE else self.address.partition(_DEPLOYMENTS)[0]
        return f"{root}{path}?api-version={version}"

    def body(self, request: Request) -> dict[str, Any]:
        """What a call for this request says where the endpoint gets it by another way than a call (Azure knows the deployment's name)."""
        deployment = self.address.partition(_DEPLOYMENTS)[2] if self._endpoint.api_version else ""
        return payload(deployment or self._endpoint.model, request, self._dialect)

    def read(self, status: int, text: str, request: Request) -> Completion:
        """What came by another way than a call means, by its status and body. Raises as `complete`."""
        if status == 200:
            return self._read_body(text, request, 1)[0]
        complaint = read_complaint(text)
        if status in {400, 422} and complaint.wants_completion_tokens:
            self._dialect = replace(self._dialect, limit=_COMPLETION_TOKENS)
            return self._failed(1, f"{status}: {complaint.words}", Fault("short"))[0]
        return self.read_refusal(status, complaint, {}, 1)[0]

    def call(
        self, method: str, url: str, *, json: object = None, form: aiohttp.FormData | None = None, query: Query = None, long: bool = False
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """One HTTP call; key and headers go to the endpoint's own address alone. `long`: the time-out counts from byte to byte.

        Whoever calls hands what it raises (aiohttp's errors, OSError, UnicodeError) to `why`.
        """
        import aiohttp

        limits = {"total": None, "sock_read": self._endpoint.timeout_s} if long else {"total": self._endpoint.timeout_s}
        timeout = aiohttp.ClientTimeout(**limits, sock_connect=self._endpoint.connect_timeout_s)
        headers = {} if self.is_foreign(url) else self._own_headers()
        return self._open_session().request(
            method, url, json=json, data=form, params=query, headers=headers, timeout=timeout, allow_redirects=False
        )

    def why(self, error: Exception) -> tuple[str, Fault]:
        """Why a call brought nothing back: in words, and what it means. Raises EndpointError where no other call would fare better."""
        import ssl

        import aiohttp

        if isinstance(error, aiohttp.ConnectionTimeoutError):
            words = f"cannot connect within {self._endpoint.connect_timeout_s:g} s; is the address right, and the server running?"
            return words, Fault("down", broken=True)
        if isinstance(error, TimeoutError):
            return f"no whole answer within {self._endpoint.timeout_s:g} s", Fault("down", charged=True)
        if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError)):
            words = self.without_key(str(error))
            raise EndpointError(f"{self.address}: no secure connection: {words}; check its certificate, and http against https") from None
        if isinstance(error, aiohttp.ClientConnectorError):
            words = f"cannot connect ({error.os_error.strerror or error.os_error}); is the address right, and the server running?"
            return words, Fault("down", broken=True)
        if isinstance(error, (aiohttp.InvalidURL, UnicodeError)):
            raise EndpointError(f"{self.address}: is not an address that can be asked; check `base_url`") from None
        return self.without_key(f"the connection broke: {str(error) or type(error).__name__}"), Fault("down", charged=True)

    async def _attempt(self, request: Request, count: int) -> list[Completion]:
        import aiohttp  # here, as everywhere in this file, so that a spec can be checked without it

        try:
            return await self._call(request, count)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            return self._failed(count, *self.why(error))

    async def _call(self, request: Request, count: int) -> list[Completion]:
        asked = self._dialect
        body = payload(self._endpoint.model, request, asked, count)
        streamed = request.streamed and asked.streams and count == 1 and not request.prompt_logprobs
        body |= STREAMED if streamed else {}
        started = time.perf_counter()
        async with self._open_session().post(self._route, json=body, headers=self._own_headers(), allow_redirects=False) as response:
            if streamed and response.status == 200:
                stream = Stream()
                async for piece in response.content.iter_any():
                    stream.feed(piece, time.perf_counter() - started)
                return self._read_stream(stream, request)
            # Whatever is kept of a body (its words, the body as it came) is kept without the key, should the server have repeated it.
            text = self.without_key(await response.text(encoding="utf-8", errors="replace"))
        if response.status == 200:
            return self._read_body(text, request, count)
        complaint = read_complaint(text)
        if response.status in {400, 422} and self._learns(complaint, asked, count, streamed):
            return self._failed(count, complaint.words, Fault("short"))
        return self.read_refusal(response.status, complaint, response.headers, count)

    def _read_stream(self, stream: Stream, request: Request) -> list[Completion]:
        body = stream.body()
        # Without the key only now: what it was cut into gives it away when it is put together.
        answers = self._read_body(self.without_key(stream.text() if body is None else json.dumps(body)), request, 1)
        if body is None:
            return answers
        [answer] = answers
        if answer.fault is not None and answer.fault.kind == "garbled":
            self._broken_streams += 1
            if self._broken_streams == _BROKEN_STREAMS:
                self._dialect = replace(self._dialect, streams=False)
        if answer.finish_reason == "error":
            return answers
        self._broken_streams, thought = 0, thinking_tokens(body, answer)
        first_s = stream.first_s(answer.usage.output_tokens - thought)
        return [replace(answer, first_token_s=first_s, thinking_tokens=thought)]

    def _learns(self, complaint: Complaint, asked: Dialect, count: int, streamed: bool) -> bool:
        """Whether this refusal teaches another way of asking than the call's; calls that left together are all told."""
        if complaint.wants_completion_tokens and asked.limit != _COMPLETION_TOKENS:
            self._dialect = replace(self._dialect, limit=_COMPLETION_TOKENS)
            return True
        if streamed and complaint.names_streaming:
            self._dialect = replace(self._dialect, streams=False)
            return True
        if count > 1:
            self._dialect = replace(self._dialect, several=False)
        return count > 1

    def _read_body(self, text: str, request: Request, count: int) -> list[Completion]:
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            if looks_like_html(text):
                reason = "a web page instead of JSON; does the address lack its /v1?"
                return self._failed(count, reason, Fault("down", broken=not self._answered, charged=True), text)
            return self._failed(count, "the answer is not JSON, or only half of it", Fault("garbled", charged=True), text)
        if not isinstance(body, dict):
            failed = self._failed(count, f"the answer is a JSON {type(body).__name__}, not an object", None, text)
            return [replace(answer, counted=False) for answer in failed]
        if body.get("error") and not body.get("choices"):
            complaint = read_complaint(text)
            status = int(complaint.code) if complaint.code.isdecimal() and complaint.code.isascii() else 400
            return self.read_refusal(status, complaint, {}, count)
        self._answered = True
        answers = read_answers(body, request, self.name, count)
        if any(answer.fault is not None and answer.fault.kind == "short" for answer in answers):
            self._dialect = replace(self._dialect, several=False)
        # Scores of a whole prompt are kept as what was read of them: as they came, they take a hundred times as much room.
        return answers if request.prompt_logprobs else [replace(answers[0], raw=text), *answers[1:]]

    def read_refusal(self, status: int, complaint: Complaint, headers: Mapping[str, str], count: int) -> list[Completion]:
        """The failed answers that a refused call comes to. Raises EndpointError where no other call would fare better."""
        words = f"{status}: {complaint.words or 'without a word'}"
        if status in {401, 403}:
            raise EndpointError(f"{self.address}: {words}; {self.key_advice()}")
        if status == 402 or complaint.names_the_quota:
            raise EndpointError(f"{self.address}: {words}; the account has no credit left")
        if status in _BUSY or status >= 500:
            kind: FaultKind = "busy" if status in _SLOW_DOWN else "down"
            return self._failed(count, words, Fault(kind, retry_after_s(headers), charged=status in _MAY_HAVE_WORKED))
        if status == 404 or (status in {400, 422} and complaint.names_the_model):
            raise EndpointError(f'{self.address}: {words}; check the model name "{self.name}", and the address (most end in /v1)')
        if complaint.names_the_content:
            return [Completion("", "content_filter", model=self.name, error=words)] * count
        if status in {400, 413, 422}:
            return self._failed(count, words)
        where = f" to {self.without_key(without_query(headers['Location']))}" if "Location" in headers else ""
        raise EndpointError(f"{self.address}: {words}{where}; this is not an address of chat completions: check `base_url`")

    def _failed(self, count: int, reason: str, fault: Fault | None = None, raw: str | None = None) -> list[Completion]:
        return [replace(failure(reason, self.name, fault=fault), raw=raw), *[failure(reason, self.name, fault=fault)] * (count - 1)]

    def is_foreign(self, url: str) -> bool:
        """Whether an address is not the endpoint's own."""
        return not url.startswith(self.address.partition(_DEPLOYMENTS)[0] + "/")

    def _own_headers(self) -> dict[str, str]:
        headers = dict(self._endpoint.headers)
        if self._key:
            headers |= {"api-key": self._key} if self._endpoint.api_version else {"Authorization": f"Bearer {self._key}"}
        return headers

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp

        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._endpoint.timeout_s, sock_connect=self._endpoint.connect_timeout_s),
                connector=aiohttp.TCPConnector(limit=self.concurrency),
                # A server on this machine is never behind the proxy that the environment names.
                trust_env=urlsplit(self.address).hostname not in _LOOPBACK,
            )
        return self._sessions[loop]

    def without_key(self, text: str) -> str:
        """A text from outside, fit to be kept and shown: without the key, in whatever way JSON writes it."""
        return self._key_as_written.sub("[key]", text) if self._key else text

    def key_advice(self) -> str:
        """What to do where the endpoint does not take the key."""
        if self._endpoint.api_key_env:
            return f"check the key in the environment variable {self._endpoint.api_key_env}"
        if self._endpoint.api_key_file:
            return f"check the key in {self._endpoint.api_key_file}"
        return "no key was sent: name the environment variable that holds it in `teacher.api_key_env`"


def without_query(url: str) -> str:
    """An address fit to be shown: what lets its bearer in stands after the path where it is a signed one, else before the host."""
    return re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])


def _checked_address(base_url: str) -> str:
    address = base_url.rstrip("/").removesuffix(_ROUTE)
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:  # UnicodeError is one
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


def _as_written(character: str) -> str:
    """A pattern of one ASCII character as JSON may write it, in a body or in a string inside a body, which reading would restore."""
    plain = re.escape(character)
    escaped = rf"\\+(?i:u00{ord(character):02x})"
    return rf"(?:{escaped}|\\*{plain})" if character in '/"\\' else f"(?:{plain}|{escaped})"
