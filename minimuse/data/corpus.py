"""The text corpus of `t5-scenes`: English sentences about the sprites, written by rule.

It stands in for the web text of T5. It has more words than the training captions: a sentence about a cat says cat,
kitty or feline with equal probability, so the text encoder can learn from their contexts that these words mean the
same. The split `unseen_words` tests that.
"""

import random
import zlib
from collections.abc import Callable

from minimuse.data.scenes import BACKGROUNDS, INVERSE, NUMBERS, RELATIONS, a, pluralise, sprites
from minimuse.files import as_given

SPLITS = ("train", "val")
MOST_WORDS = 18  # in two sentences one after another
HELD_OUT = 40  # one sentence in this many is held out from training, chosen by its hash
# word: two descriptions that fit "a cat is ...", and what it does.
FACTS = {
    "cat": ("a small animal with whiskers that purrs", "a soft pet that says meow", "purrs on the sofa"),
    "dog": ("a loyal pet that barks", "an animal that wags its tail and fetches sticks", "barks at the postman"),
    "mouse": ("a tiny animal that squeaks", "a very small animal that nibbles cheese", "squeaks in its hole"),
    "rabbit": ("a gentle animal with long ears", "a soft animal that eats carrots", "hops across the meadow"),
    "fox": ("a sly wild animal with a bushy tail", "a clever hunter of the woods", "sneaks around at dusk"),
    "bear": ("a large brown animal that loves honey", "a heavy animal that sleeps all winter", "growls in its cave"),
    "panda": ("a black and white animal from china", "a rare animal that chews bamboo", "chews bamboo all day"),
    "frog": ("a green animal that croaks", "an animal with wet skin that begins as a tadpole", "croaks by the pond"),
    "pig": ("a pink farm animal that grunts", "an animal with a round snout and a curly tail", "rolls in the mud"),
    "lion": ("a great wild animal with a mane", "a mighty animal that rules the savanna", "roars at the pride"),
    "cow": ("a farm animal that gives milk", "a large animal with horns that says moo", "chews grass in the barn"),
    "monkey": ("an animal that swings from branches", "a cheeky animal with clever hands", "swings in the jungle"),
    "chicken": ("a farm bird that lays eggs", "a feathered animal that clucks", "clucks and pecks at corn"),
    "penguin": ("a bird that swims but cannot fly", "a bird in black and white that lives on ice", "waddles on ice"),
    "owl": ("a bird with large round eyes that hoots", "a wise bird that is awake after dark", "hoots after dark"),
    "fish": ("an animal with fins that breathes water", "an animal with scales and gills", "swims in the aquarium"),
    "octopus": ("a sea animal with eight arms", "a soft animal with suckers that squirts ink", "squirts black ink"),
    "butterfly": ("an insect with large bright wings", "an insect that was a caterpillar", "flutters in the garden"),
    "ladybug": ("a tiny insect with spots", "a round insect that eats greenfly", "crawls along a leaf"),
    "turtle": ("a slow animal with a hard shell", "a reptile that hides in its shell", "walks very slowly"),
    "whale": ("a huge animal of the ocean", "the largest animal that lives in the sea", "spouts in the ocean"),
    "apple": ("a crisp fruit that grows in orchards", "a round fruit with a core", "falls in the orchard"),
    "banana": ("a long curved fruit with a peel", "a sweet fruit that grows in bunches", "has a soft peel"),
    "strawberry": ("a sweet fruit with tiny seeds outside", "a soft fruit for jam and cream", "tastes good with cream"),
    "pizza": ("a flat round bread with cheese and tomato", "a dish from italy baked in slices", "comes from italy"),
    "burger": ("a bun with meat and lettuce", "fast food in a bun with ketchup", "is served with fries and ketchup"),
    "ice cream": ("a frozen dessert in a cone", "a cold sweet made of cream and sugar", "melts in the summer heat"),
    "cake": ("a sweet with candles for a birthday", "a baked dessert with icing and layers", "is baked in an oven"),
    "donut": ("a ring of fried dough with icing", "a sweet ring with a hole and sprinkles", "has a hole and sprinkles"),
    "car": ("a vehicle with an engine and four wheels", "a machine that a driver steers", "stops at the petrol station"),
    "bus": ("a long vehicle for many passengers", "a vehicle that stops for passengers", "carries many passengers"),
    "bicycle": ("a vehicle with pedals and a saddle", "a machine with two wheels and a bell", "needs pedals and a chain"),
    "rocket": ("a vehicle that flies into space", "a machine that lifts astronauts into orbit", "lifts off into orbit"),
    "boat": ("a vessel that floats on water", "a craft with a sail and an anchor", "sails into the harbour"),
    "tree": ("a tall plant with a trunk and branches", "a plant of the forest made of wood", "loses its leaves in autumn"),
    "flower": ("a plant with petals that smells sweet", "the part of a plant that bees visit", "opens its petals in spring"),
    "mushroom": ("a fungus with a cap and a stem", "a fungus that grows in damp woods", "grows in the damp woods"),
    "sun": ("the light that warms the earth by day", "the bright light of noon", "rises every morning"),
    "moon": ("the pale light that circles the earth", "the light whose face waxes and wanes", "waxes and wanes"),
    "star": ("a tiny light that twinkles far away", "a point of light with five rays", "twinkles far away"),
    "cactus": ("a desert plant with spines", "a plant that needs little water", "stands in the dry desert"),
    "house": ("a building with a door where people live", "a building with a roof and rooms", "has a door and a roof"),
    "umbrella": ("a thing on a stick that keeps off the rain", "a folding shade", "keeps off the rain"),
    "guitar": ("an instrument that is strummed", "a wooden instrument for songs and chords", "plays songs and chords"),
    "balloon": ("a bag of air or helium for a party", "a thin rubber toy that pops", "floats up and pops"),
    "ball": ("a round toy that is kicked or thrown", "a toy that bounces and scores goals", "bounces into the goal"),
    "heart": ("a shape that stands for love", "a sign of love", "stands for love"),
    "circle": ("a round shape without corners", "a shape like a ring", "has no corners"),
    "square": ("a shape with four equal sides", "a shape with four corners", "has four equal sides"),
    "book": ("a story on paper with pages and a cover", "a thing that is read from page to page", "has pages and a cover"),
}  # fmt: skip
KINDS = {
    "animal": "an animal", "food": "something to eat", "transport": "something to travel with",
    "nature": "something in nature", "thing": "a thing that people make", "shape": "a flat shape",
}  # fmt: skip
SIDES = {"left of": "on the left", "right of": "on the right", "above": "at the top", "below": "at the bottom"}


