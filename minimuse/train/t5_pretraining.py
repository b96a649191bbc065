"""Pretraining `t5-scenes`: its tokenizer, span corruption, the decoder, and the loss of the stage `text`.

Span corruption is T5's task (arXiv 1910.10683, section 3.1.4): spans of a sentence are replaced by sentinels, and the
decoder writes what each sentinel stands for. To do so the encoder must say what belongs where.

    sentence  a small animal that purrs is called a kitty
    input     a <extra_id_0> animal that purrs is <extra_id_1> kitty </s>
    target    <extra_id_0> small <extra_id_1> called a <extra_id_2> </s>

A few hidden words can often be guessed from their neighbours. So a third of the sentences lose most of their words, in
long spans, as in UL2 (arXiv 2205.05131): then only "kitty" can say that it purrs, just as "cat" does. And a third is
to be continued, as language models do. That was meant to teach who stands on the left in "a cat left of a dog", but it
does not: chapter 04 finds that the vectors of t5-scenes hardly depend on the order of the words.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse import layers
from minimuse.config import T5Config, TrainConfig
from minimuse.data import corpus
from minimuse.data.scenes import fill_frame, sprites
from minimuse.files import write_text
from minimuse.t5 import Stack, T5Encoder, TextEncoder
from minimuse.train.loop import Job
from minimuse.train.step import Loss, make_step

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, END = 0, 1
SENTINELS = 16  # spans that one sentence can lose
INPUT_LENGTH, TARGET_LENGTH = 24, 20  # tokens; one sentence in a thousand is longer, and is cut
# Share of the words hidden and mean length of a span; every sentence draws one pair. T5 has 0.15 and 3.
CORRUPTION = ((0.3, 2.0), (0.6, 6.0))
BREAKS = (".", ":", "?", "▁means")  # after these a sentence says something new about what came before
SCENES = T5Config(vocab_size=0, d_model=192, d_kv=32, d_ff=512, num_layers=4, num_heads=6, num_decoder_layers=2)


# --- the tokenizer --------------------------------------------------------------------------------------------------


def make_tokenizer(pieces: int = 1400, n: int = 30_000, seed: int = 0) -> "Tokenizer":
    """A byte-pair `tokenizers.Tokenizer` trained on n sentences; every frequent word becomes one piece.

    Ids: <pad> 0, </s> 1, <unk> 2, the pieces, 256 bytes (so that no text is unknown), the sentinels; as in T5,
    <extra_id_0> is the last id of all and the others count down from it.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    # T5 has unigram pieces; their training needs a larger corpus than this one, and does not repeat exactly.
    specials = ["<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.BPE())
    clean = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence([*clean, normalizers.Replace(Regex(r"\s+"), " ")])
    punctuation = pre_tokenizers.Punctuation("isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), punctuation])
    letters = [chr(i) for i in range(33, 127) if not chr(i).isupper()]
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=specials, initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator(corpus.sentences(n, seed), trainer)

    learnt = json.loads(tokenizer.to_str())["model"]
    names = sorted(learnt["vocab"], key=learnt["vocab"].get) + [f"<0x{i:02X}>" for i in range(256)]
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(SENTINELS))]
    vocab = {name: i for i, name in enumerate(names + sentinels)}
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer.model = models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True)
    tokenizer.add_special_tokens([*specials, *sentinels])
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", END)]
    )
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: "Tokenizer") -> None:
    """Write tokenizer.json and the tokenizer_config.json that transformers' AutoTokenizer asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    extra = [f"<extra_id_{i}>" for i in range(SENTINELS)]
    about = dict(tokenizer_class="PreTrainedTokenizerFast", pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    about |= dict(additional_special_tokens=extra, model_max_length=512, clean_up_tokenization_spaces=False)
    write_text(folder / "tokenizer_config.json", json.dumps(about, indent=1) + "\n")
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=False))  # last: where it is, the other is too


# --- span corruption ------------------------------------------------------------------------------------------------


def span_corrupt(
    ids: list[int], rng: np.random.Generator, last_id: int, rate: float, mean_span: float
) -> tuple[list[int], list[int]]:
    """Input and target of one sentence.

    ids        the sentence without </s>, at least one token
    last_id    the id of <extra_id_0>; the next sentinels count down from it
    rate       share of the tokens to hide; at least one is
    mean_span  tokens that a span has on average; at least one each
    """
    hidden = min(max(1, round(len(ids) * rate)), len(ids))
    kept = len(ids) - hidden
    spans = min(max(1, round(hidden / mean_span)), kept + 1, SENTINELS - 1)

    def split(total: int, count: int) -> list[int]:
        """`total` as a sum of `count` positive lengths, every way equally likely."""
        cuts = sorted(1 + rng.choice(total - 1, count - 1, replace=False)) if count > 1 else []
        return np.diff([0, *cuts, total]).tolist()

    gaps = split(kept + 2, spans + 1)
    gaps[0], gaps[-1] = gaps[0] - 1, gaps[-1] - 1  # only between two spans must there be a token
    inputs, targets, start = [], [], 0
    for i, (gap, length) in enumerate(zip(gaps, split(hidden, spans))):
        inputs += [*ids[start : start + gap], last_id - i]
        targets += [last_id - i, *ids[start + gap : start + gap + length]]
        start += gap + length
    return [*inputs, *ids[start:], END], [*targets, last_id - spans, END]


def continuation(
    ids: list[int], rng: np.random.Generator, last_id: int, breaks: set[int]
) -> tuple[list[int], list[int]]:
    """A sentence's beginning as input and the rest as target; cut after the first of `breaks`, or anywhere.

    The input has no sentinel. So what the rest needs must be found out at the words themselves, which is how captions
    are read later: a sentinel would gather it for the decoder, and no caption has one.
    """
    found = [i + 1 for i, token in enumerate(ids[:-1]) if token in breaks]
    cut = found[0] if found else int(rng.integers(1, max(2, len(ids))))
    rest = ids[cut:][: TARGET_LENGTH - 3]
    return [*ids[:cut], END], [last_id, *rest, last_id - 1, END]


def text_batch(tokenizer: "Tokenizer", step: int, config: TrainConfig, split: str = "train") -> dict[str, np.ndarray]:
    """Corrupted sentences of one step: inputs int32 [B, INPUT_LENGTH], targets int32 [B, TARGET_LENGTH], padded with 0.

    A pure function of (config.seed, step, split).
    """
    sentences = corpus.sentences(config.batch, f"{config.seed}/{step}", split)
    rng = np.random.default_rng((config.seed, step, corpus.SPLITS.index(split)))
    last_id = tokenizer.get_vocab_size() - 1
    pieces = (tokenizer.token_to_id(piece) for piece in BREAKS)
    breaks = {piece for piece in pieces if piece is not None}
    inputs = np.full((config.batch, INPUT_LENGTH), PAD, np.int32)
    targets = np.full((config.batch, TARGET_LENGTH), PAD, np.int32)
    for row, encoding in enumerate(tokenizer.encode_batch(sentences, add_special_tokens=False)):
        ids, kind = encoding.ids[: INPUT_LENGTH - 2], rng.integers(len(CORRUPTION) + 1)
        if kind < len(CORRUPTION):
            source, target = span_corrupt(ids, rng, last_id, *CORRUPTION[kind])
        else:
            source, target = continuation(ids, rng, last_id, breaks)
        inputs[row, : len(source)], targets[row, : len(target)] = source, target
    return dict(inputs=inputs, targets=targets)


# --- the model ------------------------------------------------------------------------------------------------------


class T5Decoder(nnx.Module):
    """Embedded targets so far and the encoder's output to one vector per target token."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        self.stack = Stack(config, config.num_decoder_layers, decoder=True, rngs=rngs)
        # Queries and keys begin equal, so that a sentinel looks at its twin in the input from the first step on.
        cross = self.stack.layers.cross
        cross.k.kernel = nnx.Param(cross.q.kernel[...] * config.d_kv**0.5)

    def __call__(self, x: jax.Array, source: jax.Array, source_mask: jax.Array) -> jax.Array:
        """x [B, S, D], source [B, Z, D], source_mask bool [B, Z] -> [B, S, D]; no position sees a later one."""
        causal = jnp.tril(jnp.ones((1, 1, x.shape[1], x.shape[1]), bool))
        return self.stack(x, causal, source, source_mask[:, None, None, :])


