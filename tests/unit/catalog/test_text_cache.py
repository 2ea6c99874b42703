"""The cache of what was made from texts."""

from reconciler.catalog.text_cache import TextCache, text_key


def test_the_cache_stays_within_its_weight() -> None:
    """What was used longest ago goes first, and what is too heavy is never kept."""
    cache: TextCache[str] = TextCache(weight_max=3_000)
    for name in ("a", "b", "c"):
        cache.put(text_key(name), name, weight=400)
    assert cache.get(text_key("a")) == "a"
    cache.put(text_key("d"), "d", weight=400)
    cache.put(text_key("e"), "e", weight=5_000)
    assert [cache.get(text_key(name)) for name in "abcde"] == ["a", None, "c", "d", None]


def test_keys_tell_questions_apart() -> None:
    """The same text asked for another purpose is another entry."""
    assert text_key("a", "deploy") != text_key("a", "revert") != text_key("a")


def test_an_entry_can_be_replaced() -> None:
    """Putting a key again counts its weight once."""
    cache: TextCache[int] = TextCache(weight_max=2_000)
    for number in range(10):
        cache.put(text_key("a"), number, weight=1_000)
    assert cache.get(text_key("a")) == 9


def test_slot_keeps_its_newest() -> None:
    """Of what was made of one file, only the newest few are kept; other slots and no slots are let alone."""
    cache: TextCache[int] = TextCache(weight_max=100_000, generations=2)
    cache.put(b"free", 0, weight=1)
    cache.put(b"other", 0, weight=1, slot=b"b")
    for number in range(5):
        cache.put(f"file {number}".encode(), number, weight=1, slot=b"a")
        cache.put(f"file {number}".encode(), number, weight=1, slot=b"a")
    assert [cache.get(f"file {number}".encode()) for number in range(5)] == [None, None, None, 3, 4]
    assert cache.get(b"free") == cache.get(b"other") == 0
