"""What ``tracectl.record`` is given, as words of the command ``tracectl record``: one set of options and checks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from numbers import Real
from typing import Any

import click

from tracectl import text
from tracectl.command_record import record
from tracectl.store.errors import UserError


def words_of(given: dict[str, Any]) -> list[str]:
    """The options as typed on a command line; those that have the command's default are left out.

    Args:
        given: values by the name of the command's parameter; several where the command takes several, or one of them.

    Raises:
        UserError: a value of a type that no option has.
    """
    words = []
    for option in record.params:
        if not isinstance(option, click.Option) or option.name not in given:
            continue
        name, value = option.name, given[option.name]
        if option.is_flag:
            if not isinstance(value, bool):
                raise UserError(f"{name}: {text.visible(repr(value))} is no answer to yes or no", "True or False")
            words += [option.opts[0]] * value
        elif option.multiple:
            words += [word for one in _several(value) for word in (option.opts[0], _word(name, one))]
        elif value is not None and (word := _word(name, value)) != _default(option):
            words += [option.opts[0], word]
    return words


def parsed(words: Iterable[str]) -> dict[str, Any]:
    """What the command understands by these words: the values of all its parameters.

    Raises:
        UserError: a value that cannot be meant.
    """
    try:
        with record.make_context("record", list(words)) as context:
            return context.params
    except click.BadParameter as error:
        name = f"{error.param.name}: " if error.param is not None else ""
        raise UserError(name + text.visible(error.message.rstrip("."))) from error


def _several(value: object) -> list[object]:
    """A name alone is one name, not its letters."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]


def _word(name: str, value: object) -> str:
    """A value as typed; a number of seconds without an exponent."""
    match value:
        case str():
            return value
        case os.PathLike():
            return os.fsdecode(value)
        case timedelta():
            return f"{value // timedelta(microseconds=1)}us"
        case float():
            return f"{value:.9f}".rstrip("0").rstrip(".")
        case Real():
            return str(value)
    raise UserError(f"{name}: {text.visible(repr(value))} is neither text nor a number")


def _default(option: click.Option) -> str:
    """What stands for the option when it is not given; click has other values for those without a default."""
    return str(option.default) if isinstance(option.default, str | int) else ""