class Noun:
    """One sprite in a sentence: each mention draws the name or one of its synonyms again."""

    def __init__(self, rng: random.Random, shapes: bool | None = None):
        table = sprites().values()
        shapes = rng.random() < 0.3 if shapes is None else shapes
        self.sprite = rng.choice([s for s in table if (s.category == "shape") == shapes])
        self.rng = rng
        self.facts = FACTS[self.sprite.word]
        self.kind = KINDS[self.sprite.category]

    def bare(self, plural: bool = False) -> str:
        """The noun without its article; a shape has its colour before it."""
        name = self.rng.choice((self.sprite.name, *self.sprite.synonyms))
        if not plural:
            return name
        return self.sprite.plural if name == self.sprite.name else pluralise(name)

    def one(self) -> str:
        """With its article, now and then with a size."""
        size = self.rng.choice(("small ", "large ", "big ", "little ")) if self.rng.random() < 0.08 else ""
        return a(size + self.bare())

    def some(self) -> str:
        """One, or a few with their number."""
        count = self.rng.choice((1, 1, 1, 1, 2, 3, 4))
        return self.one() if count == 1 else f"{NUMBERS[count]} {self.bare(plural=True)}"

    def uncoloured(self) -> str:
        """A shape's noun without its colour."""
        return self.bare().removeprefix(self.sprite.colour + " ")


def _background(rng: random.Random) -> str:
    colour = rng.choice(tuple(BACKGROUNDS))
    return rng.choice((f" on {a(colour)} background", f" against {a(colour)} background", f", {colour} background"))


def _fact(rng: random.Random, noun: Noun) -> str:
    short, long, act = noun.facts
    what = rng.choice((short, long))
    return rng.choice((
        f"{a(noun.bare())} is {what}", f"{a(noun.bare())}, {what}", f"{what} is called {a(noun.bare())}",
        f"the {noun.bare()} {act}", f"{a(noun.bare())} {act}", f"what {act}? {a(noun.bare())}",
        f"{what}: {a(noun.bare())}", f"{a(noun.bare())} is {noun.kind}",
    ))  # fmt: skip


