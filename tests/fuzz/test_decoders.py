"""Everything that reads what a client sends, alone: a document, or the error that the door is there to give."""

import asyncio
import base64
import json

import orjson
import pytest
from hypothesis import strategies as st
from tests.fuzz.inputs import (
    RECORDED,
    damaged,
    mangled,
    objects,
    scalars,
    values,
    words,
)
from tests.fuzz.rounds import fuzzed, quick

from machinery.api import decode, protobuf, syntax
from machinery.api.fieldselectors import check
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.meta import quantity, selectors
from machinery.meta.errors import BadRequest, Invalid, NotAcceptable, StatusError
from machinery.server import nodehttp
from machinery.server.listing import (
    decode_token,
    encode_token,
    list_query,
    parse_int,
    parse_revision,
)
from machinery.server.negotiate import negotiate
from machinery.server.request import METHOD_VERBS, parse_target
from machinery.wire import channels
from machinery.wire.link import MalformedHead, ResponseHead, incompatible
from machinery.wire.linkpool import REFUSAL_BODY_MAX, read_refusal

SCHEME = Scheme(BUILTIN)
BODIES = [path.read_bytes() for path in sorted(RECORDED.glob("*.bin"))]
JSON_TYPE, YAML_TYPE, PROTOBUF = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
)
texts = words | st.text(max_size=40) | st.lists(words, max_size=4).map("".join)


def decoded(kind, raw: bytes, media: str, strictness: str) -> None:
    """A document that can be written, or a refusal that can be."""
    try:
        found = decode.decode_body(kind, raw, media, strictness)
    except StatusError as error:
        assert error.status_code in (400, 415, 422)
        assert len(orjson.dumps(error.to_status())) < 3 * len(raw) + 100_000
        return
    orjson.dumps(found.document)
    assert len(found.warnings) <= 2000


# ------------------------------------------------------------------------------------------------------------ bodies
@fuzzed(
    300,
    raw=mangled(st.sampled_from(BODIES))
    | st.binary(max_size=200).map(lambda tail: b"k8s\x00" + tail),
)
def test_protobuf(raw: bytes) -> None:
    try:
        found = protobuf.decode_envelope(raw)
    except BadRequest:
        return
    orjson.dumps(found)


@fuzzed(200, kind=st.sampled_from(BUILTIN), raw=mangled(st.sampled_from(BODIES)))
def test_protobuf_bodies_of_any_kind(kind, raw: bytes) -> None:
    decoded(kind, raw, PROTOBUF, "Warn")


@st.composite
def json_texts(draw: st.DrawFn) -> bytes:
    value = draw(damaged(st.sampled_from(objects())) | values)
    style = draw(
        st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])
    )
    return json.dumps(value, **style).encode("utf-8", "replace")


strictness = st.sampled_from(["Strict", "Warn", "Ignore"])


@fuzzed(250, raw=json_texts(), strict=strictness)
def test_json_of_every_kind(raw: bytes, strict: str) -> None:
    document = json.loads(raw)
    name = document.get("kind") if isinstance(document, dict) else None
    kinds = [kind for kind in BUILTIN if kind.kind == name] or [BUILTIN[1]]
    decoded(kinds[0], raw, JSON_TYPE, strict)


@fuzzed(200, kind=st.sampled_from(BUILTIN), raw=mangled(json_texts()), strict=strictness)
def test_broken_json(kind, raw: bytes, strict: str) -> None:
    decoded(kind, raw, JSON_TYPE, strict)


YAML_TEXTS = (
    "a: &x [1, 2]\nb: *x\n", "a: !!binary aGk=\nb: !!set {x, y}\n", "? [a]\n: b\n", "<<: {a: 1}\nb: 2\n", "a: |\n  text\nb: >-\n  folded\n",
    "- 0x1f\n- 0o17\n- 1:30\n- .inf\n- 2026-01-01\n- ~\n", "%YAML 1.1\n---\na: 1\n...\n---\nb: 2\n", '"\\ud800": "\\U0001F600"\n',
    "a: !!int x\n", "a: !!timestamp x\n", "a: !!float x\n", "a: !!bool x\n", "a: &a [*a]\n", "a: *nope\n", "!!python/object:os.system x\n",
)  # fmt: skip
yaml_texts = mangled(st.sampled_from(YAML_TEXTS).map(str.encode) | json_texts()) | st.sampled_from(
    YAML_TEXTS
).map(str.encode)


