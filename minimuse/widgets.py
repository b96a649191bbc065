"""Explorers for the notebooks, of sliders and text boxes. Each has a plain function that does the same by itself.

They work with ipywidgets 7.7 and 8. Every control has a label and is reached by Tab; sliders move by the arrow keys and
take a typed number.
"""

from minimuse import plots

_WIDE = {"description_width": "7em"}


def first_picture(muse, prompt: str, guidance: float = 3.0, steps: int = 12, seed: int = 0):
    """Draw one picture: (uint8 [H, W, 3] or None, a sentence that says what was drawn or what to change)."""
    if not isinstance(prompt, str) or not prompt.strip():
        return None, "Type a caption first, for instance: a cat left of a dog on a blue background."
    try:
        image = muse.generate(prompt, n=1, seed=seed, steps=steps, guidance=guidance)[0]
    except ValueError as error:  # minimuse says in words what was wrong
        return None, str(error)
    return image, f"“{prompt.strip()}”, guidance {guidance:g}, {steps} step{'s' * (steps != 1)}, seed {seed}"


def first_pictures(muse, prompt: str = "a cat left of a dog on a blue background"):
    """A caption box and sliders for guidance, steps and seed; the picture below follows. Returns the widget to show.

    The defaults are the checkpoint's own. A change is drawn when the slider is let go or Enter is pressed.
    """
    import ipywidgets
    from IPython.display import clear_output

    tokens = muse.configs["base"].grid[0] * muse.configs["base"].grid[1]

    def control(kind, description, value, **options):
        return kind(
            value=value,
            description=description,
            continuous_update=False,  # draw once, not at every pixel the slider passes
            style=_WIDE,
            layout=ipywidgets.Layout(width="32em", max_width="95%"),
            **options,
        )

    caption = control(ipywidgets.Text, "Caption", prompt, placeholder="a caption")
    guidance = control(ipywidgets.FloatSlider, "Guidance t", muse.sampling.guidance, min=0.0, max=10.0, step=0.5)
    steps = control(ipywidgets.IntSlider, "Steps", muse.sampling.steps[0], min=1, max=min(32, tokens))
    seed = control(ipywidgets.IntSlider, "Seed", 0, min=0, max=99)
    again = ipywidgets.Button(description="Next seed", tooltip="Draw the same caption with the next seed")
    picture = ipywidgets.Output()
    controls = (caption, guidance, steps, seed)

    def draw(_change=None):
        image, words = first_picture(muse, *(one.value for one in controls))
        with picture:
            clear_output(wait=True)
            if image is not None:
                figure = plots.image_grid([image])
                plots.with_alt(figure, f"The picture drawn for {words}.", dpi=120)
            print(words)

    def next_seed(_button):
        seed.value = (seed.value + 1) % (seed.max + 1)

    for one in controls:
        one.observe(draw, names="value")
    again.on_click(next_seed)
    draw()
    return ipywidgets.VBox([caption, guidance, steps, ipywidgets.HBox([seed, again]), picture])