def _definition(rng: random.Random) -> str:
    """One or two facts about the same thing, maybe under two names."""
    noun = Noun(rng)
    facts = [_fact(rng, noun), _fact(rng, noun)]
    both = ". ".join(facts)
    return both if len(both.split()) <= MOST_WORDS else facts[0]


def _synonym(rng: random.Random) -> str:
    """Several words for one thing, next to each other."""
    noun, plural = Noun(rng), rng.random() < 0.3
    one = (lambda: noun.bare(True)) if plural else (lambda: a(noun.bare()))
    verb = "are" if plural else "is"
    return rng.choice((
        f"{one()} {verb} {one()}", f"{one()} {verb} also called {one()}", f"{one()} means {one()}",
        f"{one()}, {one()}, {one()}", f"{one()} or {one()}: {noun.facts[0]}", f"{noun.facts[1]}: {one()}, {one()}",
    ))  # fmt: skip


def _scene(rng: random.Random) -> Callable[[], str]:
    """What one picture shows: a function that words it differently at every call."""
    task = rng.choice(("one", "two", "counting", "counting", "colours", "position", "position"))
    if task == "colours":
        noun = Noun(rng, shapes=True)
        colour = noun.sprite.colour
        shape = lambda: a(noun.uncoloured())
        return lambda: rng.choice((noun.one(), f"{shape()} that is {colour}", f"{shape()} in {colour}"))
    first, second = Noun(rng), Noun(rng)
    if task == "one":
        return lambda: rng.choice((first.one(), f"a picture of {first.one()}", f"there is {first.one()}"))
    if task == "counting":
        count = rng.randrange(1, 5)
        many = lambda: f"{NUMBERS[count]} {first.bare(plural=count > 1)}"
        verb = "is" if count == 1 else "are"
        return lambda: rng.choice((many(), f"a picture of {many()}", f"there {verb} {many()}"))
    if task == "two":
        say = first.some if rng.random() < 0.3 else first.one
        both = lambda: rng.choice((f"{say()} and {second.one()}", f"{second.one()} and {say()}"))
        return lambda: rng.choice((both(), both(), f"a picture of {both()}"))
    relation = rng.choice(RELATIONS)

    def related() -> str:
        one, other, where = rng.choice(((first, second, relation), (second, first, INVERSE[relation])))
        long = f"to the {where}" if where in ("left of", "right of") else f"placed {where}"
        return f"{one.one()} {rng.choice((where, long))} {other.one()}"

    return related


def _caption(rng: random.Random) -> str:
    return _scene(rng)() + (_background(rng) if rng.random() < 0.6 else "")


def _paraphrase(rng: random.Random) -> str:
    """One scene worded twice, with synonyms and inverted relations."""
    say = _scene(rng)
    return f"{say()} means {say()}"


def _reading(rng: random.Random) -> str:
    """Two things, one beside or above the other, and where one of them is: what a caption's reader must infer."""
    nouns, relation = (Noun(rng), Noun(rng)), rng.choice(RELATIONS)
    long = f"to the {relation}" if relation in ("left of", "right of") else f"placed {relation}"
    text = f"{nouns[0].one()} {rng.choice((relation, long))} {nouns[1].one()}"
    noun, side = rng.choice(((nouns[0], SIDES[relation]), (nouns[1], SIDES[INVERSE[relation]])))
    name = noun.uncoloured() if noun.sprite.colour and rng.random() < 0.5 else noun.bare()
    return text + rng.choice((f". the {name} is {side}", f": {side} is {a(name)}", f". what is {side}? {a(name)}"))


def _sentence(rng: random.Random) -> str:
    patterns = (_definition, _synonym, _caption, _paraphrase, _reading)
    return rng.choices(patterns, (25, 20, 10, 15, 30))[0](rng)


def held_out(sentence: str) -> bool:
    """Whether a sentence belongs to the split "val"; no seed puts it into "train"."""
    return zlib.crc32(sentence.encode()) % HELD_OUT == 0


def sentences(n: int, seed: int | str = 0, split: str = "train") -> list[str]:
    """n sentences, lower case; the same arguments always give the same list."""
    if split not in SPLITS:
        raise ValueError(f"There is no split {as_given(split)}; the splits are {', '.join(SPLITS)}.")
    rng = random.Random(f"{split}/{seed}")
    found: list[str] = []
    while len(found) < n:
        sentence = _sentence(rng)
        if held_out(sentence) == (split == "val"):
            found.append(sentence)
    return found
