# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/minimuse/blob/main/notebooks/14_beyond_muse.ipynb)
#
# # 14 · Beyond Muse
#
# | About this chapter | |
# |---|---|
# | Goal | Try what came after Muse: six ideas, each by hand, then measured at equal work; then teach the model a style |
# | Prerequisites | Python, NumPy, what a derivative is; chapters [05](05_masked_transformer.ipynb) to [08](08_guidance.ipynb), and [02](02_images_as_tokens.ipynb) for section 4 |
# | Time to read | 45 minutes |
# | Time to run | under a minute and a half on two cores (README.md has the measured time); Colab not measured yet |
# | Network | not needed |
# | Paper | none: later work. [Halton, arXiv 2503.17076](https://arxiv.org/abs/2503.17076); [eMIGM, 2503.07197](https://arxiv.org/abs/2503.07197); [ReMDM, 2503.00307](https://arxiv.org/abs/2503.00307); [Token-Critic, 2209.04439](https://arxiv.org/abs/2209.04439); [FSQ, 2309.15505](https://arxiv.org/abs/2309.15505); [MD4, 2406.04329](https://arxiv.org/abs/2406.04329); [guidance interval, 2404.07724](https://arxiv.org/abs/2404.07724); [LoRA, 2106.09685](https://arxiv.org/abs/2106.09685); [StyleDrop, 2306.00983](https://arxiv.org/abs/2306.00983) |
# | Glossary | [terms and symbols](../docs/glossary.md) |
#
# After this chapter you can
#
# - compare samplers at equal work, counted in passes of the transformer,
# - say which tokens a sampler may take back, and which it should,
# - quantize without a codebook,
# - compute an upper bound of what a picture costs in bits, and say what it has to do with the masked loss,
# - adapt a transformer to a style with a few thousand weights.

# %% [markdown]
# ## Setup

# %% tags=["bootstrap"]
# NBVAL_IGNORE_OUTPUT
# Installs minimuse on Colab and leaves Colab's JAX as it is. On your machine, `make lab` installs it.
import importlib.util
import sys

if importlib.util.find_spec("minimuse") is None:
    address = "https://github.com/OWNER/minimuse"
    if "/OWNER/" in address or "google.colab" not in sys.modules:
        raise ModuleNotFoundError("minimuse is not installed: run `make lab`; for Colab, see CONTRIBUTING.md.")
    # %pip install -q "minimuse @ git+{address}@main"
import jax

import minimuse

minimuse.enable_compilation_cache()
print("minimuse", minimuse.__version__, "| jax", jax.__version__, "|", *{d.device_kind for d in jax.devices()})

# %%
import jax
import jax.numpy as jnp
import numpy as np

import minimuse as mm
from minimuse import decoding, masking
from minimuse.beyond import fsq
from minimuse.data import scenes
from minimuse.evaluate import curves
from minimuse.evaluate.metrics import paired_interval
from minimuse.evaluate.likelihood import picture_bits, token_losses
from minimuse.teach import charts, display, figures, orders

# %% [markdown]
# ## Where we are

# %%
display.pipeline()

# %% [markdown]
# The Muse of this course is complete. The paper is from January 2023, and masked transformers have moved on. This
# chapter tries six ideas that came later, and one that came with Muse's users. Each section has the idea by hand, the
# library's function, and one question for the table at the end.
#
# **Equal work.** A sampler that is better and slower is not yet better. The work of decoding is the number of times the
# transformer runs on a picture: a **pass**. A guided step needs two, one with the caption and one without (chapter 08).
# So 12 guided steps are 24 passes, and so are 24 steps without guidance.
#
# ## Predict first
#
# A picture has been decoded in 12 steps. One of its 64 tokens is wrong: a corner of a red square is still background.
# You may run the transformer twice more. **Which tokens do you hide and sample again: (a) those that were the least
# sure when they were sampled, (b) some at random, (c) those that a second network, which sees the finished picture,
# takes for wrong?**
#
# <details>
# <summary>Answer</summary>
#
# (b) hits the corner by luck, and risks 63 good tokens. (a) costs nothing, but the corner may have been sampled when
# little of the square was there, and sure of itself. (c) sees what (a) could not. But it costs a pass to ask, and it
# has to be trained. Section 3 measures whether it pays.
# </details>
#
# ## 1. Order and law
#
# Chapter 07 ended with a better order than the paper's: Halton's, which spreads the positions of one step. And with a
# better law: `exp`, which reveals one or two tokens per step at first. Why should they matter?
#
# The tokens of one step are sampled **without knowing of each other**. Two neighbours that show one edge have to agree,
# and cannot. So a good order keeps neighbours out of the same step, and a good law takes small steps as long as little
# is known. Count the pairs of neighbours that are revealed together, of the 112 in an 8 by 8 grid:


