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
