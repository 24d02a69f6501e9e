"""The loss of a configuration, a margin or what takes its place: built, checked, and changed from step to step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin, get_type_hints

from faceprint.classifier import TripletLoss
from faceprint.config import MarginConfig
from faceprint.errors import UserError
from faceprint.margins import MARGINS
from faceprint.margins.plain import Plain
from faceprint.registry import Table, unknown
from faceprint.training.plan import Plan
from faceprint.training.schedule import piecewise_linear

LOSSES: Table[type[Plain] | type[TripletLoss]] = Table("margin", [*MARGINS.items(), ("triplet", TripletLoss)])
"""What `margin.name` takes: the margins of a classifier, and the loss that needs none."""


def build_margin(name: str, options: Mapping[str, Any], num_classes: int) -> Plain | TripletLoss:
    """A margin of the table with its options; `num_classes` goes to those that depend on it.

    Raises `UserError` for an option that is unknown, or not of the type in the margin's signature.
    """
    factory = LOSSES[name]
    kinds = get_type_hints(factory.__init__)
    derived = {"num_classes": num_classes} if "num_classes" in kinds else {}
    allowed = [option for option in inspect.signature(factory).parameters if option not in derived]
    for option, value in options.items():
        if option not in allowed:
            raise unknown(f"option of margin {name!r}", option, allowed)
        check_option(f"margin.options.{option}", value, kinds[option])
    return factory(**derived, **options)


def check_option(key: str, value: Any, kind: Any) -> None:
    """Raise `UserError` unless `value` is of the annotated `kind`: float, int, bool or a Literal of strings."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise unknown(f"value of {key}:", value, list(get_args(kind)))
        return
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        expected = {float: "a number", int: "a whole number", bool: "true or false"}[kind]
        raise UserError(f"{key}: expected {expected}, got {value!r}")


def build_margin_schedule(config: MarginConfig, plan: Plan) -> Callable[[int], dict[str, float]]:
    """A function step (from 0) -> the scheduled options of the margin and their values in that step.

    Raises `UserError` for an option that is none or not a number, a value out of its range, and epochs that do not
    rise.
    """
    kinds = get_type_hints(LOSSES[config.name].__init__)
    numbers = [option for option, kind in kinds.items() if kind is float]
    for option, points in config.schedule.items():
        if option not in numbers:
            raise unknown(f"option in margin.schedule of {config.name!r}", option, numbers)
        if any(left >= right for (left, _), (right, _) in pairwise(points)):
            raise UserError(f"margin.schedule.{option}: the epochs must rise, got {[epoch for epoch, _ in points]}")
        for _, value in points:  # what lies between is in range too: every range is an interval
            build_margin(config.name, {**config.options, option: value}, plan.num_classes)

    def at(step: int) -> dict[str, float]:
        epoch = plan.epoch(step)
        return {option: piecewise_linear(points, epoch) for option, points in config.schedule.items()}

    return at
