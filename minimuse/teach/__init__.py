"""What teaches rather than draws: the environment doctor (doctor.py)."""