@fuzzed(200, raw=yaml_texts, strict=strictness)
def test_yaml(raw: bytes, strict: str) -> None:
    decoded(BUILTIN[1], raw, YAML_TYPE, strict)


def deep(opening: bytes, inner: bytes, closing: bytes, levels: int) -> bytes:
    return opening * levels + inner + closing * levels


DEPTHS = [syntax.DEPTH_MAX - 1, syntax.DEPTH_MAX, 240, 255, 300, 990, 1010, 1100, 5000, 100_000]


@pytest.mark.parametrize("levels", DEPTHS)
@pytest.mark.parametrize(
    ("media", "opening", "inner", "closing"),
    [
        (JSON_TYPE, b'{"a":', b"1", b"}"),
        (JSON_TYPE, b"[", b"", b"]"),
        (JSON_TYPE, b'{"a":1,"a":', b"1", b"}"),
        (JSON_TYPE, b'{"a":', b"x", b"}"),
        (YAML_TYPE, b"[", b"", b"]"),
        (YAML_TYPE, b"{a: ", b"1", b"}"),
        (YAML_TYPE, b"- ", b"1", b""),
    ],
    ids=["objects", "lists", "twice", "broken", "yaml-lists", "yaml-maps", "yaml-dashes"],
)
def test_deep_bodies(media: str, opening: bytes, inner: bytes, closing: bytes, levels: int) -> None:
    body = deep(opening, inner, closing, levels)
    raw = (
        b'{"apiVersion":"v1","kind":"ConfigMap","data":' + body + b"}"
        if media == JSON_TYPE
        else body
    )
    with quick():
        decoded(BUILTIN[1], raw, media, "Strict")
    if levels > syntax.DEPTH_MAX:
        parse = syntax.parse_json if media == JSON_TYPE else syntax.parse_yaml
        with pytest.raises(syntax.BadSyntax):
            parse(raw)


def many_laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (many_laughs(9), "document contains excessive aliasing"),
        ("a: &a [*a]", "anchor 'a' value contains itself"),
        ("a: 1e999999", None),
        ("a: .inf", "unsupported value: +Inf"),
        ("a: .nan", "unsupported value: NaN"),
        ("a: " + "9" * 5000, "unmarshal errors"),
        ("a: 18446744073709551616", None),
        ("a: 2026-13-01", "unmarshal errors"),
        ('a: "\\ud800"', "yaml"),
        ("a: !!int x", "unmarshal errors"),
        ("a: !!int\n", "unmarshal errors"),
        ("a: !!float\n", "unmarshal errors"),
        ("a: " + "x " * syntax.YAML_BYTES_MAX, "document is larger than"),
        ("\n".join(f"k{n}: &k{n} {{<<: [{', '.join([f'*k{n - 1}'] * 9)}]}}" for n in range(1, 9)).replace("*k0", "{a: 1}"), "excessive aliasing"),
    ],
    ids=["laughs", "itself", "not-a-number", "infinite", "nan", "digits", "65-bits", "month", "surrogate", "tag",
        "tag-of-nothing",
        "float-of-nothing", "large", "merges"],
)  # fmt: skip
def test_yaml_is_bounded(text: str, why: str | None) -> None:
    with quick():
        if why is None:
            orjson.dumps(syntax.parse_yaml(text.encode())[0])
            return
        with pytest.raises(syntax.BadSyntax, match="YAML to JSON") as raised:
            syntax.parse_yaml(text.encode())
        assert why.replace("+", "+") in str(raised.value)


