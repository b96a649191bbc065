"""Wrong answers to the exercises, one file per notebook: WRONG = {function: {mistake: (answer, key words)}}.

Each is a mistake that somebody could make in good faith, and the check must name it: its hint contains the key words,
which are few, so that the rest of the hint can be reworded.
"""
