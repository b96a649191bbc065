"""The cache of tokens and text, and which of its examples a step sees."""

import numpy as np
import pytest

from minimuse.data.cache import TokenCache, batch_indices


def test_every_epoch_sees_every_example_once_in_a_different_order():
    epochs = [np.concatenate([batch_indices(4 * e + s, 3, 14, seed=0) for s in range(4)]) for e in (0, 1)]
    assert all(len(set(epoch)) == 12 for epoch in epochs) and (epochs[0] != epochs[1]).any()
    assert (batch_indices(5, 3, 14, 0) == batch_indices(5, 3, 14, 0)).all()
    with pytest.raises(ValueError, match=r"(?=.*\b8\b).*\b5\b"):
        batch_indices(0, 8, 5, 0)


@pytest.fixture
def cache():
    def examples(i):
        return np.full((16, 16, 3), i, np.uint8), "x" * (i % 3 + 1)

    def tokenize(images):
        return images[:, ::8, ::8, 0].astype(int)  # [B, 2, 2], the number of the example

    def encode(captions):
        lengths = np.array([len(c) for c in captions])
        mask = np.arange(8)[None] < lengths[:, None]
        return mask[..., None] * lengths[:, None, None] * np.ones(5, np.float32), mask

    return TokenCache.build(examples, 10, tokenize, encode, chunk=4)


def test_the_cache_gives_back_tokens_and_text_at_true_length(cache):
    assert len(cache) == 10 and len(cache.embeddings) == sum(i % 3 + 1 for i in range(10))
    batch = cache.batch(np.array([0, 7, 2]))
    assert batch["tokens"].tolist() == [[0] * 4, [7] * 4, [2] * 4]
    assert batch["text_mask"].sum(-1).tolist() == [1, 2, 3] and batch["text"].shape == (3, 3, 5)
    assert batch["text"][:, 0, 0].tolist() == [1, 2, 3] and batch["text"][0, 1:].max() == 0


def test_parts_of_a_cache_join_to_the_whole(cache):
    def some(first, last):
        begins = cache.ends[first - 1] if first else 0
        ends = cache.ends[first:last]
        return TokenCache(cache.tokens[first:last], cache.embeddings[begins : ends[-1]], ends - begins)

    joined = TokenCache.join([some(0, 4), some(4, 5), some(5, 10)])
    for name in ("tokens", "embeddings", "ends"):
        assert (getattr(joined, name) == getattr(cache, name)).all()


def test_the_cache_survives_the_disk(cache, tmp_path):
    cache.save(tmp_path / "tokens.safetensors")
    again = TokenCache.load(tmp_path / "tokens.safetensors")
    everything = np.arange(10)
    for key, value in cache.batch(everything).items():
        assert (again.batch(everything)[key] == value).all()
    assert [p.name for p in tmp_path.iterdir()] == ["tokens.safetensors"]


def test_a_cut_cache_is_named(cache, tmp_path):
    path = tmp_path / "tokens.safetensors"
    cache.save(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=rf"{path}"):
        TokenCache.load(path)


def test_the_cache_of_two_resolutions_keeps_them_together(tmp_path):
    def examples(i):
        return (np.full((4, 4, 3), i, np.uint8), np.full((2, 2, 3), 100 + i, np.uint8)), "x"

    def tokenize(images):
        large, small = images
        return large[:, ::2, ::2, 0], small[:, ::2, ::2, 0]

    encode = lambda captions: (np.ones((len(captions), 1, 5), np.float32), np.ones((len(captions), 1), bool))
    cache = TokenCache.build(examples, 5, tokenize, encode, chunk=2)
    cache.save(tmp_path / "tokens.safetensors")
    both = TokenCache.join([TokenCache.load(tmp_path / "tokens.safetensors"), cache])
    batch = both.batch(np.array([4, 6]))
    assert batch["tokens"].tolist() == [[4] * 4, [1] * 4] and batch["low"].tolist() == [[104], [101]]
    with pytest.raises(ValueError, match="1 of 2"):
        TokenCache.join([cache, TokenCache(cache.tokens, cache.embeddings, cache.ends)])


