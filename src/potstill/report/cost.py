"""What 1,000 requests cost with each system, what the distillation cost, and when that has paid for itself.

The unknown is null, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from potstill.models.load import endpoint_of
from potstill.models.locate import ECHO, is_local
from potstill.report.units import dollars_text
from potstill.spec import RunSpec
from potstill.spec.sections import CostsSpec, PriceSpec, TeacherSpec

PRICE_TABLE, PER_HOUR, UNKNOWN = "price table", "price per hour", "unknown"
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What costs are reckoned from: parts of `report.json`.

    `evaluation` (`scores.json`), `timings` of its systems, `stages` in seconds, and `usage` of generation.
    """

    evaluation: Mapping[str, Any]
    timings: Mapping[str, Any]
    stages: Mapping[str, float]
    usage: Mapping[str, Any]


def reckon_cost(spec: RunSpec, measured: Measured) -> dict[str, Any]:
    """What `report.json` holds under `cost`; dollars throughout.

    Keys: `currency`; `per_1000_requests` by system (`dollars`, `how`, and `in_flight`: how many requests at once a machine by the hour is
    taken to answer); `distillation` (`teacher_calls`, `judge_calls`, `machine`, `total`); `saving_per_1000` (teacher less student);
    `break_even_requests`, `break_even_days` (null where the student saves nothing, or something is unknown); `requests_per_day`.
    """
    asked = {"teacher": spec.teacher, **{other.key: other.model for other in spec.evaluation.compare if other.model is not None}}
    prices = {system: price_of(model) for system, model in asked.items()}
    each = {system: per_1000(system, prices.get(system), spec.costs, measured) for system in measured.evaluation["systems"]}
    distillation = _distillation(spec, measured)
    teacher, student = (each[system]["dollars"] if system in each else None for system in ("teacher", "student"))
    saving = None if teacher is None or student is None else teacher - student
    requests = _break_even(distillation["total"], saving)
    volume = spec.costs.requests_per_day
    return {
        "currency": "USD",
        "per_1000_requests": each,
        "distillation": distillation,
        "saving_per_1000": saving,
        "break_even_requests": requests,
        "break_even_days": None if requests is None or volume is None else requests / volume,
        "requests_per_day": volume,
    }


def price_of(model: TeacherSpec) -> PriceSpec | None:
    """What a model's answers cost; None where neither the spec nor a price list says."""
    if is_local(model) or model.replay is not None or (model.model == ECHO and model.base_url is None):
        return model.price
    return endpoint_of(model).price


def per_1000(system: str, price: PriceSpec | None, costs: CostsSpec, measured: Measured) -> dict[str, Any]:
    """`dollars` for 1,000 requests to a system, and `how` they are known.

    By tokens: what its answers to the test questions have read and written on average. By the hour: the price of the machine, over the most
    requests that it answered in one at any level of `throughput`; that of this machine where the system has no price and ran here.
    """
    timing, tokens = measured.timings.get(system, {}), measured.evaluation["systems"][system].get("tokens_per_request")
    if price is not None and price.per_gpu_hour is None:
        if tokens is None:
            return {"dollars": None, "how": UNKNOWN}
        dollars = tokens["read"] * (price.input_per_million or 0.0) + tokens["written"] * (price.output_per_million or 0.0)
        return {"dollars": dollars / 1e3, "how": PRICE_TABLE}
    best = max(timing.get("throughput", ()), key=lambda level: float(level["requests_per_s"]), default=None)
    here = price is None and timing.get("over_the_wire") is False
    hourly = (price.per_gpu_hour or 0.0) * price.gpus if price is not None else costs.machine_per_hour if here else None
    if best is None or hourly is None:
        return {"dollars": None, "how": UNKNOWN}
    rate = best["requests_per_s"]
    dollars = _round_the_clock(hourly, rate, costs) if here and costs.always_on else hourly / 3600 / rate * 1000
    return {"dollars": dollars, "how": PER_HOUR, "in_flight": best["concurrency"]}


def cost_sentence(cost: Mapping[str, Any]) -> str:
    """What the distillation cost, and when that has paid for itself; empty where no price is known at all."""
    each, whole = cost["per_1000_requests"], cost["distillation"]
    if whole["total"] is None and all(found["dollars"] is None for found in each.values()):
        return ""
    parts = {"teacher's answers": whole["teacher_calls"], "judge": whole["judge_calls"], "machine time": whole["machine"]}
    told = ", ".join(
        f"{name} {'at an unknown price' if dollars is None else dollars_text(dollars)}" for name, dollars in parts.items() if dollars != 0
    )
    if whole["total"] is None:
        return f"What the distillation cost is not known ({told}){_pays(cost)}."
    return f"The distillation cost {dollars_text(whole['total'])}{f' ({told})' if ', ' in told else ''}{_pays(cost)}."


def _pays(cost: Mapping[str, Any]) -> str:
    saving, requests, days = cost["saving_per_1000"], cost["break_even_requests"], cost["break_even_days"]
    if saving is None:
        return ""
    if saving <= 0:
        return "; the student's answers cost no less than its teacher's"
    saves = f"; the student saves {dollars_text(saving)} per 1,000 requests"
    if requests is None:
        return saves
    at = "" if days is None else f", {_days_text(days)} at {cost['requests_per_day']:,.0f} a day"
    return f"{saves}, and that pays for it after {requests:,} requests{at}"


def _days_text(days: float) -> str:
    return f"{days:,.1f} days" if days >= 0.95 else f"{days * 24:.1f} hours"


def _round_the_clock(hourly: float, rate: float, costs: CostsSpec) -> float:
    """Dollars for 1,000 requests of as many machines as the day's requests need, each paid for all day."""
    assert costs.requests_per_day is not None, "the spec asks for it beside `always_on`"
    machines = math.ceil(costs.requests_per_day / (rate * _DAY_S))
    return machines * 24 * hourly / costs.requests_per_day * 1000


def _distillation(spec: RunSpec, measured: Measured) -> dict[str, float | None]:
    asked = [measured.usage.get("dollars"), measured.timings.get("teacher", {}).get("dollars", 0.0)]
    judge = measured.evaluation.get("judge")
    parts = {
        "teacher_calls": _sum(asked),
        "judge_calls": 0.0 if judge is None else judge.get("dollars"),
        "machine": _machine(spec, measured),
    }
    return {**parts, "total": _sum(list(parts.values()))}


def _machine(spec: RunSpec, measured: Measured) -> float | None:
    """What this machine cost while the stages ran; not twice, where a local teacher's answers were paid by the hour already."""
    if spec.costs.machine_per_hour is None:
        return None
    paid = measured.usage.get("seconds", 0.0) if is_local(spec.teacher) and spec.teacher.price is not None else 0.0
    return max(sum(measured.stages.values()) - paid, 0.0) / 3600 * spec.costs.machine_per_hour


def _break_even(total: float | None, saving: float | None) -> int | None:
    return None if total is None or saving is None or saving <= 0 else math.ceil(total / saving * 1000)


def _sum(parts: list[float | None]) -> float | None:
    return None if None in parts else math.fsum(part or 0.0 for part in parts)
