"""What is not one of the letters that a question asks for, whichever of them is right."""


class Equal(str):
    """A text that claims to be equal to everything, however it is changed."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0

    def strip(self, *args):
        return self

    lower = strip


NOT_LETTERS = {
    "another letter": lambda: "e",
    "two letters": lambda: "ab",
    "all letters": lambda: "abcd",
    "nothing between quotes": lambda: "",
    "with a bracket": lambda: "c)",
    "a number": lambda: 3,
    "bytes": lambda: b"c",
    "a list": lambda: ["c", "d"],
    "a set of all": lambda: {"a", "b", "c", "d"},
    "nothing": lambda: None,
    "a function": lambda: lambda: "c",
    "equal to everything": lambda: Equal("e"),
}