LONG = b"k" * 1_000_000
MANY = b",".join(b'"u%d":0' % n for n in range(100_000))


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("unknown", b'{"apiVersion":"v1","kind":"ConfigMap",' + MANY + b"}"),
        ("twice", b'{"apiVersion":"v1","kind":"ConfigMap","x":{"%s":{%s,%s}}}' % (LONG, MANY, MANY)),
        ("long", b'{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"resources":{"limits":{"%s":{%s}}}}]}}' % (LONG, MANY)),
        ("digits", b'{"apiVersion":"v1","kind":"ConfigMap","a":%s,"a":1}' % (b"9" * 5000)),
        ("digits-broken", b'{"apiVersion":"v1","kind":"ConfigMap","a":%s,' % (b"9" * 5000)),
        ("quantity", b'{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"resources":{"limits":{"cpu":"%sx"}}}]}}' % (b"1" * 1_000_000)),
        ("huge-number", b'{"apiVersion":"v1","kind":"Pod","spec":{"priority":1e400}}'),
        ("text", b'{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"%s"},}' % LONG),
        ("quotes", b'{"apiVersion":"v1","a":["' + b'","' * 400_000),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_large_bodies(name: str, raw: bytes) -> None:
    kind = next(
        kind for kind in BUILTIN if kind.kind == ("Pod" if b'"Pod"' in raw else "ConfigMap")
    )
    with quick(4):
        decoded(kind, raw, JSON_TYPE, "Strict")


def test_unknown_fields_below_a_long_name_cost_no_more_than_they_weigh() -> None:
    """Each of them is told by its path, which the client makes as long as it likes."""
    kind = next(kind for kind in BUILTIN if kind.kind == "CustomResourceDefinition")
    inner = b'{"type":"object","properties":{"%s":{"type":"object",%s}}}' % (LONG, MANY)
    raw = (
        b'{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"a"},'
        b'"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":%s}}]}}' % inner
    )
    with quick(4):
        decoded(kind, raw, JSON_TYPE, "Strict")


# ----------------------------------------------------------------------------------------------- the small languages
@fuzzed(300, text=texts | st.from_regex(r"\A[+-]?[0-9.]{1,8}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,4}\Z"))
def test_quantity(text: str) -> None:
    try:
        found = quantity.canonical(text)
    except ValueError as error:
        assert "quantities must match" in str(error)
        return
    assert quantity.parse(found).value == quantity.parse(text).value


@fuzzed(150, number=st.floats() | st.integers())
def test_quantities_that_are_numbers(number: float) -> None:
    try:
        quantity.canonical_of(number)
    except ValueError as error:
        assert "quantities must match" in str(error)


@fuzzed(300, text=texts | st.text("ab=!<>,() inot", max_size=60))
def test_label_selector(text: str) -> None:
    try:
        found = selectors.parse(text)
    except selectors.SelectorError:
        return
    found.matches({"a": "b", "b": "1"})
    assert selectors.parse(str(found)) == found


@fuzzed(300, text=texts | st.text("ab=!\\,. ", max_size=60))
def test_field_selector(text: str) -> None:
    try:
        found = selectors.parse_fields(text)
        check(BUILTIN[1], (term.key for term in found.requirements))
    except (selectors.SelectorError, StatusError):
        return
    found.matches({"metadata.name": "a"})


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "\\" * 200_000,
        "=" * 200_000,
        " " * 200_000 + "=",
        ",a" * 50_000,
        "a in (" + "b," * 50_000,
    ],
)
def test_long_selectors(text: str) -> None:
    for parse in (selectors.parse, selectors.parse_fields):
        with quick():
            try:
                parse(text)
            except selectors.SelectorError as error:
                assert str(error)


tokens = st.builds(
    lambda document: base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("="),
    st.fixed_dictionaries(
        {}, optional={"v": st.just("meta.k8s.io/v1") | scalars, "rv": scalars, "start": scalars}
    )
    | values,
)


