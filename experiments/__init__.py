"""The experiments that the chapters show: each is a command that stores its measurements, most after training small
models.

    python -m experiments.discriminator        chapter 03: a tokenizer before, after and without its second phase
    python -m experiments.mask_rates           chapter 06: fixed against variable mask rates
    python -m experiments.text_encoders        chapter 04: a frozen, a random and a learned text encoder
    python -m experiments.first_transformer    chapter 05: the band of its training run, into data/curves
    python -m experiments.sampling             chapter 07: temperatures, steps, orders, laws of the shipped transformer
    python -m experiments.defaults             chapter 07: orders and laws compared caption by caption
    python -m experiments.race                 chapter 07: parallel decoding and its trained twins, quality against time
    python -m experiments.superres             chapters 09 and 10: steps, temperatures, decoders; against bicubic
    python -m experiments.cascade              chapter 09: a cascade against one transformer for the large grid
    python -m experiments.guidance             chapter 08: guidance scales, with and without the ramp
    python -m experiments.negatives            chapter 08: three ways to say what should not be seen
    python -m experiments.mask_free            chapter 11: editing without a mask
    python -m experiments.mask_reading         chapter 11: a mask read from the caption, against resampling
    python -m experiments.claims               chapter 12: the paper's claims with the shipped weights, three times
    python -m experiments.equal_work           chapter 14: samplers that cost the same number of passes
    python -m experiments.fsq                  chapter 14: a codebook against finite scalar quantization
    python -m experiments.weights              chapter 14: equal weights of the masked loss, or those of the bound
    python -m experiments.style                chapter 14: a style from twelve pictures

The runs of an experiment differ in one thing, its arm, and in their seeds. A command that was stopped continues where
it was; data/experiments/NAME.json keeps the command, the machine, the settings and one row per run.
"""
