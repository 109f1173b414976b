"""Lines come out whole however the chunks were cut."""

from hypothesis import given
from hypothesis import strategies as st

from machinery.client.lines import LineBuffer


@given(
    st.binary(max_size=400).map(lambda b: b.replace(b"\r", b"\n")), st.lists(st.integers(0, 400))
)
def test_any_cut_gives_the_same_lines(raw, cuts):
    raw = raw.replace(b" ", b"x") + b"\n"
    buffer, lines, start = LineBuffer(), [], 0
    for cut in [*sorted(c for c in cuts if c < len(raw)), len(raw)]:
        lines += buffer.feed(raw[start:cut])
        start = cut
    assert lines == [line.strip() for line in raw.split(b"\n") if line.strip()]