# %%
# NBVAL_CHECK_OUTPUT
def together(step_of):
    """How many pairs of neighbours in int [h, w] have the same number."""
    return int((step_of[1:] == step_of[:-1]).sum() + (step_of[:, 1:] == step_of[:, :-1]).sum())


def steps_of(ranks, law, steps):
    """Turns int [N] -> the step that reveals each position, int [8, 8], counted from 1."""
    left = masking.decode_schedule(steps, ranks.size, law)
    return (1 + (ranks[:, None] >= ranks.size - left).sum(-1)).reshape(8, 8)


turns = {"raster": np.arange(64), "random": np.random.default_rng(0).permutation(64)}
turns["halton"] = decoding.halton_ranks(8, 8)
lines = [f"{'neighbours together':22}" + "".join(f"{f'{steps} steps':>10}" for steps in (4, 8, 12, 24))]
for order, ranks in turns.items():
    for law in ("cosine", "exp"):
        counts = [together(steps_of(ranks, law, steps)) for steps in (4, 8, 12, 24)]
        lines.append(f"{f'{order}, {law}':22}" + "".join(f"{count:10d}" for count in counts))
print("\n".join(lines))
assert (steps_of(turns["halton"], "exp", 12) == orders.revealed_at("halton", "exp", 12)).all()

# %% [markdown]
# Explore it: at which step is each position revealed? Try `raster` with `linear` first, then `halton`. Then move the
# steps to 4: which law has the fewest neighbours together, and at what price?

# %%
# NBVAL_IGNORE_OUTPUT
orders.order_explorer()

# %% [markdown]
# `exp` puts **more** neighbours into one step than the cosine law: its last step reveals 21 tokens of 64. By then, their
# neighbourhood is known, and there is little left to disagree about. Both matter: how many come together, and how much
# they still depend on each other.
#
# ## 2. Taking tokens back
#
# The paper's sampler never takes a token back. ReMDM says how one may, without a change to the training. Let a share
# $\alpha$ of the tokens be known before a step, and $\alpha'$ after it (one minus the mask rates of the schedule). Every
# known token is hidden again with probability $\sigma$. To end at $\alpha'$ all the same, each hidden one has to be
# revealed with
#
# $$ p = \frac{\alpha' - (1 - \sigma)\,\alpha}{1 - \alpha} $$
#
# At $\sigma = 0$ this is the plain sampler. Check it by counting:

# %%
# NBVAL_CHECK_OUTPUT
rng, share = np.random.default_rng(0), 0.5


def remask(known, after, sigma):
    """One step of ReMDM: bool [n] -> bool [n], known before and after it; `after` is the share of the schedule."""
    alpha = known.mean()
    p = (after - (1 - sigma) * alpha) / (1 - alpha)
    assert 0 <= p <= 1, f"sigma {sigma} takes back more than this step can reveal"
    return np.where(known, rng.random(known.shape) >= sigma, rng.random(known.shape) < p)


known = rng.random(100_000) < 0.4
for sigma in (0.0, 0.2, 0.5):
    later = remask(known, 0.5, sigma)
    back, new = (known & ~later).mean(), (~known & later).mean()
    print(f"sigma {sigma:.1f}: {later.mean():.2f} known after the step; taken back {back:.2f}, new {new:.2f}")

