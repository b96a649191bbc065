"""Wrong answers to exercises 14."""

import jax
import jax.numpy as jnp
import numpy as np

stop = jax.lax.stop_gradient

# --- mirrored ---------------------------------------------------------------------------------------------------------


def digits(i, base):
    """The first digit first."""
    found = []
    while i:
        i, digit = divmod(i, base)
        found.insert(0, digit)
    return found


def behind(found, base):
    """Digits behind the point, the first of them first."""
    return sum(digit * base ** -(k + 1) for k, digit in enumerate(found))


def point(i, base):
    return behind(digits(i, base)[::-1], base)


def whole(found, base):
    return sum(digit * base**k for k, digit in enumerate(reversed(found)))


def by_strings(i, base):
    """Only right up to base 10."""
    return sum(int(digit) / base ** (k + 1) for k, digit in enumerate("".join(map(str, digits(i, base)))[::-1]))


def by_text(i, base):
    """By the text of i, mirrored."""
    return float("0." + "".join(map(str, digits(i, base)))[::-1])


def turned_number(i, base):
    """The mirrored number, without its leading zeros, divided by as many places as are left."""
    value = whole(digits(i, base)[::-1], base)
    return value / base ** len(digits(value, base))


def too_early(i, base):
    value, unit = 0.0, 1.0
    while i >= base:
        i, digit = divmod(i, base)
        unit /= base
        value += digit * unit
    return value


def late_unit(i, base):
    value, unit = 0.0, 1.0
    while i:
        i, digit = divmod(i, base)
        value += digit * unit
        unit /= base
    return value


# --- taken_back -------------------------------------------------------------------------------------------------------


def most(known, after):
    return min(1.0, (1 - after) / known) if known else 1.0


def back(p=lambda k, a, s: (a - (1 - s) * k) / (1 - k), greatest=lambda k, a, s: most(k, a)):
    return lambda known, after, sigma: (p(known, after, sigma), greatest(known, after, sigma))


# --- critic_loss ------------------------------------------------------------------------------------------------------


def cross_entropy(x, label):
    return -jnp.where(label, jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(-x))


def critic(
    labels=lambda hidden, wrong: (hidden, wrong), mean=lambda losses, hidden: jnp.mean(losses), loss=cross_entropy
):
    def answer(logits, tokens, real, hidden):
        return jnp.stack([mean(loss(logits, label), hidden) for label in labels(hidden, tokens != real)])

    return answer


def by_probability(x, label, small=0.0):
    p = jax.nn.sigmoid(x)
    return -jnp.where(label, jnp.log(p + small), jnp.log(1 - p + small))


def by_softmax(x, label):
    p = jax.nn.softmax(x)
    return -jnp.log(jnp.where(label, p, 1 - p))


def in_numpy(logits, tokens, real, hidden):
    x, y = np.asarray(logits), np.stack([hidden, np.asarray(tokens) != real])
    return (np.logaddexp(0, x) - x * y).mean((1, 2))


def safe_value_only(x, label):
    """The value is right, the gradient is not finite."""
    exact = jnp.log(1 + jnp.exp(jnp.where(label, -x, x)))
    return jnp.where(jnp.isfinite(exact), exact, jnp.abs(x))


# --- fsq_tokens -------------------------------------------------------------------------------------------------------


def scalar(
    squash=lambda z, half: np.tanh(z) * half,
    rounded=np.round,
    shift=lambda half: half,
    places=lambda levels: np.cumprod([1, *levels[:-1]]),
    half=lambda levels: (levels - 1) / 2,
):
    def answer(z, levels):
        own = half(np.array(levels))
        values = (rounded(squash(z, own)) + shift(own)).astype(int)
        return (values * places(np.array(levels))).sum(-1)

    return answer


def fsq_digits(z, levels):
    half = np.array(levels) // 2
    return np.round(np.tanh(z) * half).astype(int) + half


# --- rotated ----------------------------------------------------------------------------------------------------------


def length(x):
    return jnp.linalg.norm(x, axis=-1, keepdims=True)


def dot(a, b):
    return (a * b).sum(-1, keepdims=True)


