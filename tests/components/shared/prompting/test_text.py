import html
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.prompting.text import clean, clean_text


@pytest.mark.parametrize(
    ("dirty", "tidy"),
    [
        pytest.param("Salt &amp; Pepper", "Salt & Pepper", id="entity"),
        pytest.param("Salt &amp;amp; Pepper", "Salt & Pepper", id="entity in an entity"),
        pytest.param("Cafe\u0301", "Caf\u00e9", id="decomposed accent"),
        pytest.param("a\u00a0\u3000b\t\nc", "a b c", id="all kinds of space"),
        pytest.param("a\u200bb\x07c\ufeff", "abc", id="invisible and control characters"),
        pytest.param("  ", "", id="nothing but space"),
        pytest.param("👩\u200d🍳 cooks", "👩\u200d🍳 cooks", id="joined emoji stay"),
        pytest.param("ru\u200bn &lt;b&gt;", "run <b>", id="entities become text, never tags"),
        pytest.param("Müller 东方", "Müller 东方", id="other scripts untouched"),
        pytest.param(None, None, id="null"),
    ],
)
def test_clean(dirty, tidy):
    assert clean(pa.array([dirty], pa.string())).to_pylist() == [tidy]


def test_emoji_are_cut_when_asked():
    dirty = pa.array(["👩\u200d🍳 cooks ❤️ 1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿!"])
    assert clean(dirty, keep_emoji=False).to_pylist() == ["cooks 1 !"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_clean_is_stable_normal_and_printable(texts):
    once = clean(pa.array(texts, pa.string()))
    assert clean(once).equals(once)
    assert list(map(clean_text, texts)) == once.to_pylist()
    for text in once.to_pylist():
        assert text == unicodedata.normalize("NFC", text) == " ".join(text.split())
        assert not any(unicodedata.category(c) in ("Cc", "Cf") and c != "\u200d" for c in text)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="abc &<>\"'", max_size=20))
def test_escaped_text_comes_back(text):
    plain = " ".join(text.split())
    assert clean(pa.array([html.escape(plain)])).to_pylist() == clean(pa.array([plain])).to_pylist()