# %% [markdown]
# So taking back costs: each step has to reveal more at once. With few steps that outweighs what it mends. ReMDM reports
# on ImageNet: worse than the plain sampler at 16 steps, equal at 32, better at 64.
#
# The library's `revise` does it more thriftily. It takes nothing back while the picture grows. The last passes, when all
# is filled, hide again the tokens whose probability was the lowest **when they were sampled**, and sample them given all
# the others. Which ones does it choose? By hand on six tokens, of which the first was given:

# %%
# NBVAL_CHECK_OUTPUT
probability = jnp.array([[jnp.inf, 0.9, 0.4, 0.99, 0.2, 0.7]])  # a given token is never taken back
print("hidden again:", decoding.hide_least_confident(probability, jnp.array([[2]])).astype(int)[0])
print("how many of 64 in each of three revising passes:", masking.revise_schedule(3, 64))

# %% [markdown]
# ## 3. A token critic
#
# The numbers that `revise` chooses by are old: each was computed when its token was sampled, with most of the picture
# still hidden. A **token critic** looks at the finished picture, and says of every token how likely it is a wrong one.
#
# Where do its training data come from? Nobody has to mark wrong tokens. Hide some tokens of a real picture, and let the
# base fill the places **by sampling**. Now every place has a label: 1 if its token was sampled, 0 if it is real. The critic
# never sees which places were hidden. It is shown only the filled picture and the caption. By hand, for one picture:

# %%
# NBVAL_CHECK_OUTPUT
real = np.array([5, 5, 2, 7, 7, 2])
hidden = np.array([False, True, False, True, True, False])
sampled = np.array([5, 5, 2, 9, 7, 2])  # the base has missed one of three
label = hidden.astype(float)  # Token-Critic's label: sampled or real, even where the sampled token is the true one
logit = np.array([-2.0, -1.0, -2.0, 3.0, -0.5, -2.0])  # what a critic might say: only the fourth token looks odd
loss = np.log1p(np.exp(np.where(label == 1, -logit, logit)))
print("loss at each place:", loss.round(2).tolist(), " mean", round(float(loss.mean()), 2))

# %% [markdown]
# Two of the sampled tokens are right, and yet their label is 1. Is that a mistake? The best a critic can say is how much
# more often such a token was sampled there than it is real. For a token that the base samples exactly as often as it
# occurs, that is as often as places are hidden, whatever the token. What stands out is what the base samples too often.
#
# Ours is one transformer block and a small head **on the frozen base's last vectors**, 480,000 weights
# (`minimuse/beyond/critic.py`; `python -m minimuse train critic`). The base stays as it is, so the critic costs a pass of
# the base each time it is asked. What does it see? Exchange four tokens of real pictures for those of other pictures:

# %%
muse = mm.Muse.from_pretrained("tiny")
base, critic, K = muse.models["base"], muse.models["critic"], muse.configs["base"].codebook_size
examples = [scenes.example("val", i) for i in range(48)]
pixels = scenes.render_batch([scene for scene, _ in examples], 64)
tokens = np.asarray(muse.tokenize(pixels)).reshape(48, 64)
rng, damaged = np.random.default_rng(0), tokens.copy()
for row in range(48):
    differing = np.flatnonzero(tokens[row] != tokens[row - 1])
    places = rng.choice(differing, 4, replace=False)
    damaged[row, places] = tokens[row - 1, places]
text = muse.text.encode([caption for _, caption in examples])
sure = np.asarray(critic.sureness(base, jnp.asarray(damaged), base.condition(text)))
worst = sure.argsort(-1)[:, :4]  # the four least sure of every picture
found = np.mean(np.take_along_axis(damaged != tokens, worst, -1))
print(f"of 4 exchanged tokens in 64, the critic's 4 least sure are {found:.0%}; by chance it would be {4 / 64:.0%}")

# %%
shown = (0, 1, 2)
broken = np.asarray(muse.detokenize(damaged[list(shown)].reshape(-1, 8, 8)))
figure = figures.image_grid(
    np.concatenate([pixels[list(shown)], broken]), ["real"] * 3 + ["four tokens exchanged"] * 3, columns=3
)
display.with_alt(figure, "Three real pictures, and below each the same one with four tokens of another picture.")
figure = charts.heat_map(sure[0].reshape(8, 8), range(1, 9), range(1, 9), digits=0, xlabel="column", ylabel="row")
where = [f"row {p // 8 + 1}, column {p % 8 + 1}" for p in np.flatnonzero(damaged[0] != tokens[0])]
display.with_alt(figure, f"How sure the critic is of each token of the first picture. Exchanged: {'; '.join(where)}.")