@fuzzed(
    300,
    token=tokens
    | texts
    | st.binary(max_size=30).map(lambda raw: base64.urlsafe_b64encode(raw).decode()),
)
def test_continue_token(token: str) -> None:
    try:
        revision, start = decode_token(token)
    except BadRequest as error:
        assert error.message.startswith("invalid continue token: continue key is not valid: ")
        return
    assert decode_token(encode_token(revision, start)) == (revision, start)


@fuzzed(200, text=texts)
def test_numbers_of_the_query(text: str) -> None:
    for parse in (parse_int, parse_revision):
        try:
            found = parse(text)
        except BadRequest:
            continue
        assert isinstance(found, int)
        assert abs(found) < 1 << 64


def token_of(**document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "unexpected end of JSON input"),
        ("AAAA!", "invalid character"),
        (token_of(v="meta.k8s.io/v1", rv="x", start="a"), "cannot unmarshal string into Go struct field continueToken.rv of type int64"),
        (token_of(v="meta.k8s.io/v1", rv=[1], start="a"), "cannot unmarshal array"),
        (token_of(v="meta.k8s.io/v1", rv=True, start="a"), "cannot unmarshal bool"),
        (token_of(v="meta.k8s.io/v1", rv=1, start=5), "cannot unmarshal number into Go struct field continueToken.start of type string"),
        (token_of(v="meta.k8s.io/v1", rv=1, start={}), "cannot unmarshal object"),
        (token_of(v=[], rv=1, start="a"), "does not recognize this encoded version"),
    ],
)  # fmt: skip
def test_continue_tokens_that_are_none(token: str, why: str) -> None:
    with pytest.raises(BadRequest) as raised:
        decode_token(token)
    assert why in raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        "1_0",
        " 1",
        "1 ",
        "١",
        "0x1",
        "1.0",
        "9" * 5000,
        "18446744073709551616",
        "-9223372036854775809",
    ],
)
def test_numbers_that_go_does_not_read(text: str) -> None:
    for parse in (parse_int, parse_revision):
        with pytest.raises(BadRequest, match="strconv.Parse"):
            parse(text)


QUERY_KEYS = (
    "labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "timeoutSeconds", "watch",
    "sendInitialEvents", "dryRun", "fieldManager", "fieldValidation", "pretty", "force", "gracePeriodSeconds", "propagationPolicy",
)  # fmt: skip
pieces = st.sampled_from(
    [
        "/",
        "//",
        "api",
        "apis",
        "v1",
        "apps",
        "namespaces",
        "watch",
        "pods",
        "status",
        "%2e%2e",
        "%00",
        "%",
        "%zz",
        "..",
        "?",
        "&",
        "=",
        "\udcff",
        "é",
    ]
)
targets = st.builds(
    lambda path, query: (
        "/" + "/".join(path) + "?" + "&".join(f"{key}={value}" for key, value in query)
    ),
    st.lists(pieces | texts, max_size=8),
    st.lists(st.tuples(st.sampled_from(QUERY_KEYS), texts), max_size=4),
)


@fuzzed(
    300,
    method=st.sampled_from([*METHOD_VERBS, "OPTIONS", "X"]),
    target=targets | texts | st.lists(pieces, max_size=12).map("".join),
)
def test_target(method: str, target: str) -> None:
    info = parse_target(method, target)
    for text in (info.path, info.namespace, info.name, info.resource, info.subresource, *info.rest):
        text.encode()
    assert "/" not in info.resource + info.subresource
    try:
        list_query(BUILTIN[1], info)
    except (BadRequest, Invalid):
        return


@fuzzed(
    150, accept=texts | st.text('application/json;,*=qv1."as', max_size=60), streaming=st.booleans()
)
def test_negotiation(accept: str, streaming: bool) -> None:
    try:
        negotiate(accept, streaming=streaming)
    except NotAcceptable as error:
        assert "only the following media types are accepted" in error.message


