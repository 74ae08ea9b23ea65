"""Machines behind an endpoint that are paid by the hour: all workers ask the same ones, so their time is paid once."""

from __future__ import annotations

from collections.abc import Iterable

from potstill.models.load import endpoint_of
from potstill.models.locate import ECHO, is_local
from potstill.spec import TeacherSpec
from potstill.spec.sections import PriceSpec
from potstill.store.ledger_sums import covered


def uncounted_dollars(stretches: Iterable[tuple[float, float]], dollars: float, workers: int) -> float:
    """What is missing from `dollars` where each of `workers` counted its part of a machine's price for its own time alone.

    `stretches` are those in which any of them asked (when it began, its seconds). The machine is paid while anybody asks, but whoever
    had ended, or had not begun, counted nothing.
    """
    spans = sorted((since, since + seconds) for since, seconds in stretches)
    counted = sum(end - since for since, end in spans)
    return dollars * (workers * covered(spans) / counted - 1.0) if counted > 0 else 0.0


def by_the_hour_alone(teachers: Iterable[TeacherSpec]) -> bool:
    """Whether all dollars that asking these costs are those of machines behind endpoints, by the hour.

    Then they can be shared out; beside prices by tokens, or machines that each worker has for itself, every worker counts the whole
    price, so that no cap is passed.
    """
    return all(_price(teacher) is not None for teacher in teachers if not _is_free(teacher))


def share_hours(teacher: TeacherSpec, workers: int) -> TeacherSpec:
    """The teacher at a worker's part of its machine's price."""
    price = _price(teacher)
    if price is None or price.per_gpu_hour is None:
        return teacher
    return teacher.model_copy(update={"price": price.model_copy(update={"per_gpu_hour": price.per_gpu_hour / workers})})


def dollars_a_second(teachers: Iterable[TeacherSpec]) -> float:
    """What the machines behind these endpoints cost a second, all together."""
    prices = [price for teacher in teachers if (price := _price(teacher)) is not None]
    return sum((price.per_gpu_hour or 0.0) * price.gpus / 3600 for price in prices)


def _price(teacher: TeacherSpec) -> PriceSpec | None:
    """The price of a machine behind an endpoint; None where the teacher has no such price."""
    if is_local(teacher) or _is_free(teacher):
        return None
    price = endpoint_of(teacher).price
    return price if price is not None and price.per_gpu_hour is not None else None


def _is_free(teacher: TeacherSpec) -> bool:
    if teacher.replay is not None or (teacher.model == ECHO and teacher.base_url is None):
        return True
    return is_local(teacher) and (teacher.price is None or not teacher.price.per_gpu_hour)
