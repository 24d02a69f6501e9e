"""Pickles of plain data, read without being run.

A pickle is a program, and those of verification sets come from strangers. `read_plain` interprets the few
instructions that lists, byte strings, numbers and their NumPy forms are made of, and refuses all others.
`pickle.Unpickler` with a strict `find_class` would not do: five bytes (LONG_BINPUT) make it allocate 32 GiB
for its memo, and BUILD lets a file set attributes of what it was given.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from faceprint.errors import UserError


def read_plain(data: bytes, name: str) -> Any:
    """The value of a pickle, any protocol, of None, bool, int, str, bytes, list, tuple and `PlainArray`.

    A byte string of Python 2 becomes bytes, so does a bytearray. Nothing is executed; time and memory grow
    with `len(data)`, whatever the data claim. Raises `UserError` that says what else the pickle asks for, or
    where it is damaged; `name` stands in messages.
    """
    machine = _Machine(data)
    try:
        return machine.run()
    except _Refused as error:
        where = f"at byte {machine.at} of {len(data)}"
        raise UserError(f"{name}: the pickle {error} ({where}); nothing in it was run") from error
    except (ValueError, TypeError, LookupError, struct.error) as error:
        raise UserError(f"{name}: damaged, or not a pickle: {error} (at byte {machine.at})") from error


class _Refused(Exception):
    """The pickle asks for something that plain data does not need."""


class _DType:
    """A pickled `numpy.dtype`; its byte order arrives in a second instruction."""

    def __init__(self, spec: Any, *_: Any) -> None:
        if _text(spec) not in ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
            raise _Refused(f"asks for arrays of type {_text(spec)[:80]!r}; allowed: bool and whole numbers")
        self.value: np.dtype[Any] = np.dtype(_text(spec))

    def build(self, state: Any) -> None:
        order = _text(state[1])
        self.value = np.dtype(order + self.value.str[1:] if order in "<>" else self.value.str)


class PlainArray:
    """A pickled one-dimensional `numpy.ndarray`: `content` holds its bytes, `values()` gives its numbers."""

    def __init__(self, *_: Any) -> None:  # pickles first ask for an empty array, the content follows
        self.dtype: np.dtype[Any] = np.dtype("u1")
        self.content = b""

    def build(self, state: Any) -> None:
        _, shape, dtype, _, content = state
        if not isinstance(dtype, _DType) or not isinstance(content, bytes):
            raise ValueError("an array without type or content")
        if not isinstance(shape, tuple) or not all(isinstance(length, int) for length in shape):
            raise ValueError("an array without shape")
        if sum(length != 1 for length in shape) > 1:
            raise ValueError(f"an array of {len(shape)} dimensions; allowed: one")
        if math.prod(shape) * dtype.value.itemsize != len(content):
            raise ValueError(f"an array whose shape and {len(content)} bytes of content disagree")
        self.dtype, self.content = dtype.value, content

    def values(self) -> list[int]:
        return np.frombuffer(self.content, self.dtype).tolist()


def _array_from_buffer(content: Any, dtype: Any, shape: Any, *_: Any) -> PlainArray:
    array = PlainArray()
    array.build((1, shape, dtype, False, content))
    return array


def _scalar(dtype: Any, content: Any) -> int:
    return _array_from_buffer(content, dtype, (1,)).values()[0]


def _bytes(value: Any = b"", *_: Any) -> bytes:
    """`bytes(b)` and `_codecs.encode(text, "latin1")`: how old protocols spell byte strings of Python 3."""
    if not isinstance(value, (str, bytes)):
        raise ValueError(f"a byte string made from {type(value).__name__}")
    return value.encode("latin-1") if isinstance(value, str) else value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _bytes,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "__builtin__.bytes": _bytes,
    "__builtin__.bytearray": _bytes,
    "numpy.dtype": _DType,
    "numpy.ndarray": PlainArray,
    **{f"numpy.{core}.multiarray._reconstruct": PlainArray for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array_from_buffer for core in ("core", "_core")},
}


class _Machine:
    """A stack, a memo and one step for each instruction in `_STEPS`.

    Every instruction takes at least a byte of the data and pushes a value no larger than its own argument, so
    work and memory are bounded by the data; calls could copy one value many times, so they have a budget.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.budget = len(data)

    def run(self) -> Any:
        while (code := self.take(1)) != b".":
            if code not in _STEPS:
                raise _Refused(f"holds the instruction {code!r}, which plain data does not need")
            _STEPS[code](self)
        return self.stack[-1]

    def advance(self, count: int) -> None:
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError("it ends in the middle of an instruction")
        self.at += count

    def take(self, count: int) -> bytes:
        self.advance(count)
        return self.data[self.at - count : self.at]

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> bytes:
        return self.take(self.data.index(b"\n", self.at) + 1 - self.at)[:-1]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.below_marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below_marks.pop()
        return values

    def pop(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError(f"values are appended to {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(values)

    def find(self, module: Any, name: Any) -> None:
        full_name = f"{_text(module)}.{_text(name)}"
        if full_name not in _FUNCTIONS:
            raise _Refused(f"asks for {full_name[:80]!r}, which plain data does not need")
        self.push(_FUNCTIONS[full_name])

    def call(self) -> None:
        function, arguments = self.pop(2)
        if not callable(function) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is no function")
        result = function(*arguments)
        if isinstance(result, bytes) and not any(result is given for given in arguments):
            self.budget -= len(result)
        if self.budget < 0:
            raise _Refused("unpacks to more than its own size")
        self.push(result)

    def build(self) -> None:
        (state,) = self.pop(1)
        if not isinstance(self.stack[-1], (_DType, PlainArray)):
            raise ValueError(f"content is given to {type(self.stack[-1]).__name__}")
        self.stack[-1].build(state)


def _text(value: Any) -> str:
    if not isinstance(value, (str, bytes)):
        raise ValueError(f"a name that is {type(value).__name__}")
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _decimal(line: bytes) -> int:
    if len(line) > 32:  # before int(), whose time grows with the square of the length
        raise ValueError("a number of more than 32 digits")
    return int(line.removesuffix(b"L"))


def _quoted(line: bytes) -> bytes:
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    return line[1:-1].decode("unicode_escape").encode("latin-1")


def _protocol(m: _Machine) -> None:
    if (given := m.number("<B")) > 5:
        raise _Refused(f"is of protocol {given}; known: 0 to 5")


_Step = Callable[[_Machine], None]


def _constant(value: Any) -> _Step:
    return lambda m: m.push(value)


def _number(layout: str) -> _Step:
    return lambda m: m.push(m.number(layout))


def _line(convert: Callable[[bytes], Any]) -> _Step:
    return lambda m: m.push(convert(m.line()))


def _counted(layout: str, convert: Callable[[bytes], Any]) -> _Step:
    return lambda m: m.push(convert(m.take(m.number(layout))))


def _tuple(count: int) -> _Step:
    return lambda m: m.push(tuple(m.pop(count)))


def _put(index: Callable[[_Machine], int]) -> _Step:
    return lambda m: m.memo.__setitem__(index(m), m.stack[-1])


def _get(index: Callable[[_Machine], int]) -> _Step:
    return lambda m: m.push(m.memo[index(m)])


_STEPS: dict[bytes, _Step] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: lambda m: m.advance(8),
    pickle.NONE: _constant(None),
    pickle.NEWTRUE: _constant(True),
    pickle.NEWFALSE: _constant(False),
    pickle.INT: _line(_decimal),  # bools of protocol 0 too: "00" and "01"
    pickle.LONG: _line(_decimal),
    pickle.BININT: _number("<i"),
    pickle.BININT1: _number("<B"),
    pickle.BININT2: _number("<H"),
    pickle.LONG1: _counted("<B", _long),
    pickle.STRING: _line(_quoted),
    pickle.SHORT_BINSTRING: _counted("<B", bytes),
    pickle.BINSTRING: _counted("<i", bytes),
    pickle.SHORT_BINBYTES: _counted("<B", bytes),
    pickle.BINBYTES: _counted("<I", bytes),
    pickle.BINBYTES8: _counted("<Q", bytes),
    pickle.BYTEARRAY8: _counted("<Q", bytes),
    pickle.UNICODE: _line(lambda line: line.decode("raw_unicode_escape")),
    pickle.SHORT_BINUNICODE: _counted("<B", _utf8),
    pickle.BINUNICODE: _counted("<I", _utf8),
    pickle.BINUNICODE8: _counted("<Q", _utf8),
    pickle.MARK: lambda m: m.mark(),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.LIST: lambda m: m.push(m.since_mark()),
    pickle.APPEND: lambda m: m.extend(m.pop(1)),
    pickle.APPENDS: lambda m: m.extend(m.since_mark()),
    pickle.EMPTY_TUPLE: _constant(()),
    pickle.TUPLE: lambda m: m.push(tuple(m.since_mark())),
    pickle.TUPLE1: _tuple(1),
    pickle.TUPLE2: _tuple(2),
    pickle.TUPLE3: _tuple(3),
    pickle.PUT: _put(lambda m: _decimal(m.line())),
    pickle.BINPUT: _put(lambda m: m.number("<B")),
    pickle.LONG_BINPUT: _put(lambda m: m.number("<I")),
    pickle.MEMOIZE: _put(lambda m: len(m.memo)),
    pickle.GET: _get(lambda m: _decimal(m.line())),
    pickle.BINGET: _get(lambda m: m.number("<B")),
    pickle.LONG_BINGET: _get(lambda m: m.number("<I")),
    pickle.GLOBAL: lambda m: m.find(m.line(), m.line()),
    pickle.STACK_GLOBAL: lambda m: m.find(*m.pop(2)),
    pickle.REDUCE: lambda m: m.call(),
    pickle.BUILD: lambda m: m.build(),
}
