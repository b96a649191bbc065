"""What the explorers show, as plain functions."""

import re

import jax
import numpy as np
from samples import FakeEncoder, FakeMuse, three_scenes

from minimuse.data import scenes
from minimuse.teach import views


def test_first_picture_draws_or_says_why_not():
    image, words = views.first_picture(FakeMuse(), "a cat", guidance=2.5, steps=1, seed=9)
    assert image.shape == (8, 8, 3) and image[0, 0, 0] == 9
    assert all(said in words for said in ("a cat", "guidance 2.5", "1 step", "seed 9"))
    assert views.first_picture(FakeMuse(), "a cat", steps=65) == (
        None,
        "steps must be a whole number from 1 to 64; it was 65.",
    )
    for nothing in ("", "  ", None):
        image, words = views.first_picture(FakeMuse(), nothing)
        assert image is None and "caption" in words


def test_a_scene_is_browsed_by_split_and_task():
    for split in scenes.SPLITS:
        for task in scenes.tasks_of(split):
            image, words = views.browse_scene(split, task, 2, size=32)
            assert image.shape == (32, 32, 3) and ": object " in words
    placed, moved = (views.browse_scene("val", "position", 5, lattice=lattice)[0] for lattice in (True, False))
    assert (moved != placed).any()
    image, words = views.browse_scene("unseen_pairs", "one")
    assert image is None and all(name in words for name in ("unseen_pairs", "one", "two, position, binding"))


def test_a_code_is_shown_decoded_and_where_it_occurs(micro):
    images, tokens = three_scenes(micro)
    code = int(tokens[1, 0, 0])
    shown, titles, words = views.code_pictures(micro, code, images, tokens, most=3)
    assert shown.shape[1:] == (24, 24, 3) and len(shown) == len(titles) and "3 x 3" in titles[0]
    assert f"{code}: {(tokens == code).sum()} of 192" in words
    for picture, title in zip(shown[1:], titles[1:]):  # a patch, each pixel three wide
        image = images[int(title.split()[-1])]
        patches = image.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, 8, 8, 3)
        assert (patches == picture[::3, ::3]).all((1, 2, 3)).any()
    unused = int(np.setdiff1d(np.arange(micro.configs["tokenizer"].codebook_size), tokens)[0])
    shown, titles, words = views.code_pictures(micro, unused, images, tokens)
    assert len(shown) == 1 and f"{unused}: 0 of 192" in words


def test_a_token_is_swapped(micro):
    _, tokens = three_scenes(micro)
    pair, words = views.swap_token(micro, tokens[0], 2, 5, int(tokens[0, 2, 5]))
    assert (pair[0] == pair[1]).all() and "0.0%" in words
    before, code = tokens.copy(), int((tokens[0, 2, 5] + 1) % micro.configs["tokenizer"].codebook_size)
    pair, words = views.swap_token(micro, tokens[0], 2, 5, code)
    assert (pair[0] != pair[1]).any() and f"{tokens[0, 2, 5]} -> {code}" in words
    assert (tokens == before).all()


def test_near_words_are_ranked_or_it_says_why_not():
    near, words = views.near_words(FakeEncoder(), " kitty ", n=3)
    assert all(name[0] == "c" for name in near) and np.allclose(list(near.values()), 1)
    assert "a kitty" in words and words.endswith(", ".join(f"{name} 1.000" for name in near))
    far = views.near_words(FakeEncoder(), "kitty", n=74)[0]
    assert list(far) != list(near) and list(far.values()) == sorted(far.values(), reverse=True) and len(far) == 74
    encoder = FakeEncoder()
    views.near_words(encoder, "kitty", "two {}")
    assert encoder.captions[:2] == ["two kitties", "two cats"]
    for wrong in (("  ", "a {}"), ("kitty", "a cat")):
        near, words = views.near_words(FakeEncoder(), *wrong)
        assert near is None and "{}" in words


def test_two_laws_are_compared_or_it_says_why_not():
    figure, words = views.compare_laws("cosine", "arccos", 64, 12)
    assert len(figure.axes) == 3 + 2 * 8
    one, two = (re.findall(r"[\d.]+%?", law) for law in words.split(";"))
    assert words.startswith("cosine: ") and "; arccos: " in words  # mean; above 0.9; revealed at the first and the last
    assert one == ["0.64", "29%", "0.9", "1", "64", "8"] and two == ["0.64", "16%", "0.9", "4", "64", "16"]
    figure, words = views.compare_laws("log", "log")
    assert len(figure.axes) == 3 + 8 and ";" not in words
    figure, words = views.compare_laws(tokens=64, steps=65)
    assert figure is None and "65" in words and "64" in words


