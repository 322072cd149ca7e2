"""What an enemy sends: messages that are well formed and absurd, and bytes that were messages once."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import uuid4

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Known = Mapping[str, Sequence[Any]]
"""Values by the name of their field that get a message past its checks, as far as the field allows."""

SQL: Final = (
    "'; DROP TABLE reservation; --",
    "' OR '1'='1",
    "1; DELETE FROM ticket; COMMIT; --",
    "'||(SELECT string_agg(buyer_id, ',') FROM reservation)||'",
    "$$; DROP SCHEMA payments CASCADE; $$",
    "\\'; TRUNCATE payment; --",
    "%s %(id)s {0} {} $1",
    'x") ON CONFLICT DO NOTHING; --',
)
"""None of these holds a control character, so that texts for people take them."""

TEXTS: Final = (
    *SQL,
    "",
    " ",
    "\0",
    "a\0b",
    "\r\n",
    "\x1b[31m\x1b]0;owned\x07",
    "\u202egnp.exe",
    "\ud7ff\ue000\ufffe\uffff\U0010ffff",
    "\N{ZERO WIDTH JOINER}" * 70,
    "\N{ARABIC-INDIC DIGIT ONE}" * 16,
    "x" * 64,
    "x" * 65,
    "x" * 256,
    "x" * 3_000,
    "x" * 20_000,
    "00000000-0000-0000-0000-000000000000",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "{12345678-1234-5678-1234-567812345678}",
    "urn:uuid:12345678-1234-5678-1234-567812345678",
    "12345678123456781234567812345678",
    "12345678-1234-5678-1234-567812345678\n",
    '{"level": "CRITICAL"}',
    "../../../../etc/passwd",
    "-1",
    "1e309",
)
_BOUNDS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
_NUMBERS: Final = (0, 1, -1, 2, 100, 101, 257, 999_999_999, 1_000_000_000, 253_402_300_799, 10**12 + 1)
_TIMES_S: Final = (0, 1, -1, 31, 86_401, -62_135_596_800, -62_135_596_801, 253_402_300_799, 253_402_300_800, 2**63 - 1)
_COUNTS: Final = (0, 1, 2, 3, 101, 257)
# Bytes that no UTF-8 holds: half of a surrogate pair, an overlong slash, a beginning without its end.
_NO_UTF8: Final = (b"\xed\xa0\x80", b"\xc0\xaf", b"\xf0\x9f")
_FIELD_NUMBER: Final = 30_000
_GROUPS_DEEP: Final = (_FIELD_NUMBER << 3 | 3, 3 << 3 | 3)

Wire = st.SearchStrategy[bytes]
Drawn = TypeVar("Drawn")


def wire(message: Descriptor, known: Known) -> Wire:
    """Serialised messages of this type, hostile and well formed; some with fields that it does not have."""
    serialised = messages(message, known).map(lambda made: made.SerializeToString())
    return st.builds(bytes.__add__, serialised, st.one_of(st.just(b""), st.just(b""), st.just(b""), _unknown()))


def garble(message: Descriptor, known: Known) -> Wire:
    """Random bytes; and such messages cut short, with bits turned, bytes put in or taken out, or doubled."""
    return st.one_of(st.binary(max_size=200), _depths(), mangled(wire(message, known)))


@st.composite
def mangled(draw: st.DrawFn, whole: Wire) -> bytes:
    """One to three injuries to bytes of the strategy."""
    body = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(body) - 1, 0)))
        match draw(st.sampled_from(("cut", "bit", "byte", "in", "out", "utf8", "twice"))):
            case "cut":
                del body[at:]
            case "bit" if body:
                body[at] ^= 1 << draw(st.integers(0, 7))
            case "byte" if body:
                body[at] = draw(st.sampled_from((0, 0x7F, 0x80, 0xFF)))
            case "in":
                body[at:at] = draw(st.binary(min_size=1, max_size=12))
            case "out":
                del body[at : at + draw(st.integers(1, 8))]
            case "utf8":
                alien = draw(st.sampled_from(_NO_UTF8))
                body[at : at + len(alien)] = alien
            case _:
                body += body[at : at + 4_096]
    return bytes(body)


@st.composite
def messages(draw: st.DrawFn, message: Descriptor, known: Known) -> Message:
    """Messages whose fields are each left out, as they should be, or absurd."""
    made = GetMessageClass(message)()
    # A message with everything right but one thing gets the furthest.
    wrong = draw(st.sampled_from((0, 1, 1, 3, 8)))
    chosen = {oneof.name: draw(st.sampled_from(list(oneof.fields))) for oneof in message.oneofs}
    for field in message.fields:
        if field.containing_oneof is None or chosen[field.containing_oneof.name] is field:
            _fill(draw, made, field, known, wrong)
    return made


def texts() -> st.SearchStrategy[str]:
    """Of any kind that protobuf can carry."""
    return st.one_of(st.sampled_from(TEXTS), st.text(max_size=80))


def drawn(strategy: st.SearchStrategy[Drawn], count: int) -> list[Drawn]:
    """So many, the same ones in every run."""
    found: list[Drawn] = []

    @seed(count)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(one: Drawn) -> None:
        found.append(one)

    draw()
    return found


def _fill(draw: st.DrawFn, made: Message, field: FieldDescriptor, known: Known, wrong: int) -> None:
    is_wrong = draw(st.sampled_from(range(10))) < wrong
    if is_wrong and draw(st.booleans()):
        return
    if field.is_repeated:
        value = _value(field, {} if is_wrong else known)
        count = draw(st.sampled_from(_COUNTS)) if is_wrong else draw(st.integers(1, 2))
        # Many of one: drawing each by itself takes longer than sending it.
        few = draw(st.lists(value, min_size=min(count, 2), max_size=min(count, 2)))
        getattr(made, field.name).extend((few * -(-count // 2))[:count] if few else [])
    elif field.message_type is not None:
        getattr(made, field.name).CopyFrom(draw(_message(field, {} if is_wrong else known)))
    else:
        setattr(made, field.name, draw(_value(field, {} if is_wrong else known)))


def _message(field: FieldDescriptor, known: Known) -> st.SearchStrategy[Message]:
    assert field.message_type is not None
    if field.name in known:
        return st.sampled_from(known[field.name])
    if field.message_type.full_name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
        return st.builds(
            GetMessageClass(field.message_type),
            seconds=st.one_of(st.sampled_from(_TIMES_S), st.integers(-(2**63), 2**63 - 1)),
            nanos=st.sampled_from((0, 0, 1, -1, 999_999_999, 1_000_000_000, 2**31 - 1, -(2**31))),
        )
    return messages(field.message_type, known)


def _value(field: FieldDescriptor, known: Known) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _message(field, known)
    if field.name == "request_id" and known:
        return st.uuids(version=4).map(str)
    if field.name in known:
        return st.sampled_from(known[field.name])
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=200) if field.type == FieldDescriptor.TYPE_BYTES else texts()
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type in _BOUNDS:
        low, high = _BOUNDS[field.cpp_type]
        fitting = [number for number in (*_NUMBERS, low, high) if low <= number <= high]
        return st.one_of(st.sampled_from(fitting), st.integers(low, high))
    return st.floats()


def _unknown() -> Wire:
    """Fields that no message here has: of each wire type, and messages in messages a hundred deep."""
    deep = b""
    for _ in range(100):
        deep = _tag(_FIELD_NUMBER, 2) + _varint(len(deep)) + deep
    sized = st.binary(max_size=100).map(lambda value: _tag(_FIELD_NUMBER, 2) + _varint(len(value)) + value)
    number = st.integers(0, 2**64 - 1).map(lambda value: _tag(_FIELD_NUMBER, 0) + _varint(value))
    return st.one_of(sized, number, st.just(deep), st.just(_tag(_FIELD_NUMBER, 1) + b"8 bytes."))


def _depths() -> Wire:
    """Groups within groups, that are ended or not, deeper than any parser should follow."""
    begins = st.sampled_from([_varint(tag) for tag in _GROUPS_DEEP])
    return st.builds(lambda begin, depth: begin * depth, begins, st.sampled_from((1, 99, 101, 3_000)))


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def fresh_ids(count: int) -> list[str]:
    """Ids of nothing."""
    return [str(uuid4()) for _ in range(count)]