# ----------------------------------------------------------------------------------------------------- frames, the link
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUbernetes-Link-Version: 1\r\nUbernetes-Link-Oldest: 1"


@fuzzed(300, raw=mangled(st.just(HEAD)) | st.binary(max_size=100))
def test_head_of_an_answer_over_the_link(raw: bytes) -> None:
    try:
        head = ResponseHead.parse(raw)
    except MalformedHead:
        return
    assert 0 <= head.status <= 999
    assert isinstance(incompatible_told(head), str)


def incompatible_told(head: ResponseHead) -> str:
    from machinery.wire.link import OURS

    return incompatible(OURS, head.headers, "the peer")


CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"


async def refusal(raw: bytes, headers: dict[str, str]) -> bytes:
    reader = asyncio.StreamReader(limit=1 << 16)
    reader.feed_data(raw)
    reader.feed_eof()
    return await read_refusal(reader, headers)


@pytest.mark.parametrize(
    "size", [b"-5", b"+5", b"0x5", b"5_0", b"", b"9" * 5000, b"fffffff", b"\xb2"]
)
def test_chunks_of_a_refusal_that_have_no_size(size: bytes) -> None:
    with pytest.raises((MalformedHead, asyncio.IncompleteReadError)):
        asyncio.run(refusal(size + b"\r\nhello\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}))


@pytest.mark.parametrize(
    ("length", "left"),
    [
        ("9" * 5000, None),
        ("²", b""),
        ("-1", b""),
        ("+5", b""),
        ("5", b"hello"),
        ("00005", b"hello"),
    ],
)
def test_lengths_of_a_refusal(length: str, left: bytes | None) -> None:
    if left is None:
        with pytest.raises(asyncio.IncompleteReadError):
            asyncio.run(refusal(b"hello", {"Content-Length": length}))
    else:
        assert asyncio.run(refusal(b"hello", {"Content-Length": length})) == left


# ------------------------------------------------------------------------------------------------ what a kubelet answers
KUBELET = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
)


async def answered(raw: bytes) -> bytes:
    reader = asyncio.StreamReader(limit=1 << 16)
    reader.feed_data(raw)
    reader.feed_eof()
    head = await nodehttp.read_head(reader)
    return b"".join([piece async for piece in nodehttp.open_body(head, reader)])


@fuzzed(150, raw=mangled(st.sampled_from(KUBELET)))
def test_answers_of_a_kubelet(raw: bytes) -> None:
    """A node may be anybody's: what it sends is refused or passed on, and never waited for beyond its end."""
    try:
        assert len(asyncio.run(answered(raw))) <= len(raw)
    except (ConnectionError, asyncio.IncompleteReadError):
        return


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 \xb2\xb20 OK\r\n\r\n",
        b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\n\r\n",
        KUBELET[1].replace(b"5\r\nhello", b"-1\r\nhello"),
        KUBELET[1].replace(b"5\r\nhello", b"5" * 70_000 + b"\r\nhello"),
    ],
)
def test_answers_of_a_kubelet_that_are_none(raw: bytes) -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(answered(raw))


@fuzzed(150, raw=mangled(st.just(CHUNKED)), chunked=st.booleans(), length=texts)
def test_refusal_over_the_link(raw: bytes, chunked: bool, length: str) -> None:
    headers = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": length}

    async def read() -> None:
        reader = asyncio.StreamReader(limit=1 << 16)
        reader.feed_data(raw)
        reader.feed_eof()
        try:
            body = await read_refusal(reader, headers)
        except (MalformedHead, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        assert len(body) <= REFUSAL_BODY_MAX

    asyncio.run(read())


@fuzzed(150, raw=st.binary(max_size=40) | values.map(orjson.dumps))
def test_channels(raw: bytes) -> None:
    for protocol in channels.SERVED:
        frame = channels.unpacked(protocol, raw)
        assert frame is None or 0 <= frame.channel <= 255
    size = channels.resize_of(raw)
    assert size is None or all(0 < side < 65536 for side in size)
