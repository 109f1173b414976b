"""Kubernetes' functions of expressions, each against what its documentation says."""

import datetime as dt
from typing import Any

import pytest

from machinery.api.expressions.compiling import (
    CompileFault,
    EvaluationFault,
    Scope,
    activation,
    compiled,
)

SCOPE = Scope((("object", "dyn"),))
OBJECT = {"n": 1, "f": 1.5, "text": "a1b22", "items": [3, 1, 2], "map": {"a": 1, "b": 2}}


def said(text: str) -> Any:
    """What an expression comes to."""
    return compiled(SCOPE, text).value(activation({"object": OBJECT}))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # lists and sets
        ("[1, 2, 3].isSorted()", True),
        ("['b', 'a'].isSorted()", False),
        ("[].isSorted()", True),
        ("[1, 3].sum()", 4),
        ("[1.0, 3.5].sum()", 4.5),
        ("[].sum()", 0),
        ("[duration('1m'), duration('1s')].sum() == duration('61s')", True),
        ("[3, 1].min()", 1),
        ("['a', 'b'].max()", "b"),
        ("[1, 2, 2, 3].indexOf(2)", 1),
        ("[1, 2, 2, 3].lastIndexOf(2)", 2),
        ("['a'].indexOf('z')", -1),
        ("'hello'.indexOf('l') + 'hello'.lastIndexOf('l')", 5),
        ("object.items.sum()", 6),
        ("sets.contains([1, 2, 3], [2])", True),
        ("sets.contains([1], [dyn(1), dyn(1.0)])", True),
        ("sets.equivalent(['a', 'b'], ['b', 'a', 'a'])", True),
        ("sets.intersects([1], [2])", False),
        # texts
        ("'abc 123'.find('[0-9]+')", "123"),
        ("'abc'.find('[0-9]+')", ""),
        ("'123 abc 456'.findAll('[0-9]+')", ["123", "456"]),
        ("'123 abc 456'.findAll('[0-9]+', 1)", ["123"]),
        ("'%s is %d'.format(['a', dyn(1)])", "a is 1"),
        ("'a,b'.split(',').join('-').upperAscii().replace('A', 'c').trim()", "c-B"),
        ("'abc'.charAt(1) + 'abc'.substring(2)", "bc"),
        ("strings.quote('a\"b')", '"a\\"b"'),
        ("jsonpatch.escapeKey('a/b~c')", "a~1b~0c"),
        # quantities
        ("quantity('200M') == quantity('0.2G')", True),
        ("quantity('50k').isLessThan(quantity('1Mi'))", True),
        ("quantity('50Mi').isGreaterThan(quantity('50M'))", True),
        ("quantity('200M').compareTo(quantity('0.2G'))", 0),
        ("quantity('50M').compareTo(quantity('50Mi'))", -1),
        ("quantity('50k').add(quantity('20')) == quantity('50.02k')", True),
        ("quantity('50k').add(20).sub(quantity('100k')).sub(-50000).asInteger()", 20),
        ("quantity('50.703k').asApproximateFloat()", 50703.0),
        ("quantity('9999999999999999999999999999999999999G').isInteger()", False),
        ("quantity('-1').sign()", -1),
        ("isQuantity('20Mo')", False),
        ("isQuantity('20Mi')", True),
        # addresses
        ("ip('127.0.0.1').family()", 4),
        ("ip('::1').family()", 6),
        ("isIP('2001:db8::abcd')", True),
        ("isIP('127.0.0.1.0')", False),
        ("isIP('::ffff:1.2.3.4')", False),
        ("isIP('fe80::1%eth0')", False),
        ("ip.isCanonical('2001:db8:0:0:0:0:0:abcd')", False),
        ("ip.isCanonical('2001:db8::abcd')", True),
        ("ip('::').isUnspecified()", True),
        ("ip('127.0.0.1').isLoopback()", True),
        ("ip('224.0.0.1').isLinkLocalMulticast()", True),
        ("ip('169.254.169.254').isLinkLocalUnicast()", True),
        ("ip('192.168.0.1').isGlobalUnicast()", True),
        ("ip('255.255.255.255').isGlobalUnicast()", False),
        ("string(ip('2001:DB8::1'))", "2001:db8::1"),
        ("ip('10.0.0.1') == ip('10.0.0.1')", True),
        ("isCIDR('192.168.0.0/24')", True),
        ("isCIDR('192.168.0.0/33')", False),
        ("cidr('192.168.0.0/24').containsIP('192.168.0.1')", True),
        ("cidr('192.168.0.0/24').containsIP(ip('192.168.1.1'))", False),
        ("cidr('192.168.0.0/24').containsCIDR('192.168.0.0/25')", True),
        ("cidr('192.168.0.0/24').containsCIDR(cidr('192.168.0.0/23'))", False),
        ("string(cidr('192.168.0.1/24').masked())", "192.168.0.0/24"),
        ("cidr('2001:db8::/32').prefixLength()", 32),
        ("cidr('192.168.0.1/24').ip() == ip('192.168.0.1')", True),
        ("type(cidr('192.168.0.0/24')) == net.CIDR", True),
        # URLs
        ("url('https://user:pass@example.com:80/path?query=val#fragment').getHost()", "example.com:80"),
        ("url('https://[::1]:80/').getHost()", "[::1]:80"),
        ("url('https://[::1]:80/').getHostname()", "::1"),
        ("url('https://example.com:80/').getPort()", "80"),
        ("url('/path').getScheme()", ""),
        ("url('https://example.com/path with spaces/').getEscapedPath()", "/path%20with%20spaces/"),
        ("url('https://example.com').getEscapedPath()", ""),
        ("url('https://example.com/path?k1=a&k2=b&k2=c').getQuery() == {'k1': ['a'], 'k2': ['b', 'c']}", True),
        ("isURL('https://a:b:c/')", False),
        ("isURL('../relative-path')", False),
        ("isURL('/absolute-path')", True),
        # versions
        ("semver('1.2.3').major() * 100 + semver('1.2.3').minor() * 10 + semver('1.2.3').patch()", 123),
        ("semver('v01.01', true) == semver('1.1.0')", True),
        ("semver('1.0.0-alpha').isLessThan(semver('1.0.0'))", True),
        ("semver('1.0.0-alpha.2').compareTo(semver('1.0.0-alpha.10'))", -1),
        ("isSemver('1.2.3-beta.1+build.1')", True),
        ("isSemver('v1.0.0')", False),
        ("isSemver('v1.0.0', true)", True),
        ("isSemver('1', true)", True),
        ("isSemver('1. 0.0', true)", False),
        ("isSemver('')", False),
        # formats
        ("format.dns1123Label().validate('my-label').hasValue()", False),
        ("format.dns1123Label().validate('No').value().size()", 1),
        ("format.dns1123LabelPrefix().validate('my-label-').hasValue()", False),
        ("format.named('uuid').value().validate('x').value()", ["does not match the UUID format"]),
        ("format.named('nope').hasValue()", False),
        ("format.byte().validate('aGVsbG8=').hasValue()", False),
        ("format.date().validate('2021-13-01').orValue(['fine'])", ["invalid date"]),
        ("format.datetime().validate('2021-01-01T00:00:00Z').orValue(['fine'])", ["fine"]),
        ("format.uri().validate('http://example.com').hasValue()", False),
        # images
        ("image('nginx').registry()", "index.docker.io"),
        ("image('registry.k8s.io/kube-apiserver-arm64').tag()", "latest"),
        ("image('registry.k8s.io/a/b:v1').identifier() + image('registry.k8s.io/a/b:v1').repository()", "v1a/b"),
        (f"image('a@sha256:{'0' * 64}').containsDigest()", True),
        ("isImage('registry.k8s.io//kube-apiserver-arm64')", False),
        # optional values
        ("object.?nope.orValue('none')", "none"),
        ("optional.of(1).optMap(x, x + 1).value()", 2),
        ("[?object.?nope, 1]", [1]),
        # numbers of different kinds
        ("1 < 1.5 && object.n <= 1.0 && object.f > 1", True),
        # macros of two variables
        ("object.items.all(i, v, v > 0 && i < 3)", True),
        ("object.map.exists(k, v, k == 'b' && v == 2)", True),
        ("[5, 6].existsOne(i, v, i == 1)", True),
        ("object.items.transformList(i, v, i > 0, v * 10)", [10, 20]),
        ("object.map.transformMap(k, v, k + string(v)) == {'a': 'a1', 'b': 'b2'}", True),
        ("{'a': 'x'}.transformMapEntry(k, v, {v: k}) == {'x': 'a'}", True),
        ("[[1], [2]].all(i, v, v.all(j, w, w > i))", True),
    ],
)  # fmt: skip
def test_what_it_comes_to(text: str, answer: Any) -> None:
    assert said(text) == answer


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("object.nope", "no such key: nope"),
        ("object.items[9]", "index out of bounds: 9"),
        ("object.n.startsWith('a')", "no such overload"),
        ("object.n / 0", "division by zero"),
        ("object.n % 0", "modulus by zero"),
        ("[].min()", "min called on empty list"),
        ("quantity('10Mo')", "quantities must match the regular expression"),
        ("quantity('0.5').asInteger()", "cannot convert value to integer"),
        ("ip('::ffff:1.2.3.4')", 'IPv4-mapped IPv6 address "::ffff:1.2.3.4" is not allowed'),
        ("cidr('192.168.0.0/')", 'netip.ParsePrefix("192.168.0.0/"): bad bits after slash: ""'),
        ("url('../a')", 'URL parse error during conversion from string: parse "../a": invalid URI for request'),
        ("semver('v1.0')", "No Major.Minor.Patch elements found"),
        ("object.map.transformMapEntry(k, v, {'same': v})", "insert failed: key same already exists"),
        ("quantity(object.n)", "no such overload"),
    ],
)  # fmt: skip
def test_how_it_fails(text: str, fault: str) -> None:
    with pytest.raises(EvaluationFault) as raised:
        said(text)
    assert fault in str(raised.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("foo == 1", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo == 1\n | ^"),
        ("foo.bar.baz", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo.bar.baz\n | ^"),
        ("object.", "ERROR: <input>:1:8: Syntax error: no viable alternative at input '.'\n | object.\n | .......^"),
        ("'a' + 1", "ERROR: <input>:1:5: found no matching overload for '_+_' applied to '(string, int)'\n | 'a' + 1\n | ....^"),
        ("[1].map(x, x.foo)", "ERROR: <input>:1:13: type 'int' does not support field selection\n | [1].map(x, x.foo)\n | ............^"),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("duration('1y')", "ERROR: <input>:1:10: invalid duration argument\n | duration('1y')\n | .........^"),
        ("'a'.matches('(')", "ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('(')\n | ............^"),
        ("isSemver([1])", "ERROR: <input>:1:9: found no matching overload for 'isSemver' applied to '(list(int))'\n | isSemver([1])\n | ........^"),
        ("[1].all(i, v, v + 'a')", "ERROR: <input>:1:17: found no matching overload for '_+_' applied to '(int, string)'\n | [1].all(i, v, v + 'a')\n | ................^"),
        ("ip('1.2.3.4').canonical", "type 'net.IP' does not support field selection"),
        (" " * 20_000, "expression code point size exceeds limit"),
    ],
)  # fmt: skip
def test_what_the_compiler_says(text: str, fault: str) -> None:
    with pytest.raises(CompileFault) as raised:
        compiled(SCOPE, text)
    assert fault in str(raised.value)


def test_nulls_leave_none_alive() -> None:
    """The library gives None away without counting it."""
    program = compiled(SCOPE, "[object.nothing, {'a': object.nothing}]")
    given = activation({"object": {"nothing": None}})
    for _ in range(200_000):
        program.value(given)
    assert program.value(given) == [None, {"a": None}]


def test_times_are_times() -> None:
    scope = Scope((("at", "timestamp"), ("took", "duration")))
    at = dt.datetime(2026, 11, 30, 4, tzinfo=dt.UTC)
    program = compiled(scope, "at.getFullYear() == 2026 && took > duration('1m') && at + took > at")
    assert program.value(activation({"at": at, "took": dt.timedelta(minutes=2)})) is True