def turn(
    z,
    code,
    scale=lambda z, code: length(code) / length(z),
    unit=lambda x: x / length(x),
    middle=lambda x: x / length(x),
    apply=lambda v, r, a, b: v - 2 * dot(r, v) * r + 2 * dot(a, v) * b,
    stop_scale=stop,
    stop_turn=stop,
    stop_code=stop,
):
    """The rotation trick, with a mistake."""
    target = stop_code(code)
    a, b = stop_turn(unit(z)), unit(target)
    return scale(stop_scale(z), target) * apply(z, middle(a + b), a, b)


def by_norm(norm):
    """With another length of an array in place of that of each vector."""
    return turning(unit=lambda x: x / norm(x), middle=lambda x: x / norm(x), scale=lambda z, code: norm(code) / norm(z))


def as_it_is(x):
    return x


def turning(**options):
    return lambda z, code: turn(z, code, **options)


def with_value(gradient):
    """The code going forward; backward the gradient of another function of z and code."""

    def answer(z, code):
        moved = gradient(z, stop(code))
        return moved + stop(code - moved)

    return answer


def leaking(middle=stop, last=stop):
    """One of the places where the direction of z stands is not stopped."""

    def answer(z, code):
        a, b = z / length(z), stop(code / length(code))
        r = (middle(a) + b) / length(middle(a) + b)
        return stop(length(code) / length(z)) * (z - 2 * dot(r, z) * r + 2 * dot(last(a), z) * b)

    return answer


def mirror(z, code):
    """By the mirror between z and the code."""
    a, b = z / length(z), code / length(code)
    v, scale = stop(a - b), stop(length(code) / length(z))
    return scale * (z - 2 * dot(v, z) * v / jnp.maximum(dot(v, v), 1e-12))


def wrong_way(v, r, a, b):
    return v - 2 * dot(r, v) * r + 2 * dot(b, v) * a


def by_numpy(z, code):
    a, b = np.asarray(z), np.asarray(code)
    return code + 0 * (a - b)


def in_the_plane(z, code):
    """By sine and cosine; 0/0 where z and its code are parallel."""
    a, b = stop(z / length(z)), stop(code / length(code))
    cosine = dot(a, b)
    u = (b - cosine * a) / length(b - cosine * a)
    sine = length(b - cosine * a)
    along, across = dot(a, z), dot(u, z)
    moved = z + ((cosine - 1) * along - sine * across) * a + (sine * along + (cosine - 1) * across) * u
    return stop(length(code) / length(z)) * moved


# --- bits -------------------------------------------------------------------------------------------------------------


def bound(
    weigh=lambda n, count: n / count,
    counted=lambda hidden: hidden,
    log=lambda x: x / np.log(2),
    mean=lambda x: x.mean(),
):
    def answer(log_p, hidden):
        cost = -(log(log_p) * counted(hidden)).sum(1)
        return mean(weigh(log_p.shape[1], hidden.sum(1)) * cost)

    return answer