def captioned_cache(several: list, may_flip=None, first=0):
    """A cache of two resolutions whose picture i has `several[i]` captions, of lengths i + 1, i + 2 and so on;
    token 0 of its mirror image is 50 larger."""

    def examples(i):
        image = np.full((4, 4, 3), first + i, np.uint8)
        image[:, -1] += 50
        return (image, image[:2, 2:]), tuple("x" * (first + i + 1 + n) for n in range(several[i]))

    tokenize = lambda images: tuple(each[:, ::2, ::2, 0] for each in images)

    def encode(captions):
        assert len(captions) == 3
        lengths = np.array([len(caption) for caption in captions])
        mask = np.arange(12)[None] < lengths[:, None]
        return mask[..., None] * lengths[:, None, None] * np.ones(2, np.float32), mask

    return TokenCache.build(examples, len(several), tokenize, encode, chunk=3, may_flip=may_flip)


def test_one_of_several_captions_is_drawn_each_time():
    cache, everything = captioned_cache([3, 1, 2, 2]), np.arange(4)
    assert len(cache) == 4 and len(cache.ends) == 8
    lengths = lambda rng: cache.batch(everything, rng)["text_mask"].sum(-1).tolist()
    assert lengths(None) == [1, 2, 3, 4]
    drawn = [lengths(np.random.default_rng(seed)) for seed in range(60)]
    assert [set(each) for each in zip(*drawn)] == [{1, 2, 3}, {2}, {3, 4}, {4, 5}]
    assert lengths(np.random.default_rng(5)) == drawn[5]


def test_mirror_images_are_drawn_where_they_may_be_in_both_resolutions():
    cache, numbers = captioned_cache([1] * 4, np.array([True, False, True, False])), np.array([0, 1, 2, 3])
    batches = [cache.batch(numbers, np.random.default_rng(seed)) for seed in range(40)]
    for name in ("tokens", "low"):
        turned = np.array([batch[name][:, 0] >= 50 for batch in batches])
        assert not turned[:, [1, 3]].any() and 0.2 < turned[:, [0, 2]].mean() < 0.8
    assert all((batch["tokens"][:, 0] >= 50).tolist() == (batch["low"][:, 0] >= 50).tolist() for batch in batches)
    assert (cache.batch(numbers)["tokens"][:, 0] < 50).all()


def test_files_are_joined_without_loading_them_as_caches_are(tmp_path):
    several, flips = [1, 1, 1, 2, 1], np.array([True, False, True, True, False])
    parts = [captioned_cache(several[:3], flips[:3]), captioned_cache(several[3:], flips[3:], first=3)]
    assert parts[0].counts is None and parts[1].counts is not None
    for number, part in enumerate(parts):
        part.save(tmp_path / f"{number}")
    TokenCache.join_files([tmp_path / "0", tmp_path / "1"], tmp_path / "all")
    found, joined, whole = TokenCache.load(tmp_path / "all"), TokenCache.join(parts), captioned_cache(several, flips)
    for rng in (None, 3):
        batches = [c.batch(np.arange(5), rng and np.random.default_rng(rng)) for c in (found, joined, whole)]
        assert all((batch[name] == batches[2][name]).all() for batch in batches for name in batch)
    assert isinstance(found.tokens.base, np.ndarray) and not found.tokens.flags.writeable  # mapped from the file
    with pytest.raises(ValueError, match="1"):
        captioned_cache([1, 1]).save(tmp_path / "1")  # without mirror images
        TokenCache.join_files([tmp_path / "0", tmp_path / "1"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda data: data[:20], lambda data: b"", lambda data: b"x" * 99]
)
def test_a_damaged_cache_is_named(cache, tmp_path, damage):
    path = tmp_path / "tokens.safetensors"
    cache.save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"tokens\.safetensors.*[Dd]elete"):
        TokenCache.load(path)
