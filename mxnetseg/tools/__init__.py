"""The commands, one file each; :mod:`.main` runs them."""