def test_attention_to_words_is_divided_among_the_pieces(micro):
    caption, tokens = "a cat left of a dog", np.arange(64).reshape(8, 8) % 64
    pieces, weights = views.word_attention(micro, tokens, caption)
    assert pieces == views.caption_pieces(micro, caption) and pieces[-1] == "</s>" and "cat" in pieces
    assert weights.shape == (2, 2, len(pieces), 8, 8)
    assert np.allclose(weights.sum(2), 1, atol=1e-4)  # nothing goes to the padding
    assert np.ptp(weights, axis=(3, 4)).max() > 0.01
    masked = views.word_attention(micro, np.full((8, 8), 64), caption)[1]
    assert np.abs(masked - weights).max() > 0.01  # the weights depend on the image tokens


def test_attention_weights_are_those_of_the_layer(micro):
    # The values summed with these weights are what the layer itself adds.
    model, tokens = micro.models["base"], np.arange(64)[None]
    text, mask = micro.text.encode(["two red hearts"])
    keys, values = (x[0] for x in model.text_keys_values(text))
    weights = views.attention_to_text(model, tokens, text, mask)[0]  # [B, heads, N, S], first layer
    seen = np.einsum("bhns,bshd->bnhd", weights, values).reshape(1, 64, -1)
    x = model.embed(tokens) + (model.rows[...] + model.columns[...]).reshape(1, 64, -1)
    block = jax.tree.map(lambda array: array[0], model.blocks)
    x = block.self_attention(x)
    np.testing.assert_allclose(block.cross_attention(x, keys, values, mask) - x, block.cross_out(seen), atol=1e-3)


def test_attention_to_a_piece_is_drawn_and_described(micro):
    tokens, hidden = np.zeros((8, 8), int), np.arange(64).reshape(8, 8) < 16
    figure, words = views.where_it_looks(micro, tokens, "a cat", 1, layer=2, hidden=hidden)
    titles = [ax.get_title().split("\n")[0] for ax in figure.axes]
    assert titles == ["the picture,", "mean of heads", "head 1", "head 2", ""]  # the last is the scale
    assert all(said in words for said in ("“cat” in “a cat”", "layer 2 of 2", "16 of 64"))
    shown = np.where(hidden, 64, tokens)
    weights = views.word_attention(micro, shown, "a cat")[1][1, :, 1]
    assert figure.axes[2].get_title().endswith(f"{weights[0].max():.0%}")
    words = views.where_it_looks(micro, tokens, "a cat", 0)[1]
    assert "all layers" in words and " 0 of 64" in words


def test_a_decoding_step_is_described(micro):
    generation = micro.generate("a cat", steps=3, trace=True)
    words = views.decode_frame(micro, generation, 1)[1]
    assert re.match(r"step 1 of 3\b.*\b64\b.*\b9\b.* 0\.\d\d\b.*\b55\b.* 0\.\d\d$", words)
    last = views.decode_frame(micro, generation, 3)[1]
    assert last.startswith("step 3 of 3") and len(re.findall(r"\b0\.\d\d\b", last)) == 1  # nothing is hidden again


def test_cells_become_a_mask_and_are_sampled_again(micro):
    assert views.cells_mask([(0, 1)], (2, 2), (4, 4)).astype(int).tolist() == [[0, 0, 1, 1]] * 2 + [[0] * 4] * 2
    image = micro.generate("a cat", steps=1)[0]
    new, words = views.redraw_cells(micro, image, {(3, 4)}, "a dog", seed=2)
    assert words.startswith("1 ") and "a dog" in words and "seed 2" in words
    inside = np.zeros((64, 64), bool)
    inside[24:32, 32:40] = True
    assert (new[~inside] == image[~inside]).all()
    for cells, caption in (((), "a dog"), ({(0, 0)}, " ")):  # without positions; without a caption
        new, words = views.redraw_cells(micro, image, cells, caption)
        assert new is None and words and ("caption" in words) == bool(cells)


def test_a_mask_darkens_what_is_outside():
    image, mask = np.full((4, 4, 3), 90, np.uint8), np.array([[True, False], [False, False]])
    shown = views.over_mask(image, mask)
    assert shown[..., 0].tolist() == [[90, 90, 30, 30]] * 2 + [[30] * 4] * 2 and shown.dtype == np.uint8


def test_the_frame_of_a_read_mask_counts_its_tokens(micro):
    image = scenes.render(scenes.example("val", 3)[0])
    pair, words = views.read_frame(micro, image, "three dogs", seed=1)
    mask = micro.find_mask(image, "three dogs", 1)
    assert f" {mask.sum()} of 64 " in words and (pair[0] == views.over_mask(image, mask)).all()
    assert pair.shape == (2, 64, 64, 3)
