"""Judging a network: what an evaluation keeps of each image, and the page that shows it.

:mod:`.recorder` writes the folder ``details`` during an evaluation, :mod:`.record` reads it, and :mod:`.page` makes one
HTML file of one or several of them. Nothing here needs MXNet or the data set.
"""
