"""Wrong answers to the exercises, a file a notebook: WRONG = {function: {mistake: (answer, words of its hint)}}.

Each is a mistake that somebody could make in good faith, and the check has to name it.
"""