# %% [markdown]
# RESULT: what is seen.
#
# `muse.generate(..., revise=4, critic=True)` lets the critic choose what is hidden again. Whether that beats four more
# ordinary passes, the table at the end says.
#
# ## 4. Without a codebook
#
# Chapter 02 fought for its codebook: codes die, restarts revive them, a loss pulls codes and encodings together. **Finite
# scalar quantization** (FSQ) has none of this. The encoder gives a few numbers per position, say four. Each is squashed
# into a range and rounded to one of a few integers: with 8, 5, 5 and 5 of them there are 1,000 tokens. The gradient
# passes the rounding unchanged, as it passed the codebook.

# %%
# NBVAL_CHECK_OUTPUT
levels = (3, 5)  # two numbers: one of three values, one of five


def fsq_round(z):
    """Numbers [..., 2] -> integers from -1 to 1, and from -2 to 2. Both counts are odd, which keeps it simple."""
    half = (np.array(levels) - 1) / 2
    return np.round(np.tanh(z) * half)


def fsq_token(values):
    """Integers [..., 2] -> tokens from 0 to 14: the first is the last digit."""
    digits = values + np.array(levels) // 2
    return (digits * [1, levels[0]]).sum(-1).astype(int)


z = np.array([[0.0, 0.0], [9.0, 9.0], [-9.0, -9.0], [0.2, -0.6]])
print("rounded", fsq_round(z).astype(int).tolist(), "tokens", fsq_token(fsq_round(z)).tolist())
many = np.random.default_rng(0).normal(size=(1000, 2))
assert (np.asarray(fsq.round_through(jnp.asarray(many), levels)) == fsq_round(many)).mean() > 0.99  # but at the borders
assert (np.asarray(fsq.to_tokens(jnp.asarray(fsq_round(many)), levels)) == fsq_token(fsq_round(many))).all()
assert (np.asarray(fsq.from_tokens(jnp.arange(15), levels)) == [[i % 3 - 1, i // 3 - 2] for i in range(15)]).all()

# %% [markdown]
# There is nothing that could die: each token is a cell of a fixed grid, and the encoder learns to spread over it, as
# only pixels are in its loss. `python -m experiments.fsq` trains the same small encoder and decoder three times each
# with a codebook, with a codebook of running means, and with FSQ.

# %%
rows = curves.experiment("fsq")["rows"]
lines = [f"{'':16}{'codes used':>16}{'PSNR, seen':>16}{'PSNR, unseen':>16}{'distance, seen':>16}"]
for arm in dict.fromkeys(row["arm"] for row in rows):
    own = [row for row in rows if row["arm"] == arm]
    cells = [[row["seen"]["usage"] * row["codes"] for row in own]]
    cells += [[row["seen"]["psnr"] for row in own], [row["unseen"]["psnr"] for row in own]]
    cells += [[row["seen"]["frechet_random"] for row in own]]
    said = (f"{np.mean(each):.3g} ± {np.std(each, ddof=1):.2g}" for each in cells)
    lines.append(f"{arm:16}" + "".join(f"{one:>16}" for one in said))
print("\n".join(lines))

# %% [markdown]
# TODO
#
# ## 5. What a picture costs in bits
#
# The masked loss is a number that falls. What does it measure? **Masked diffusion** (MD4) answers: with the right
# weights it is an upper bound of $-\log p(\text{picture} \mid \text{caption})$, the bits that an ideal code needs for it.
#
# Why? Take any order of the N positions. The chain rule gives the picture's probability as a product: each token given
# those before it. That holds for every order, so it holds on average over all of them. In a random order, the token that
# comes at turn k + 1 is a random one of the N - k hidden, given a random set of k known ones. That is what the masked
# loss is trained on. So hide a random number n of tokens, uniform from 1 to N, and take
#
# $$ \frac{N}{n} \sum_{i\ \text{hidden}} -\log_2 p(x_i \mid \text{known}) $$
#
# Its mean is the mean cost over all orders. It is a bound, not the value, since a model need not agree with itself over
# orders. By hand, for two tokens with three values whose joint probabilities are known:

# %%
# NBVAL_CHECK_OUTPUT
joint = np.array([[4, 1, 0], [0, 2, 1], [1, 0, 3]]) / 12  # p(first, second)
first, second = joint.sum(1), joint.sum(0)
cost = -np.log2(joint[0, 1])
both_hidden = -np.log2(first[0]) - np.log2(second[1])  # n = 2: both are hidden
one_hidden = [-np.log2(joint[0, 1] / second[1]), -np.log2(joint[0, 1] / first[0])]  # n = 1: one of the two
estimate = 0.5 * (2 / 2) * both_hidden + 0.5 * (2 / 1) * np.mean(one_hidden)
print(f"-log2 p(0, 1) = {cost:.3f} bits; mean over both orders {estimate:.3f} bits")

# %% [markdown]
# For an exact model the bound is the cost. Now the shipped base, on pictures that it has not seen: with their captions,
# with those of other pictures, and without.

# %%
embeddings, mask = text
texts = {"its caption": (embeddings, mask), "another's caption": (jnp.roll(embeddings, 1, 0), jnp.roll(mask, 1, 0))}
texts["no caption"] = (embeddings, jnp.zeros_like(mask))
keys = jax.random.split(jax.random.key(0), 8)
print(f"64 tokens of {K} codes, all alike: {64 * np.log2(K):.0f} bits")
for name, given in texts.items():
    bits = np.asarray(picture_bits(base, given, jnp.asarray(tokens), keys)).mean(0)
    print(f"{name:18} {bits.mean():6.1f} bits (standard error {bits.std() / np.sqrt(48):.1f})")

# %% [markdown]
# RESULT: what it shows. The caption is worth the difference, in bits; a wrong caption costs more than none.
#
# **The weights.** In the bound, a picture with n hidden tokens counts N / n: few hidden tokens, a large weight. The loss
# of chapter 05 is the mean over all hidden tokens of a batch, so every token counts the same, and a picture with many
# hidden ones counts more. Both have the same minimum for a model that could learn everything. A small model must choose
# what to learn first. eMIGM reports better pictures with equal weights, and MD4 a better bound with its own.
# `python -m experiments.weights` trained small transformers of chapter 06 with either, three seeds each:

# %%
rows = curves.experiment("weights")["rows"]
lines = [f"{'weights, law of the rate':26}{'bits':>16}{'exact, 4 steps':>18}{'exact, 12 steps':>18}"]
for arm in dict.fromkeys(row["arm"] for row in rows):
    own = [row for row in rows if row["arm"] == arm]
    cells = [[row["bits"] for row in own], *([100 * row["steps"][steps]["exact"] for row in own] for steps in ("4", "12"))]
    said = (f"{np.mean(each):.1f} ± {np.std(each, ddof=1):.1f}" for each in cells)
    lines.append(f"{arm:26}" + "".join(f"{one:>{16 if i == 0 else 18}}" for i, one in enumerate(said)))
print("\n".join(lines))

# %% [markdown]
# RESULT.
#
# **Complementary masks.** One estimate looks at some tokens and not at the others. Hide a set, and in a second pass its
# complement: each token is then predicted exactly once. Does that make the mean loss of a batch less noisy, at the same
# number of passes?

# %%
condition, x = base.condition(text), jnp.asarray(tokens)
loss_of = jax.jit(lambda hidden: token_losses(base(jnp.where(hidden, base.mask_id, x), *condition), x) * hidden)
pairs = {"independent": [], "complementary": []}
for trial in range(12):
    first, second = np.random.default_rng(trial).random((2, 48, 64)) < 0.5
    for name, other in (("independent", second), ("complementary", ~first)):
        pairs[name].append(float(loss_of(first).sum() + loss_of(other).sum()) / (first.sum() + other.sum()))
for name, values in pairs.items():
    print(
        f"{name:14} masks: mean loss {np.mean(values):.3f}, standard deviation over 12 pairs {np.std(values, ddof=1):.4f}"
    )

# %% [markdown]
# RESULT.
#
# ## 6. Doing less
#
# The unguided half doubles the work. Is it needed at every step? A **guidance interval** guides some steps only; the other
# steps leave the second half out, so they really cost half (`guided_from`, `guided_to`). With images, diffusion models
# gain by guiding the middle of the noise levels only. Count what an interval costs:

# %%
# NBVAL_CHECK_OUTPUT
for begin, end in ((0.0, 1.0), (0.5, 1.0), (0.0, 0.5), (0.25, 0.75)):
    guided = len(decoding.guided_steps(mm.Sampling(steps=16, guided_from=begin, guided_to=end)))
    print(f"16 steps, guided from {begin:.2f} to {end:.2f}: {guided:2} guided steps, {16 + guided} passes")

# %% [markdown]
# With the ramp of chapter 08, guidance is weak at the early steps. So leaving it out there should change little. It is a
# guess; the table tests it.
#
# ## All of them, at equal work
#
# `python -m experiments.equal_work` drew the same captions with every method, at the price of 4, 8, 12 and 24 guided
# steps. *Exact*, as in chapter 12: every requested fact holds, and nothing else is on the canvas. The bracket is the 95%
# interval of the difference to the paper's sampler (order of confidence, cosine law) at the same price, in points.
# "Distance" is the Fréchet distance on random features, a judge that was in no loss. Seconds are for one picture in a
# batch of 16.

# %%
rows = {row["arm"]: row for row in curves.experiment("equal_work")["rows"]}
bits_of = lambda row, kind: np.array([[int(one) for one in row[split][kind]] for split in ("val", "unseen_pairs")])


def line(budget, name):
    row, paper = rows[f"{budget}: {name}"], rows[f"{budget}: confidence, cosine"]
    text = f"{name:22}"
    for i, split in enumerate(("val", "unseen_pairs")):
        asked, exact, rival = bits_of(row, "asked")[i], bits_of(row, "exact")[i], bits_of(paper, "exact")[i]
        low, high = (100 * end for end in paired_interval(exact, rival))
        text += f"{100 * asked.mean():7.1f}{100 * exact.mean():7.1f} ({low:+5.1f} to {high:+5.1f})"
        text += f"{row[split]['frechet_random']:8.3f}"
    return text + f"{row['seconds']:8.3f}"


head = f"{'asked, exact (interval), distance:':22}{'val':>14}{'unseen_pairs':>40}{'seconds':>28}"
for budget in (4, 8, 12, 24):
    names = [arm.partition(": ")[2] for arm in rows if arm.startswith(f"{budget}: ")]
    print(f"--- {2 * budget} passes: {head}")
    print("\n".join(line(budget, name) for name in names))

# %%
curves_of = {}
for name in ("confidence, cosine", "random, exp", "raster, exp", "halton, exp", "revise", "revise, critic"):
    curves_of[name] = [100 * bits_of(rows[f"{budget}: {name}"], "exact").mean() for budget in (4, 8, 12, 24)]
figure = charts.line_plot([8, 16, 24, 48], curves_of, "passes", "exact, % of both splits")
words = "; ".join(f"{name}: {', '.join(f'{value:.0f}' for value in values)}" for name, values in curves_of.items())
display.with_alt(figure, f"Share of exact pictures at 8, 16, 24 and 48 passes. {words}.")

# %% [markdown]
# RESULT: what is seen here, and what the papers found.
#
# ## A style from a dozen pictures
#
# Users of every image generator ask for one thing more: *draw this in my style*. StyleDrop showed it with Muse. A dozen
# pictures cannot train millions of weights, they would be learned by heart. So leave all weights as they are, and add to
# some matrices W a product of two thin ones, **LoRA**:
#
# $$ W' = W + \frac{\alpha}{r} A B, \qquad A: d \times r, \quad B: r \times d $$
#
# B begins at zero, so training begins with the model as it was. How few weights is that?

# %%
# NBVAL_CHECK_OUTPUT
d, r = 256, 4
A, B = np.random.default_rng(0).normal(size=(d, r)), np.zeros((r, d))
print(f"W has {d * d:,} weights, A and B together {A.size + B.size:,}: {(A.size + B.size) / (d * d):.1%}")
assert (A @ B == 0).all()  # a new adapter changes nothing
B[:] = 1.0
print("rank of the change:", np.linalg.matrix_rank(A @ B), "at most", r)

# %% [markdown]
# The style here is a sky at sunset behind every scene. Its captions do not name it. `python -m minimuse train style --data
# FOLDER` trains adapters of the attention of both transformers on twelve captioned pictures; `python -m minimuse generate
# "a cat and a dog" --style FOLDER` draws in it, and `--style-strength 0.5` weakens it. What did it cost, what did it give?

# %%
rows = curves.experiment("style")["rows"]
lines = [f"{'':42}{'sky':>8}{'asked':>8}{'exact':>8}{'sky':>10}{'asked':>8}{'exact':>8}"]
for row in rows:
    cells = [row[size][kind] for size in ("64px", "128px") for kind in ("sky", "asked", "exact")]
    lines.append(f"{row['arm']:42}" + "".join(f"{100 * cell:{10 if i == 3 else 8}.1f}" for i, cell in enumerate(cells)))
print("percent of 96 pictures, at 64 px and at 128 px", *lines, sep="\n")
cost = next(row for row in rows if "bytes" in row)
minutes = sum(value for name, value in cost.items() if name.startswith("style") and name.endswith("_seconds")) / 60
print(f"size {cost['bytes'] / 1e6:.2f} MB, training {minutes:.1f} minutes on two cores")

# %% [markdown]
# RESULT, and the strip of pictures.
#
# ## Paper check
#
# RESULT table: section, paper, reported, here.
#
# ## Check yourself
#
# 1. Twelve guided steps, or 16 steps of which the last half is guided: which costs more passes?
#
#    <details>
#    <summary>Answer</summary>
#
#    Neither: 12 · 2 = 24, and 8 + 8 · 2 = 24.
#    </details>
#
# 2. Why does raster order with a fast law suffer most at few steps?
#
#    <details>
#    <summary>Answer</summary>
#
#    What it reveals together is a stretch of a row: neighbours, which depend on each other most.
#    </details>
#
# 3. A critic is trained with the label "sampled". The base samples a token exactly as often as it occurs. What does the
#    best critic say of it?
#
#    <details>
#    <summary>Answer</summary>
#
#    The share of hidden places, whatever the token: nothing about it tells a sampled one from a real one.
#    </details>
#
# 4. FSQ with the levels 7, 5, 5, 5: how many codes, and how many numbers per position?
#
#    <details>
#    <summary>Answer</summary>
#
#    7 · 5 · 5 · 5 = 875 codes; four numbers.
#    </details>
#
# 5. Why is the bound of section 5 a bound, and when is it exact?
#
#    <details>
#    <summary>Answer</summary>
#
#    It is the mean over orders of what the picture costs in each order. The mean of the logarithms is at most the logarithm
#    of the mean. It is exact if all orders give the picture the same probability, as a perfect model would.
#    </details>
#
# 6. An adapter of rank 4 changes a 256 by 256 matrix. Could it turn the matrix into any other?
#
#    <details>
#    <summary>Answer</summary>
#
#    No. The change has rank 4 at most; a change to any other matrix may need rank 256.
#    </details>
#
# [Exercises 14](../exercises/release/ex14_beyond_muse/ex14.ipynb) check themselves.
#
# ## Key takeaways
#
# RESULT.
#
# ## If it failed
#
# - **"There is no experiment ..."**: the data of the repository is missing or older than this chapter. Update the
#   repository, or run the command that the chapter names above the cell.
# - **The critic is missing** (`KeyError: 'critic'`): the checkpoint has none; `python -m minimuse train critic` trains one.
# - **Another number than in the text**: random numbers differ between versions of JAX; the conclusion should not.
