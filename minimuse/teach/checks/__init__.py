"""The checks of the exercises, a file a notebook. What they are written with is in minimuse/teach/checking.py."""