WRONG = {
    "mirrored": {
        "not mirrored": (lambda i, base: behind(digits(i, base), base), "not mirrored"),
        "before the point": (lambda i, base: whole(digits(i, base)[::-1], base), "a whole number"),
        "read as a decimal number": (lambda i, base: behind(digits(i, base)[::-1], 10), "decimal number"),
        "base 10": (lambda i, base: point(i, 10), "in base 10"),
        "base 2": (lambda i, base: point(i, 2), "in base 2, whatever"),
        "the first place worth 1": (late_unit, "times too much"),
        "digits cut in two": (by_strings, "cut into 1 and 1"),
        "a place too far": (lambda i, base: point(i, base) / base, "times too little"),
        "the first digit lost": (too_early, "first digit of i is lost"),
        "zeros lost": (turned_number, "Zeros at the end"),
        "the next point": (lambda i, base: point(i + 1, base), "the point after i"),
        "the point before": (lambda i, base: point(max(i - 1, 0), base), "the point before i"),
        "only the last digit": (lambda i, base: i % base / base, "Only the last digit"),
        "one worth for all places": (lambda i, base: sum(digits(i, base)) / base, "All digits are worth"),
        "places of 1/2, 1/4, 1/6": (
            lambda i, base: sum(d / (base * (k + 1)) for k, d in enumerate(digits(i, base)[::-1])),
            "1 / (2 base)",
        ),
    },
    "taken_back": {
        "without sigma": (back(lambda k, a, s: (a - k) / (1 - k)), "plain sampler"),
        "a share of all": (back(lambda k, a, s: a - (1 - s) * k), "a share of all tokens. Only hidden"),
        "by the known ones": (back(lambda k, a, s: (a - (1 - s) * k) / max(k, 1e-9)), "by the share of known"),
        "by those hidden afterwards": (
            back(lambda k, a, s: (a - (1 - s) * k) / max(1 - a, 1e-9)),
            "hidden after the step",
        ),
        "revealed at once": (
            back(lambda k, a, s: (a - (1 - s) * k) / (1 - (1 - s) * k)),
            "does not reveal again",
        ),
        "sigma and 1 - sigma": (back(lambda k, a, s: (a - s * k) / (1 - k)), "are exchanged"),
        "sigma of all": (back(lambda k, a, s: (a - k + s) / (1 - k)), "σ is taken of all"),
        "the sign of sigma": (back(lambda k, a, s: (a - (1 + s) * k) / (1 - k)), "sign of σ"),
        "only replaced": (back(lambda k, a, s: s * k / (1 - k)), "only replaces"),
        "1 - p": (back(lambda k, a, s: 1 - (a - (1 - s) * k) / (1 - k)), "stays hidden"),
        "exchanged": (lambda k, a, s: back()(k, a, s)[::-1], "order is wrong"),
        "more than 1": (back(greatest=lambda k, a, s: (1 - a) / k if k else 1.0), "more than 1 in some"),
        "always 1": (back(greatest=lambda k, a, s: 1.0), "not every σ"),
        "of the hidden ones": (
            back(greatest=lambda k, a, s: min(1, (1 - a) / (1 - k))),
            "share of the hidden tokens",
        ),
        "of all": (back(greatest=lambda k, a, s: 1 - a), "of all tokens. It should be one"),
        "upside down": (back(greatest=lambda k, a, s: min(1, k / max(1 - a, 1e-9))), "upside down"),
        "as many as are new": (back(greatest=lambda k, a, s: min(1, (a - k) / k) if k else 1.0), "twice as large"),
        "sigma": (back(greatest=lambda k, a, s: s), "the σ that was given"),
        "what is left of it": (back(greatest=lambda k, a, s: most(k, a) - s), "how much greater"),
        "so that p is 0": (back(greatest=lambda k, a, s: 1 - a / k if k else 1.0), "p was set to 0"),
        "0 at the start": (back(greatest=lambda k, a, s: most(k, a) if k else 0.0), "Where nothing is known"),
        "only p": (lambda k, a, s: back()(k, a, s)[0], "two values"),
    },
    "critic_loss": {
        "hidden places only": (
            critic(mean=lambda losses, hidden: (losses * hidden).sum() / hidden.sum()),
            "Only the hidden places count",
        ),
        "hidden places by all": (
            critic(mean=lambda losses, hidden: (losses * hidden).mean()),
            "sum is over the hidden places",
        ),
        "all places by hidden ones": (
            critic(mean=lambda losses, hidden: losses.sum() / hidden.sum()),
            "divided by the number of hidden ones",
        ),
        "a sum": (critic(mean=lambda losses, hidden: losses.sum()), "the sum over all places"),
        "a sum a picture": (critic(mean=lambda losses, hidden: losses.sum(1).mean()), "of a picture are added up"),
        "a loss a picture": (critic(mean=lambda losses, hidden: losses.mean(1)), "a loss for each picture"),
        "1 for real": (critic(lambda hidden, wrong: (~hidden, ~wrong)), "Both labels are turned"),
        "1 for known": (critic(lambda hidden, wrong: (~hidden, wrong)), "The first label is turned"),
        "1 for right": (critic(lambda hidden, wrong: (hidden, ~wrong)), "The second label is turned"),
        "wrong twice": (critic(lambda hidden, wrong: (wrong, wrong)), "Both are the loss with the label `wrong`"),
        "sampled twice": (critic(lambda hidden, wrong: (hidden, hidden)), "Both are the loss with the label `sampled`"),
        "1 where the base was right": (critic(lambda hidden, wrong: (hidden, hidden & ~wrong)), "where it is not"),
        "exchanged": (critic(lambda hidden, wrong: (wrong, hidden)), "order is wrong"),
        "only label 1": (critic(loss=lambda x, y: y * cross_entropy(x, y)), "Only places with label 1"),
        "1 - ln p": (
            critic(loss=lambda x, y: jnp.where(y, cross_entropy(x, 1), -1 - cross_entropy(x, 1))),
            "-(1 - ln p)",
        ),
        "no gradient": (lambda logits, *rest: critic()(stop(logits), *rest), "no gradient reaches the logits"),
        "no sign": (critic(loss=lambda x, y: -cross_entropy(x, y)), "The sign is missing"),
        "bits": (critic(loss=lambda x, y: cross_entropy(x, y) / jnp.log(2)), "Those are bits"),
        "squared error": (critic(loss=lambda x, y: (jax.nn.sigmoid(x) - y) ** 2), "squared error"),
        "two sigmoids": (critic(loss=lambda x, y: cross_entropy(jax.nn.sigmoid(x), y)), "sigmoid twice"),
        "softmax": (critic(loss=by_softmax), "after a softmax"),
        "overflow": (critic(loss=by_probability), "give inf or nan"),
        "a small number": (critic(loss=lambda x, y: by_probability(x, y, 1e-7)), "small number inside"),
        "limited logits": (critic(loss=lambda x, y: cross_entropy(jnp.clip(x, -30, 30), y)), "a limit on the logits"),
        "a gradient of nan": (critic(loss=safe_value_only), "the gradient is nan"),
        "one loss": (lambda *args: critic()(*args)[0], "return shape [2]"),
        "numpy": (in_numpy, "cannot compile"),
    },
    "fsq_tokens": {
        "the first digit first": (
            scalar(places=lambda levels: np.cumprod([1, *levels[:0:-1]])[::-1]),
            "It is the last",
        ),
        "places too large": (scalar(places=np.cumprod), "including its own"),
        "levels for places": (scalar(places=lambda levels: levels), "as much as its own levels"),
        "added up": (scalar(places=np.ones_like), "are added up"),
        "powers": (scalar(places=lambda levels: levels[0] ** np.arange(len(levels))), "powers of the first"),
        "negative digits": (scalar(shift=lambda half: 0), "half of them are negative"),
        "from 1": (scalar(shift=lambda half: half + 1), "begin at 1"),
        "L / 2": (
            scalar(squash=lambda z, half: np.tanh(z) * (half + 0.5)),
            "rounding passes its ends",
        ),
        "L - 1": (scalar(squash=lambda z, half: np.tanh(z) * 2 * half), "twice too wide"),
        "rounded down": (scalar(rounded=np.floor), "rounded down"),
        "rounded up": (scalar(rounded=np.ceil), "rounded up"),
        "tokens from 1": (lambda z, levels: scalar()(z, levels) + 1, "The tokens begin at 1"),
        "the largest range for all": (
            scalar(half=lambda levels: np.full(len(levels), (max(levels) - 1) / 2)),
            "the range of the largest",
        ),
        "cut off by int": (scalar(rounded=lambda x: x.astype(int)), "towards 0"),
        "clipped": (scalar(squash=lambda z, half: np.clip(z, -half, half)), "without tanh"),
        "clipped to 1": (scalar(squash=lambda z, half: np.clip(z, -1, 1) * half), "cut off at -1 and 1"),
        "sigmoid": (scalar(squash=lambda z, half: (2 / (1 + np.exp(-z)) - 1) * half), "tanh(z / 2)"),
        "rounded first": (scalar(squash=lambda z, half: np.tanh(np.round(z)) * half), "before it is squashed"),
        "rounded in between": (scalar(squash=lambda z, half: np.round(np.tanh(z)) * half), "before it is multiplied"),
        "the first range for all": (
            scalar(half=lambda levels: np.full(len(levels), (levels[0] - 1) / 2)),
            "the range of the first",
        ),
        "digits": (fsq_digits, "returned the digits"),
        "rounded values": (lambda z, levels: fsq_digits(z, levels) - np.array(levels) // 2, "the rounded values"),
        "floats": (lambda z, levels: scalar()(z, levels).astype(float), "return ints"),
    },
    "rotated": {
        "z": (lambda z, code: z, "The value is z"),
        "not scaled": (turning(scale=lambda z, code: 1.0), "the length of z"),
        "not rotated": (lambda z, code: stop(length(code) / length(z)) * z, "the direction of z"),
        "the scale upside down": (turning(scale=lambda z, code: length(z) / length(code)), "scale is upside down"),
        "the wrong way": (turning(apply=wrong_way), "away from the code"),
        "no last term": (turning(apply=lambda v, r, a, b: v - 2 * dot(r, v) * r), "minus the code"),
        "r not of length 1": (turning(middle=as_it_is), "r is not of length 1"),
        "z for its direction": (turning(unit=as_it_is), "their directions belong"),
        "no first 2": (turning(apply=lambda v, r, a, b: v - dot(r, v) * r + 2 * dot(a, v) * b), "2 of the first term"),
        "no last 2": (turning(apply=lambda v, r, a, b: v - 2 * dot(r, v) * r + dot(a, v) * b), "2 of the last term"),
        "only the last term": (turning(apply=lambda v, r, a, b: 2 * dot(a, v) * b), "twice the code"),
        "one length for all": (
            turning(scale=lambda z, code: jnp.linalg.norm(code) / jnp.linalg.norm(z)),
            "in the scale are those of the whole",
        ),
        "all lengths of all": (by_norm(jnp.linalg.norm), "The lengths are those of the whole"),
        "the first axis": (by_norm(lambda x: jnp.linalg.norm(x, axis=0, keepdims=True)), "over the first axis"),
        "of length 1": (turning(scale=lambda z, code: 1 / length(z)), "has length 1"),
        "squared lengths": (turning(scale=lambda z, code: dot(code, code) / dot(z, z)), "are squared"),
        "one turn for all": (
            lambda z, code: turn(z.reshape(-1), code.reshape(-1)).reshape(z.shape),
            "as one long vector",
        ),
        "straight-through": (lambda z, code: z + stop(code - z), "straight-through"),
        "code": (lambda z, code: code, "no gradient reaches z"),
        "nothing stopped": (turning(stop_scale=as_it_is, stop_turn=as_it_is), "no gradient reaches z"),
        "all stopped": (lambda z, code: stop(turn(z, code)), "no gradient reaches z"),
        "the transpose forgotten": (with_value(turning(apply=wrong_way)), "turned the wrong way"),
        "the gradient not scaled": (with_value(turning(scale=lambda z, code: 1.0)), "and not scaled"),
        "the gradient not turned": (
            with_value(lambda z, code: stop(length(code) / length(z)) * z),
            "scaled and not turned",
        ),
        "the gradient divided": (
            with_value(turning(scale=lambda z, code: length(z) / length(code))),
            "divided by |code| / |z|",
        ),
        "the scale not stopped": (turning(stop_scale=as_it_is), "also goes through the scale"),
        "the rotation not stopped": (turning(stop_turn=as_it_is), "also goes through the rotation"),
        "r not stopped": (leaking(middle=as_it_is), "also goes through the rotation"),
        "a mirror": (with_value(mirror), "is mirrored"),
        "a gradient for both": (turning(stop_code=as_it_is), "gets one as well"),
        "nan where parallel": (in_the_plane, "in the direction of its code"),
        "numpy": (by_numpy, "cannot take a gradient"),
    },
    "bits": {
        "nats": (bound(log=lambda x: x), "nats"),
        "times ln 2": (bound(log=lambda x: x * np.log(2)), "multiplies by ln 2"),
        "base 10": (bound(log=lambda x: x / np.log(10)), "base 10"),
        "no sign": (lambda *args: -bound()(*args), "The sign is missing"),
        "no factor": (bound(lambda n, count: 1), "factor N / n is missing"),
        "a mean of the hidden": (bound(lambda n, count: 1 / count), "cost per token"),
        "by N": (bound(lambda n, count: 1 / n), "divided by N"),
        "times N": (bound(lambda n, count: n), "not divided by the number of hidden"),
        "S for N": (bound(lambda n, count: len(count) / count), "number of samples, the first axis"),
        "n / N": (bound(lambda n, count: count / n), "upside down"),
        "all tokens": (bound(counted=lambda hidden: 1), "known tokens are added up, too"),
        "known tokens": (bound(counted=lambda hidden: ~hidden), "The hidden ones count"),
        "one mean of all": (
            lambda log_p, hidden: -log_p[hidden].mean() * log_p.shape[1] / np.log(2),
            "put together",
        ),
        "a sum": (bound(mean=np.sum), "sum over samples"),
        "the median": (bound(mean=np.median), "median"),
        "the smallest": (bound(mean=np.min), "smallest"),
        "a number a sample": (bound(mean=lambda x: x), "a number for each sample"),
        "one sample": (bound(mean=lambda x: x[0]), "Only the first sample"),
    },
}


def by_a_float(i, base):
    """Only right for numbers of up to two digits."""
    return i % base / base + i // base % base / base**2


def one_round(k, a, s):
    """What is missing is divided by all hidden tokens, rounded to two digits."""
    return round((a - (1 - s) * k) / (1 - k), 2), most(k, a)


REFUSED = {
    "mirrored": {
        "two digits": by_a_float,
        "as a decimal text": by_text,
        "upside down": lambda i, base: 1 - point(i, base),
        "in float16": lambda i, base: np.float16(point(i, base)),
        "a fraction in a text": lambda i, base: str(point(i, base)),
        "the digits": lambda i, base: digits(i, base)[::-1],
        "both coordinates": lambda i, base: (point(i, 2), point(i, 3)),
        "a row of a grid": lambda i, base: int(point(i, base) * 8),
        "never 0": lambda i, base: point(i, base) or 1.0,
        "base - 1": lambda i, base: behind(digits(i, base)[::-1], base + 1),
        "the log for the length": lambda i, base: whole(digits(i, base)[::-1], base) / base ** int(np.log(i + 1)),
    },
    "taken_back": {
        "rounded": one_round,
        "exchanged in a dictionary": lambda k, a, s: dict(p=back()(k, a, s)[0], greatest=most(k, a)),
        "squared": back(lambda k, a, s: ((a - (1 - s) * k) / (1 - k)) ** 2),
        "limited to 1/2": back(lambda k, a, s: min(0.5, (a - (1 - s) * k) / (1 - k))),
        "percent": lambda k, a, s: [100 * x for x in back()(k, a, s)],
        "the greatest at sigma": back(greatest=lambda k, a, s: max(s, most(k, a) - 0.01)),
        "min with known": back(greatest=lambda k, a, s: min(k, most(k, a))),
        "after by known": back(greatest=lambda k, a, s: min(1, a / k) if k else 1.0),
        "integers": lambda k, a, s: [int(x) for x in back()(k, a, s)],
        "divided by 0": lambda k, a, s: (back()(k, a, s)[0], min(1, (1 - a) / k)),
        "one more in a list": lambda k, a, s: [*back()(k, a, s), s],
    },
    "critic_loss": {
        "mean of pictures' hidden": critic(
            mean=lambda losses, hidden: ((losses * hidden).sum(1) / jnp.maximum(1, hidden.sum(1))).mean()
        ),
        "both labels added": lambda *args: critic()(*args).sum() * jnp.ones(2),
        "a mean of both": lambda *args: critic()(*args).mean(),
        "hinge": critic(loss=lambda x, y: jnp.maximum(0, jnp.where(y, 1 - x, 1 + x))),
        "the accuracy": critic(loss=lambda x, y: ((x > 0) == y).astype(float)),
        "focal": critic(loss=lambda x, y: cross_entropy(x, y) * (1 - jnp.exp(-cross_entropy(x, y))) ** 2),
        "the code as a label": lambda logits, tokens, real, hidden: jnp.stack(
            [cross_entropy(logits, hidden).mean(), (cross_entropy(logits, 1) * (tokens - real) != 0).mean()]
        ),
        "the known of the wrong": critic(lambda hidden, wrong: (hidden, wrong | ~hidden)),
        "the first picture": lambda logits, tokens, real, hidden: critic()(
            logits[:1], tokens[:1], real[:1], hidden[:1]
        ),
        "limited at 900": critic(loss=lambda x, y: cross_entropy(jnp.clip(x, -900, 900), y)),
        "with nan_to_num": critic(loss=lambda x, y: jnp.nan_to_num(by_probability(x, y), posinf=1e3)),
        "an if": lambda logits, tokens, real, hidden: critic()(logits, tokens, real, hidden) if hidden.any() else 0,
    },
    "fsq_tokens": {
        "the second last": lambda z, levels: scalar()(z[..., ::-1], levels[::-1]),
        "arctan": scalar(squash=lambda z, half: np.arctan(z) / (np.pi / 2) * half),
        "halves always up, from L/2": scalar(squash=lambda z, half: np.tanh(z) * (half + 0.5) - 0.5),
        "with remainders": lambda z, levels: scalar()(z, levels) % levels[0],
        "flat": lambda z, levels: scalar()(z, levels).ravel(),
        "one axis kept": lambda z, levels: scalar()(z, levels)[..., None],
        "a list of digits": lambda z, levels: fsq_digits(z, levels).tolist(),
        "a bool": lambda z, levels: scalar()(z, levels) > 0,
        "the signs": scalar(squash=lambda z, half: np.sign(z) * half),
        "by rank": lambda z, levels: scalar()(z, levels).argsort(-1) if np.ndim(z) > 1 else scalar()(z, levels),
    },
    "rotated": {
        "half of both": lambda z, code: 0.5 * turn(z, code) + 0.5 * (z + stop(code - z)),
        "the sign of the gradient": with_value(lambda z, code: -turn(z, code)),
        "the gradient twice": with_value(lambda z, code: 2 * turn(z, code)),
        "only close ones": lambda z, code: jnp.where(length(z - code) < 3, turn(z, code), z + stop(code - z)),
        "in two dimensions only": lambda z, code: turn(z, code) if z.shape[-1] == 2 else z + stop(code - z),
        "absolute values": turning(unit=lambda x: x / jnp.abs(x).sum(-1, keepdims=True)),
        "code to z": lambda z, code: turn(code, z),
        "an if": lambda z, code: turn(z, code) if (z != code).any() else code,
    },
    "bits": {
        "the largest": bound(mean=np.max),
        "rounded": lambda *args: round(bound()(*args)),
        "a geometric mean": bound(mean=lambda x: np.exp(np.log(x).mean())),
        "weighed by n": lambda log_p, hidden: np.average(bound(mean=lambda x: x)(log_p, hidden), weights=hidden.sum(1)),
        "the last sample": bound(mean=lambda x: x[-1]),
        "by log1p": bound(log=lambda x: np.log1p(np.exp(x)) / np.log(2)),
        "probabilities": bound(log=np.exp),
        "per token": lambda log_p, hidden: bound()(log_p, hidden) / log_p.shape[1],
        "bytes": lambda *args: bound()(*args) / 8,
        "over positions": lambda log_p, hidden: -(log_p * hidden / np.log(2)).mean(0).sum(),
        "an array of one": lambda *args: np.array([bound()(*args)]),
    },
}


def by_recursion(i, base):
    return 0.0 if i == 0 else (i % base + by_recursion(i // base, base)) / base


def by_reversed_int(i, base):
    found = digits(i, base)
    return np.float64(whole(found[::-1], base) / base ** len(found))


def by_counting(known, after, sigma):
    stays = known * (1 - sigma)
    return np.array([(after - stays) / (1 - known), np.clip((1 - after) / max(known, 1e-12), 0, 1)])


def by_logaddexp(logits, tokens, real, hidden):
    loss = lambda label: jnp.mean(jnp.logaddexp(0, logits) - logits * label)
    return loss(hidden), loss(tokens != real)


def by_softplus(logits, tokens, real, hidden):
    both = [jax.nn.softplus(jnp.where(label, -logits, logits)).mean() for label in (hidden, tokens != real)]
    return jnp.array(both)


def by_the_known_formula(logits, tokens, real, hidden):
    labels = jnp.stack([hidden, hidden & (tokens != real)]).astype(float)
    losses = jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return losses.reshape(2, -1).mean(-1)


def horner(z, levels):
    """From the last entry to the first."""
    token = np.zeros(z.shape[:-1], int)
    for c in reversed(range(len(levels))):
        half = levels[c] // 2
        token = token * levels[c] + np.rint(half * np.tanh(z[..., c])).astype(int) + half
    return token


def by_index(z, levels):
    return np.ravel_multi_index(tuple(np.moveaxis(fsq_digits(z, levels), -1, 0)), levels, order="F")


def with_margin(z, levels):
    """The library's margin, in jnp."""
    half = (jnp.asarray(levels) - 1) / 2
    steps = jnp.round(jnp.tanh(jnp.asarray(z)) * half * 1.001) + half
    return (steps.astype(int) * jnp.cumprod(jnp.array([1, *levels[:-1]]))).sum(-1)


def by_matrices(z, code):
    """M of every vector as a matrix."""
    a, b = (x / length(x) for x in (z, code))
    r = (a + b) / length(a + b)
    outer = lambda x, y: x[..., :, None] * y[..., None, :]
    m = jnp.eye(z.shape[-1]) - 2 * outer(r, r) + 2 * outer(b, a)
    m = stop(m * (length(code) / length(z))[..., None])
    return jnp.einsum("...ij,...j->...i", m, z)


def by_two_mirrors(z, code):
    """Mirrored at right angles to r, which gives minus the code's direction, then at right angles to that."""
    a, b = stop(z / length(z)), stop(code / length(code))
    r = a + b
    once = z - 2 * dot(r, z) / dot(r, r) * r
    return stop(length(code) / length(z)) * (once - 2 * dot(b, once) * b)


@jax.custom_vjp
def by_own_rule(z, code):
    return code


def forward(z, code):
    return code, (z, code)


def backward(kept, g):
    z, code = kept
    a, b = z / length(z), code / length(code)
    r = (a + b) / length(a + b)
    return length(code) / length(z) * (g - 2 * dot(r, g) * r + 2 * dot(b, g) * a), jnp.zeros_like(code)


by_own_rule.defvjp(forward, backward)


def by_rows(log_p, hidden):
    found = [len(row) / where.sum() * -np.log2(np.exp(row[where])).sum() for row, where in zip(log_p, hidden)]
    return sum(found) / len(found)


def by_means(log_p, hidden):
    nats = jnp.mean(jnp.asarray(log_p), 1, where=jnp.asarray(hidden)) * log_p.shape[1]
    return -jnp.mean(nats) / jnp.log(2.0)


UNUSUAL = {
    "mirrored": {"recursion": by_recursion, "a whole number": by_reversed_int, "by digits": point},
    "taken_back": {"an array": by_counting, "a list": lambda k, a, s: [float(x) for x in by_counting(k, a, s)]},
    "critic_loss": {"logaddexp": by_logaddexp, "softplus": by_softplus, "the known formula": by_the_known_formula},
    "fsq_tokens": {"Horner's rule": horner, "an index": by_index, "the library's margin": with_margin},
    "rotated": {
        "matrices": by_matrices,
        "two mirrors": by_two_mirrors,
        "a rule of its own": by_own_rule,
        "the code itself, then": with_value(turn),
        "a direction not stopped": leaking(last=as_it_is),  # ẑ·z is |z|, whose gradient is ẑ in any case
    },
    "bits": {"row by row": by_rows, "means in jnp": by_means},
}