class T5(nnx.Module):
    """The whole of T5; encoder and decoder share their token vectors."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        self.config = config
        self.encoder = T5Encoder(config, rngs=rngs)
        self.decoder = T5Decoder(config, rngs=rngs)
        if not config.tie_word_embeddings:
            init = nnx.initializers.normal(config.d_model**-0.5)
            self.head = layers.Linear(config.d_model, config.vocab_size, init, rngs=rngs)

    def __call__(self, inputs: jax.Array, mask: jax.Array, targets: jax.Array) -> jax.Array:
        """inputs int [B, Z], mask bool [B, Z], targets int [B, S] -> logits [B, S, vocabulary] of each target token
        from those before it; the first is predicted from <pad>, which starts every target."""
        source = self.encoder(inputs, mask)
        before = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
        x = self.decoder(self.encoder.embed(before), source, mask)
        if self.config.tie_word_embeddings:  # v1.0: the same vectors read and write, so their scale is taken out
            return self.encoder.embed.attend(x * self.config.d_model**-0.5)
        return self.head(x)


def _target_tokens(model: T5, rows: dict, batch: dict) -> tuple[jax.Array, dict, dict]:
    inputs, targets = rows["inputs"], rows["targets"]
    logits = model(inputs, inputs != PAD, targets).astype(jnp.float32)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]
    real, count = targets != PAD, jnp.sum(batch["targets"] != PAD)
    right = (jnp.argmax(logits, -1) == targets) & real
    return -jnp.sum(log_p * real) / count, dict(accuracy=jnp.sum(right) / count), {}


# The spans are drawn with the batch.
pretrain_loss = Loss(lambda key, batch: batch, _target_tokens)
"""(model, key, batch) -> (loss, metrics): cross-entropy of the target tokens, in nats per token, on a batch of
`text_batch`."""


def held_out_loss(model: T5, tokenizer: "Tokenizer", config: TrainConfig, batches: int = 8) -> dict[str, float]:
    """Mean loss and accuracy on sentences that no training step sees."""
    step = jax.jit(pretrain_loss)
    rows = [step(model, None, text_batch(tokenizer, i, config, "val")) for i in range(batches)]
    return dict(
        loss=float(np.mean([loss for loss, _ in rows])),
        accuracy=float(np.mean([metrics["accuracy"] for _, metrics in rows])),
    )


def nearest_names(encoder: TextEncoder, frame: str = "a {}") -> dict[str, tuple[str, str]]:
    """Whether synonyms stand near their names: {synonym: (its sprite's name, the name that its vector is nearest to)}.

    A caption's vector is the mean of its tokens'; near is by angle, among the names of all sprites.
    """
    names = list(sprites())
    pairs = [(synonym, sprite.name) for sprite in sprites().values() for synonym in sprite.synonyms]
    vectors = encoder.directions([fill_frame(frame, word) for word in (*names, *(synonym for synonym, _ in pairs))])
    nearest = (vectors[len(names) :] @ vectors[: len(names)].T).argmax(-1)
    return {synonym: (name, names[i]) for (synonym, name), i in zip(pairs, nearest)}


def text_job(config: T5Config, train: TrainConfig, tokenizer: "Tokenizer") -> Job:
    """The training of a fresh T5 of these sizes."""
    return Job(
        T5(config, rngs=nnx.Rngs(train.seed)),
        make_step(pretrain_loss, train),
        lambda step: text_batch(tokenizer, step, train),
        about=dict(model=dataclasses.asdict(config)),
    )
