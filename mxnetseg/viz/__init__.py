"""Images for people: class colours, overlays with legends, training curves, confusion matrices.

Nothing is imported here, so that a command loads only the libraries that it needs: :mod:`.palette` and
:mod:`.overlay` need Pillow and OpenCV, :mod:`.curves` and :mod:`.confusion` need Matplotlib.
"""
