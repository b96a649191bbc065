"""What people draw with: the commands that draw, their files, sheets and recipes, and the app."""
